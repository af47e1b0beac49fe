"""The small tests and saboteurs that the falsifiers of the sabotage runner run.

Text only: a nested pytest of a `SampleProject` is what runs it.
"""

MARKS = "import pytest\nfrom pytest import mark\nimport product\nfrom product import double\n"

PRODUCT = """
CONSTANT = 2

def double(x):
    return 2 * x

def unused(x):
    return x
"""

SABOTEURS = """
def tripled(plant):
    "Triples."
    plant("product.double", lambda double: lambda x: 3 * x)

def raising(plant):
    "Raises."
    def broken(x):
        raise ValueError("under it")
    plant("product.double", lambda double: broken)

def skipping(plant):
    "Makes the test skip."
    import pytest
    plant("product.double", lambda double: lambda x: pytest.skip("under it"))

def unreached(plant):
    "Breaks what nobody calls."
    plant("product.unused", lambda unused: lambda x: None)

def plants_nothing(plant):
    "Does nothing."

def no_such_name(plant):
    "Misses."
    plant("product.no_such_name", lambda original: original)

def no_such_module(plant):
    "Misses."
    plant("no_such_module.double", lambda original: original)

def not_callable(plant):
    "Aims at a number."
    plant("product.CONSTANT", lambda constant: 3)

def raises_itself(plant):
    "Is broken."
    plant("product.double", lambda double: lambda x: 3 * x)
    raise RuntimeError("in the saboteur")

def skips_itself(plant):
    "Is not for this machine."
    import pytest
    plant("product.double", lambda double: lambda x: 3 * x)
    pytest.skip("in the saboteur")

def harmless(plant):
    "Changes nothing."
    plant("product.double", lambda double: double)
"""

NOTICES = """
@mark.falsifies("F-NOTICES")
def test_notices(observe):
    observe("x", abs(double(2) - 4))
"""

MISSES = """
@mark.falsifies("F-MISSES")
def test_misses(observe):
    observe("x", double(2) - double(2))
"""

# Falsifier → its saboteur, and what must become of it.
FATES = {
    "F-BOUND": ("tripled", "killed"),
    "F-ASSERTED": ("tripled", "killed"),
    "F-RAISED": ("raising", "error"),
    "F-SETUP": ("raising", "error"),
    "F-SKIPPED": ("skipping", "survived"),
    "F-SILENT": ("tripled", "survived"),
    "F-HARMLESS": ("harmless", "survived"),
    "F-UNREACHED": ("unreached", "error"),
    "F-NOTHING": ("plants-nothing", "error"),
    "F-UNDEFINED": ("undefined", "error"),
    "F-NO-NAME": ("no-such-name", "error"),
    "F-NO-MODULE": ("no-such-module", "error"),
    "F-CONSTANT": ("not-callable", "error"),
    "F-SABOTEUR": ("raises-itself", "error"),
    "F-SKIPPER": ("skips-itself", "error"),
}

STALLS = [name for name, (_, fate) in FATES.items() if fate == "error"]

ENDS = """
@mark.falsifies("F-BOUND")
def test_bound(observe):
    observe("x", double(1) - 1)

@mark.falsifies("F-ASSERTED")
def test_asserted(observe):
    observe("x", 0)
    assert double(1) == 2

@pytest.fixture
def two():
    return double(1)

@mark.falsifies("F-SETUP")
def test_setup(observe, two):
    observe("x", two - 2)

@mark.falsifies("F-SILENT")
def test_silent(observe):
    if double(1) == 2:
        observe("x", 0)

""" + "\n".join(
    f'@mark.falsifies("{name}")\n'
    f"def test_{name[2:].lower().replace('-', '_')}(observe):\n"
    f'    observe("x", double(1) - 2)\n'
    for name in FATES
    if name not in ("F-BOUND", "F-ASSERTED", "F-SETUP", "F-SILENT")
)

SCOPES = ("F-SESSION", "F-PACKAGE", "F-MODULE", "F-CLASS", "F-FUNCTION")

FIXTURES = """
import pytest
from product import double

@pytest.fixture(scope="session")
def of_session():
    return double(1)

@pytest.fixture(scope="package")
def of_package(of_session):
    return double(1)

@pytest.fixture(scope="module")
def of_module():
    return double(1)

@pytest.fixture(scope="class")
def of_class():
    return double(1)

@pytest.fixture
def of_function():
    return double(1)
"""

CASES = "".join(
    f"""
class Test{name[2:]}:
    @mark.falsifies("{name}")
    def test_it(self, observe, of_{name[2:].lower()}):
        observe("x", of_{name[2:].lower()} - 1)

    @mark.falsifies("F-AFTER")
    def test_after(self, observe, of_{name[2:].lower()}):
        observe("x", 9 * abs(of_{name[2:].lower()} - 2) + 9 * abs(double(1) - 2))
"""
    for name in SCOPES
)

SHOP = """
from functools import cache

def double(x):
    return 2 * x

def twice(x):
    return double(x)

def local(x):
    return 2 * x

@cache
def cached(x):
    return 2 * x

class Base:
    def inherited(self, x):
        return 2 * x

class Till(Base):
    def method(self, x):
        return 2 * x

    @staticmethod
    def static(x):
        return 2 * x

    @classmethod
    def of_class(cls, x):
        return 2 * x

    @property
    def total(self):
        return 2

class Made:
    def __init__(self, x):
        self.x = 2 * x
"""

SHOP_SABOTEURS = """
def off(plant, name):
    plant(f"product.{name}", lambda original: lambda *args: original(*args) + 9)

def off_function(plant):
    "Nine too many."
    off(plant, "double")

def off_cached(plant):
    "Nine too many."
    off(plant, "cached")

def off_method(plant):
    "Nine too many."
    off(plant, "Till.method")

def off_inherited(plant):
    "Nine too many, in the subclass only."
    off(plant, "Till.inherited")

def off_static(plant):
    "Nine too many."
    off(plant, "Till.static")

def off_classmethod(plant):
    "Nine too many."
    off(plant, "Till.of_class")

def off_property(plant):
    "Nine too many."
    off(plant, "Till.total")

def off_class(plant):
    "Makes it with another argument."
    plant("product.Made", lambda made: lambda x: made(x + 9))
"""

USERS = """
from product import Made, double
from product import double as renamed
from product import double as other

aliased = other

def through_import(x):
    return double(x)
"""

# Falsifier → its saboteur, and the expression through which alone it calls what is planted.
PLACES = {
    "F-OWN-MODULE": ("off-function", "product.double(1)"),
    "F-INSIDE": ("off-function", "product.twice(1)"),
    "F-FROM-IMPORT": ("off-function", "users.one.through_import(1)"),
    "F-RENAMED": ("off-function", "users.one.renamed(1)"),
    "F-ALIASED": ("off-function", "users.one.aliased(1)"),
    "F-REEXPORTED": ("off-function", "users.double(1)"),
    "F-TEST-MODULE": ("off-function", "double(1)"),
    "F-FORKED": ("off-function", "in_a_child(product.double, 1)"),
    "F-CACHED": ("off-cached", "product.cached(1)"),
    "F-METHOD": ("off-method", "product.Till().method(1)"),
    "F-INHERITED": ("off-inherited", "product.Till().inherited(1)"),
    "F-STATIC": ("off-static", "product.Till.static(1)"),
    "F-CLASSMETHOD": ("off-classmethod", "product.Till.of_class(1)"),
    "F-PROPERTY": ("off-property", "product.Till().total"),
    "F-CLASS": ("off-class", "users.one.Made(1).x"),
}

REFERENCES = """
import os
import users.one

def in_a_child(function, x):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, str(function(x)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reading, 9))
""" + "".join(
    f'''
@mark.filterwarnings("ignore::DeprecationWarning")
@mark.falsifies("{name}")
def test_{name[2:].lower().replace("-", "_")}(observe):
    observe("x", {call} - 2)
'''
    for name, (_, call) in PLACES.items()
)

RESTORED = """
import users.one

PLACES = [
    *((product, name) for name in ("double", "cached", "Made")),
    *((users.one, name) for name in ("double", "renamed", "other", "aliased", "Made")),
    *((product.Till, name) for name in ("method", "inherited", "static", "of_class", "total")),
    (users, "double"),
]
ORIGINALS = [vars(owner).get(name) for owner, name in PLACES]

@mark.falsifies("F-RESTORED")
def test_restored(observe):
    now = [vars(owner).get(name) for owner, name in PLACES]
    observe("x", sum(a is not b for a, b in zip(now, ORIGINALS, strict=True)))
"""

CLEAN_FIRST = """
import warnings

def note(name):
    with open("runs.txt", "a") as file:
        file.write(f"{name}\\n")

@mark.falsifies("F-HOLDS")
def test_holds(observe, subtests):
    note("F-HOLDS")
    with subtests.test("one"):
        assert double(1) == 2
    if double(1) != 2:
        warnings.warn("under it")
    observe("x", abs(double(1) - 2))

@mark.falsifies("F-BROKEN")
def test_broken(observe):
    note("F-BROKEN")
    observe("x", double(1))

@mark.falsifies("F-SILENT")
def test_silent():
    note("F-SILENT")

@mark.falsifies("F-RAISES")
def test_raises(observe):
    note("F-RAISES")
    raise KeyError("always")

@mark.falsifies("F-SKIPS")
def test_skips(observe):
    note("F-SKIPS")
    pytest.skip("always")
"""

KILLED_BY_CASES = {
    "F-CASES": {"tripled": "killed"},
    "F-TWO-TESTS": {"tripled": "killed"},
    "F-MIXED": {"tripled": "killed"},
    "F-MISSES": {"tripled": "survived"},
    "F-STALLS": {"unreached": "error"},
}

PARALLEL = """
@mark.falsifies("F-CASES")
@mark.parametrize("n", [0, 0, 2, 0])
def test_cases(observe, n):
    observe("x", double(n) - 2 * n)

@mark.falsifies("F-TWO-TESTS")
def test_two_misses(observe):
    observe("x", double(0))

@mark.falsifies("F-TWO-TESTS")
def test_two_notices(observe):
    observe("x", double(2) - 4)

@mark.falsifies("F-MIXED")
@mark.parametrize("n", [1, 2, 3])
def test_mixed(observe, n):
    if double(n) == 3:
        raise ValueError("a bug under it")
    observe("x", double(n) - 2 * n)

@mark.falsifies("F-MISSES")
def test_misses(observe):
    observe("x", double(0))

@mark.falsifies("F-STALLS")
@mark.parametrize("n", [1, 2])
def test_stalls(observe, n):
    observe("x", double(n) - 2 * n)
"""
