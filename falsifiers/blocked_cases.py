"""The small tests that are skipped, and the needs that are not met.

Text only: a nested pytest of a `SampleProject` is what runs it.
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
