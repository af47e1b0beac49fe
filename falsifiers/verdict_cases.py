"""The small tests that the falsifiers of the verdicts run, and what must be said of each.

Text only: a nested pytest of a `SampleProject` is what runs it.
"""

from falsifiers.blocked_cases import SKIPS
from falsifiers.sample_tests import HOLDS, RATE, bound_test

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
