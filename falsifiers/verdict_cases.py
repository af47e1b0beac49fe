"""The small tests that the falsifiers of the verdicts run, and what must be said of each.

Text only: a nested pytest of a `SampleProject` is what runs it.
"""

MARKS = "import unittest\nimport pytest\nfrom pytest import mark\n"

HOLDS = """
@mark.falsifies("F-HOLDS")
def test_holds(observe):
    observe("x", 1)
"""

SKIPS = """
@mark.falsifies("F-MARK")
@mark.skip(reason="marked so")
def test_mark(observe):
    observe("x", 0)

@mark.falsifies("F-SKIPIF")
@mark.skipif(True, reason="marked so")
def test_skipif(observe):
    observe("x", 0)

@mark.falsifies("F-BODY")
def test_body(observe):
    observe("x", 0)
    pytest.skip("in the body")

@pytest.fixture
def absent():
    pytest.skip("in a fixture")

@mark.falsifies("F-FIXTURE")
def test_fixture(observe, absent):
    observe("x", 0)

@mark.falsifies("F-IMPORT")
def test_import(observe):
    pytest.importorskip("no_such_module")
    observe("x", 0)

@mark.falsifies("F-UNITTEST")
def test_unittest(observe):
    observe("x", 0)
    raise unittest.SkipTest("unittest's own")

@mark.falsifies("F-CASE")
class TestCase(unittest.TestCase):
    def test_case(self):
        self.skipTest("unittest's own")

@mark.falsifies("F-SUBTEST")
def test_subtest(observe, subtests):
    observe("x", 0)
    with subtests.test("one"):
        pytest.skip("in a subtest")

@mark.falsifies("F-NORUN")
@mark.xfail(run=False, reason="known to hang")
def test_norun(observe):
    observe("x", 0)
"""

MODULE_SKIP = """
pytest.importorskip("no_such_module")

@mark.falsifies("F-MODULE")
def test_module(observe):
    observe("x", 0)
"""

SKIPPED = ("MARK", "SKIPIF", "BODY", "FIXTURE", "IMPORT", "UNITTEST", "CASE", "SUBTEST", "NORUN")

NEEDS = {
    "F-ENV": {"env": "SAMPLE_NEED"},
    "F-MODULE": {"module": "sample_need"},
    "F-COMMAND": {"command": "sample-need"},
    "F-FILE": {"file": "need.gguf"},
}


def function_of(name):
    return f"test_{name[2:].lower().replace('-', '_')}"


def bound_test(name, cases=0):
    """A test that holds, with so many parameters."""
    parameters = f'@mark.parametrize("n", range({cases}))\n' if cases else ""
    signature = f"def {function_of(name)}(observe{', n' if cases else ''}):"
    return f'\n@mark.falsifies("{name}")\n{parameters}{signature}\n    observe("x", 0)\n'


NOTHING = {
    "no test at all": ({"F-HOLDS": {}}, "", ()),
    "no bound test": ({"F-HOLDS": {}}, "def test_other():\n    pass\n", ()),
    "everything deselected": ({"F-HOLDS": {}}, HOLDS, ("-k", "nothing")),
    "everything blocked": ({"F-BODY": {}}, SKIPS, ()),
    "one unbound": ({"F-HOLDS": {}, "F-UNBOUND": {}}, HOLDS, ()),
    "one dangling": ({"F-HOLDS": {}}, HOLDS + bound_test("F-DANGLING"), ()),
    "one dangling, deselected": (
        {"F-HOLDS": {}},
        HOLDS + bound_test("F-DANGLING"),
        ("-k", "test_holds"),
    ),
}

TOLD = {
    "no test at all": "F-HOLDS: no test is bound to it",
    "no bound test": "F-HOLDS: no test is bound to it",
    "everything deselected": "no falsifier was executed",
    "everything blocked": "no falsifier was executed",
    "one unbound": "F-UNBOUND: no test is bound to it",
    "one dangling": "falsifies F-DANGLING, which no contract declares",
    "one dangling, deselected": "falsifies F-DANGLING, which no contract declares",
}

CASES = """
from hypothesis import HealthCheck, given, settings, strategies

@mark.falsifies("F-BROKEN-BOUND")
def test_broken_bound(observe):
    observe("x", 2)

@mark.falsifies("F-NOT-A-NUMBER")
def test_not_a_number(observe):
    observe("x", float("nan"))

@mark.falsifies("F-ASSERT")
def test_assert(observe):
    observe("x", 0)
    assert 1 + 1 == 3

@mark.falsifies("F-FAIL")
def test_fail(observe):
    observe("x", 0)
    pytest.fail("on purpose")

@mark.falsifies("F-RAISES")
def test_raises(observe):
    observe("x", 0)
    with pytest.raises(ValueError):
        pass

@mark.falsifies("F-SUBTEST")
def test_subtest(observe, subtests):
    observe("x", 0)
    for n in range(3):
        with subtests.test(n=n):
            assert n != 1

@mark.falsifies("F-PROPERTY")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None, database=None, derandomize=True, max_examples=10,
)
@given(n=strategies.integers(0, 9))
def test_property(observe, n):
    observe("x", 0)
    assert n < 0

@mark.falsifies("F-UNITTEST")
class TestCase(unittest.TestCase):
    def test_case(self):
        self.assertEqual(1, 2)

@mark.falsifies("F-GROUP")
def test_group(observe):
    observe("x", 0)
    raise ExceptionGroup("two", [AssertionError("one"), AssertionError("other")])

@mark.falsifies("F-SKIP-AFTER")
def test_skip_after_a_broken_bound(observe):
    observe("x", 2)
    pytest.skip("too late")

@mark.falsifies("F-XFAIL-ASSERT")
@mark.xfail(reason="known")
def test_xfail_assert(observe):
    observe("x", 0)
    assert False

@mark.falsifies("F-XFAIL-STRICT")
@mark.xfail(strict=True, reason="known")
def test_xfail_strict(observe):
    observe("x", 0)
    assert False

@mark.falsifies("F-XFAIL-BOUND")
@mark.xfail(reason="known")
def test_xfail_bound(observe):
    observe("x", 2)

@mark.falsifies("F-RAISED")
def test_raised(observe):
    observe("x", 0)
    raise ValueError("a bug in the test")

@mark.falsifies("F-EXIT")
def test_exit(observe):
    observe("x", 0)
    raise SystemExit(0)

@mark.falsifies("F-XFAIL-RAISED")
@mark.xfail(reason="known")
def test_xfail_raised(observe):
    observe("x", 0)
    raise ValueError("a bug in the test")

@pytest.fixture
def broken():
    assert False, "in the set-up"

@mark.falsifies("F-SETUP")
def test_setup(observe, broken):
    observe("x", 0)

@mark.falsifies("F-XFAIL-SETUP")
@mark.xfail(reason="known")
def test_xfail_setup(observe, broken):
    observe("x", 0)

@pytest.fixture
def leaking():
    yield
    assert False, "in the teardown"

@mark.falsifies("F-TEARDOWN")
def test_teardown(observe, leaking):
    observe("x", 0)

@mark.falsifies("F-WRONG-KIND")
def test_wrong_kind(observe):
    observe("x", "1")

@mark.falsifies("F-UNDECLARED")
def test_undeclared(observe):
    observe("x", 0)
    observe("y", 0)

@mark.falsifies("F-NO-FIXTURE")
def test_no_fixture(observe, no_such_fixture):
    observe("x", 0)

@mark.falsifies("F-UNOBSERVED")
def test_unobserved(observe):
    pass

@mark.falsifies("F-HALF-OBSERVED")
def test_half_observed(observe):
    observe("x", 0)

@mark.falsifies("F-XFAIL-UNOBSERVED")
@mark.xfail(reason="known")
def test_xfail_unobserved(observe):
    pass

@mark.falsifies("F-FEW-TRIALS")
def test_few_trials(observe):
    observe("x", successes=9, trials=10)

@mark.falsifies("F-MANY-TRIALS")
def test_many_trials(observe):
    observe("x", successes=900, trials=1000)

@mark.falsifies("F-XPASS")
@mark.xfail(reason="thought so")
def test_xpass(observe):
    observe("x", 0)
"""

UNCOLLECTABLE = """
import no_such_module

@mark.falsifies("F-UNCOLLECTABLE")
def test_uncollectable(observe):
    observe("x", 0)
"""

EXPECTED = {
    "FALSIFIED": (
        *("BROKEN-BOUND", "NOT-A-NUMBER", "ASSERT", "FAIL", "RAISES", "SUBTEST", "PROPERTY"),
        *("UNITTEST", "GROUP", "SKIP-AFTER", "XFAIL-ASSERT", "XFAIL-STRICT", "XFAIL-BOUND"),
    ),
    "ERROR": (
        *("RAISED", "EXIT", "XFAIL-RAISED", "SETUP", "XFAIL-SETUP", "TEARDOWN", "WRONG-KIND"),
        *("UNDECLARED", "NO-FIXTURE"),
    ),
    "VACUOUS": ("UNOBSERVED", "HALF-OBSERVED", "XFAIL-UNOBSERVED"),
    "INCONCLUSIVE": ("FEW-TRIALS",),
    "CORROBORATED": ("MANY-TRIALS", "XPASS"),
}

VERDICTS = {f"F-{name}": verdict for verdict, names in EXPECTED.items() for name in names}

RATE = {"measures": {"x": {"ge": 0.8, "confidence": 0.95}}}

CLAIMS = dict.fromkeys(VERDICTS, {}) | {
    "F-HALF-OBSERVED": {"measures": {"x": {"le": 1}, "y": {"le": 1}}},
    "F-FEW-TRIALS": RATE,
    "F-MANY-TRIALS": RATE,
}

ALONE = tuple(
    f"F-{name}"
    for name in (
        *("XFAIL-ASSERT", "XFAIL-STRICT", "XFAIL-BOUND", "XFAIL-RAISED", "XFAIL-SETUP"),
        *("XFAIL-UNOBSERVED", "FEW-TRIALS", "UNOBSERVED", "SKIP-AFTER", "XPASS"),
    )
)

SEVERAL = """
@mark.falsifies("F-CASES")
@mark.parametrize("x", [0, 3, 2, 1])
def test_cases(observe, x):
    observe("x", x)

@mark.falsifies("F-FIRST")
@mark.parametrize("x", [2, 0])
def test_first(observe, x):
    observe("x", x)

@mark.falsifies("F-TESTS")
def test_tests_1(observe):
    observe("x", 0)

@mark.falsifies("F-TESTS")
def test_tests_2(observe):
    raise KeyError("a bug")

@mark.falsifies("F-TESTS")
def test_tests_3(observe):
    pass

@mark.falsifies("F-CLASS")
class TestClass:
    def test_one(self, observe):
        observe("x", 0)

    def test_other(self, observe):
        observe("x", 2)

@mark.falsifies("F-SUBTESTS")
def test_subtests(observe, subtests):
    observe("x", 0)
    for n in range(3):
        with subtests.test(n=n):
            assert n != 0

@mark.falsifies("F-CALLS")
def test_calls(observe):
    observe("x", 2)
    observe("x", 0)

@mark.falsifies("F-LOOSE", "F-TIGHT")
def test_two_falsifiers(observe):
    observe("x", 1)

@mark.falsifies("F-LEVELS")
@mark.parametrize(("level", "x"), [("algorithm", 2), ("functional", 0)])
def test_levels(observe, level, x):
    observe.at(level)
    observe("x", x)

@mark.falsifies("F-FILES")
def test_files(observe):
    observe("x", 0)
"""

ELSEWHERE = """
@mark.falsifies("F-FILES")
def test_files(observe):
    pytest.skip("here it is blocked")
"""

WORST = {
    "F-CASES": ("FALSIFIED", 3),
    "F-FIRST": ("FALSIFIED", 2),
    "F-TESTS": ("ERROR", 0),
    "F-CLASS": ("FALSIFIED", 2),
    "F-SUBTESTS": ("FALSIFIED", 0),
    "F-CALLS": ("FALSIFIED", 2),
    "F-LOOSE": ("CORROBORATED", 1),
    "F-TIGHT": ("FALSIFIED", 1),
    "F-FILES": ("BLOCKED", 0),
}

LEVELS = {
    "algorithm": ("FALSIFIED", "FALSIFIED"),
    "functional": ("CORROBORATED", "FALSIFIED"),
}

TIGHT = {"F-TIGHT": {"measures": {"x": {"le": 0}}}}

SEVERAL_CLAIMS = {**dict.fromkeys([*WORST, "F-LEVELS"], {}), **TIGHT}

ATTACHING = """
@mark.falsifies("F-ATTACHES")
def test_attaches(observe):
    observe("x", 1)
    observe.attach(__file__)
    observe.at("runtime", artifact=__file__)
"""

PARTLY = "falsifiers/test_several.py::test_partly"

CRASHES = """
import os

@mark.falsifies("F-DIES")
def test_dies(observe):
    observe("x", 0)
    os._exit(1)

@mark.falsifies("F-ONE-CASE-DIES")
@mark.parametrize("dies", [False, True])
def test_one_case_dies(observe, dies):
    observe("x", 0)
    if dies:
        os._exit(1)

@mark.falsifies("F-OTHERS")
@mark.parametrize("n", range(3))
def test_others(observe, n):
    observe("x", 0)
"""

SELECTABLE = """
from product import double

@mark.falsifies("F-ONE")
def test_one(observe):
    observe("x", 0)

@mark.falsifies("F-CASES")
@mark.parametrize("n", [0, 1])
def test_cases(observe, n):
    observe("x", 0)

@mark.falsifies("F-FAILS")
@mark.parametrize("n", [0, 2])
def test_fails(observe, n):
    observe("x", double(n) - n)

@mark.falsifies("F-AFTER")
def test_after(observe):
    observe("x", 0)
"""

SELECTABLE_TOO = """
@mark.falsifies("F-AFTER")
def test_after(observe):
    observe("x", 0)
"""

BOTH = """
@mark.falsifies("F-HERE", "F-THERE")
def test_both(observe):
    observe("x", 0)
    observe("y", 0)
"""

FILE = "falsifiers/test_selectable.py"

HALVED = "def double(x):\n    return x\n"

SELECTIONS = {
    ("-k", "test_one"): {"F-ONE": "CORROBORATED"},
    ("-k", "test_cases and 0"): {},
    ("--deselect", f"{FILE}::test_cases[1]"): {
        "F-ONE": "CORROBORATED",
        "F-AFTER": "CORROBORATED",
        "F-FAILS": "FALSIFIED",
    },
    (f"{FILE}::test_cases[1]", f"{FILE}::test_one"): {"F-ONE": "CORROBORATED"},
    (FILE, "-k", "not fails"): {"F-ONE": "CORROBORATED", "F-CASES": "CORROBORATED"},
    ("-x",): {"F-ONE": "CORROBORATED", "F-CASES": "CORROBORATED", "F-FAILS": "FALSIFIED"},
    ("--maxfail=1", "-k", "fails or after"): {"F-FAILS": "FALSIFIED"},
    ("--setup-only",): {},
}

SABOTEUR = """
def tripled(plant):
    "Triples."
    plant("product.double", lambda double: lambda x: 3 * x)
"""

REPORTED = """
from product import double

@mark.falsifies("F-KILLS")
def test_kills(observe, subtests):
    with subtests.test("one"):
        assert double(2) == 4
    observe("x", abs(double(1) - 2))

@mark.falsifies("F-FAILS")
@mark.parametrize("n", [0, 1])
def test_fails(observe, n):
    observe("x", 2 * n)

@mark.falsifies("F-SKIPS")
def test_skips(observe):
    pytest.skip("<here> & now")
"""

LONG = "a reason of many words that is longer than one line of eighty columns " * 2

LONG_ID = f"F-FAILS-{'LONG-' * 6}ID"

LONG_MEASURES = {
    "a_measure_with_quite_a_long_name": {"between": [-1000, 1000], "unit": "tokens/s"},
    "text": {"eq": "seen " * 30},
}

LONG_CLAIMS = {
    "F-HOLDS": {"measures": LONG_MEASURES},
    **dict.fromkeys([LONG_ID, "F-SKIPS", "F-VACUOUS", "F-ERROR", "F-UNBOUND"], {}),
    "F-FEW": RATE,
    "F-SURVIVES": {"kills": ["tripled", "absent"]},
}

TABLE_PARTS = (
    *("CORROBORATED", "FALSIFIED", "BLOCKED", "NOT_RUN", "VACUOUS", "ERROR", "INCONCLUSIVE"),
    "123.456 in [-1000, 1000] tokens/s margin 876.544",
    "algorithm PARTIAL_ALGORITHM_LEVEL 0.",
    "1 of 8 corroborated, 1 blocked, 1 not run, 1 inconclusive, 2 vacuous, 1 error, 1 falsified",
    "survived tripled",
    "error absent",
)

LONG_TEST = f"""
@mark.falsifies("F-HOLDS")
def test_holds(observe):
    observe("a_measure_with_quite_a_long_name", 123.456)
    observe("text", "seen " * 30)

@mark.falsifies("{LONG_ID}")
def test_fails(observe):
    assert False, {LONG!r}

@mark.falsifies("F-SKIPS")
def test_skips(observe):
    pytest.skip({LONG!r})

@mark.falsifies("F-VACUOUS")
def test_vacuous():
    pass

@mark.falsifies("F-ERROR")
def test_error():
    raise ValueError({LONG!r})

@mark.falsifies("F-FEW")
def test_few(observe):
    observe("x", successes=9, trials=10)

@mark.falsifies("F-SURVIVES")
def test_survives(observe):
    observe("x", 0)
    __import__("product").double(1)
"""

ORDINARY = """
import pytest

@pytest.fixture
def two():
    yield 2

def test_passes(two, subtests):
    with subtests.test("even"):
        assert two % 2 == 0

@pytest.mark.parametrize("n", [1, 2])
def test_fails(n):
    assert n == 1

@pytest.mark.xfail
def test_xfails():
    assert False

def test_skips():
    pytest.skip("here")

@pytest.fixture
def broken():
    raise OSError("absent")

def test_errors(broken):
    pass
"""

MODULES = """
import json, pathlib, sys

def test_modules():
    pathlib.Path("seen").write_text(json.dumps(sorted(sys.modules)))
"""

PLAIN = """
@mark.falsifies("F-BROKEN")
def test_broken(observe):
    observe("x", 2)

@mark.falsifies("F-UNOBSERVED")
def test_unobserved(observe):
    pass

@mark.falsifies("F-NEEDS")
def test_needs(observe):
    observe("x", 0)

@mark.falsifies("F-DANGLING")
def test_dangling():
    pass

def test_unbound():
    pass
"""

SCALARS = {
    "python_float": ("0.5", 0.5),
    "python_int": ("3", 3),
    "python_bool": ("True", True),
    "python_text": ("'greedy'", "greedy"),
    "numpy_float32": ("numpy.float32(0.5)", 0.5),
    "numpy_int64": ("numpy.int64(3)", 3),
    "numpy_bool": ("numpy.bool_(True)", True),
    "numpy_array": ("numpy.array([0.5])", 0.5),
    "torch_float": ("torch.tensor(0.5, requires_grad=True)", 0.5),
    "torch_bfloat16": ("torch.tensor(0.5, dtype=torch.bfloat16)", 0.5),
    "torch_int": ("torch.tensor([3])", 3),
    "torch_bool": ("torch.tensor([1.0]).isfinite().all()", True),
}

WRONG = {
    "F-TEXT": "'3'",
    "F-BOOL": "True",
    "F-NONE": "None",
    "F-COMPLEX": "1j",
    "F-VECTOR": "torch.tensor([1.0, 2.0])",
    "F-ARRAY": "numpy.zeros(2)",
}


def scalar_test(name, values):
    rows = "".join(f"    observe({measure!r}, {value})\n" for measure, value in values.items())
    return f'\n@mark.falsifies("{name}")\ndef {function_of(name)}(observe):\n{rows}'


FILES = """
from pathlib import Path

@mark.falsifies("F-ATTACHES")
def test_attaches(observe):
    observe("x", 0)
    Path("trace.json").write_bytes(b"[1]\\n")
    observe.attach("trace.json")
    Path("trace.json").write_bytes(b"[2]\\n")
    observe.attach("trace.json", name="second.json")
    Path("trace.json").unlink()

@mark.falsifies("F-RUNTIME")
def test_runtime(observe):
    observe("x", 0)
    observe.at("runtime", artifact="model.gguf")

@mark.falsifies("F-NO-ARTIFACT")
def test_no_artifact(observe):
    observe("x", 0)
    observe.at("runtime")

@mark.falsifies("F-NO-LEVEL")
def test_no_level(observe):
    observe("x", 0)
    observe.at("production")
"""
