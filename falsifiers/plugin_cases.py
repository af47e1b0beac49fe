"""The small tests that the falsifiers of the plugin run, and what must be said of each.

Text only: a nested pytest of a `SampleProject` is what runs it.
"""

from falsifiers.sample_tests import function_of

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
