"""Parts of the small tests that the falsifiers of the plugin run.

Text only: a nested pytest of a `SampleProject` is what runs it.
"""

MARKS = "import unittest\nimport pytest\nfrom pytest import mark\n"

HOLDS = """
@mark.falsifies("F-HOLDS")
def test_holds(observe):
    observe("x", 1)
"""


def function_of(name):
    return f"test_{name[2:].lower().replace('-', '_')}"


def bound_test(name, cases=0):
    """A test that holds, with so many parameters."""
    parameters = f'@mark.parametrize("n", range({cases}))\n' if cases else ""
    signature = f"def {function_of(name)}(observe{', n' if cases else ''}):"
    return f'\n@mark.falsifies("{name}")\n{parameters}{signature}\n    observe("x", 0)\n'


RATE = {"measures": {"x": {"ge": 0.8, "confidence": 0.95}}}
