"""The small tests that the falsifiers of recording run, and what must be said of each.

Text only: a nested pytest of a `SampleProject` is what runs it.
"""

from falsifiers.sample_tests import RATE

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
