"""Tasks of the kind `edit`: a module does not do what its folder says, and its test fails."""

from engine.agent.task import Check, task


def unchanged(module: str, expression: str, given: object) -> Check:
    """That an expression leaves the value `given` as it is."""
    lines = (
        f"from {module} import *",
        "def after():",
        f"    given = {given!r}",
        f"    {expression}",
        "    return given",
    )
    return Check(f'assert call("asked:after") == {given!r}', {"asked.py": "\n".join(lines)})


MEDIAN = task(
    "edit-median",
    """The test in test_stats.py fails. Mend stats.py: the median of an even number of values is the
    mean of the two in the middle, the list that is given stays as it is, and no values at all are a
    ValueError.""",
    {
        "stats.py": '''
            """Statistics of a list of numbers."""


            def mean(values):
                return sum(values) / len(values)


            def median(values):
                values.sort()
                return values[len(values) // 2]
            ''',
        "test_stats.py": """
            import unittest

            from stats import median


            class Median(unittest.TestCase):
                def test_even(self):
                    self.assertEqual(median([4, 1, 3, 2]), 2.5)

                def test_order_is_kept(self):
                    values = [3, 1, 2]
                    median(values)
                    self.assertEqual(values, [3, 1, 2])
            """,
    },
    """
    assert call("stats:median", [7, 1, 5, 11]) == 6
    assert call("stats:median", [9, 2, 4]) == 4
    assert call("stats:median", [-1.5]) == -1.5
    assert call("stats:median", [2, 2, 8, 100]) == 5
    assert call("stats:mean", [1, 2, 6]) == 3
    assert error("stats:median", []) == "ValueError"
    """,
    unchanged("stats", "median(given)", [5, 3, 4, 9]),
)
PAGES = task(
    "edit-pages",
    """pages.py cuts a list into pages, and its last page is lost when it is not full. Mend it, so
    that test_pages.py passes. Pages are numbered from 1; a number that there is no page for gives
    an empty list; no items are no pages.""",
    {
        "pages.py": '''
            """A list in pages of a size."""


            def count(items, size):
                return len(items) // size


            def page(items, number, size):
                if number > count(items, size):
                    return []
                first = (number - 1) * size
                return items[first : first + size]
            ''',
        "test_pages.py": """
            import unittest

            from pages import count, page


            class Pages(unittest.TestCase):
                def test_last(self):
                    self.assertEqual(page([1, 2, 3, 4, 5], 3, 2), [5])

                def test_count(self):
                    self.assertEqual(count([1, 2, 3, 4, 5], 2), 3)
            """,
    },
    """
    items = list(range(100, 117))
    for size in (1, 2, 5, 16, 17, 18):
        pages = [items[at:at + size] for at in range(0, len(items), size)]
        assert call("pages:count", items, size) == len(pages)
        for number, expected in enumerate(pages, start=1):
            assert call("pages:page", items, number, size) == expected
        for number in (len(pages) + 1, 0, -1):
            assert call("pages:page", items, number, size) == []
    assert call("pages:count", [], 4) == 0
    assert call("pages:page", [], 1, 4) == []
    """,
)
MERGE = task(
    "edit-merge",
    """settings.merge(base, over) is to merge folders of settings at every depth: where both have a
    dict under a key, these are merged in the same way, and else the value of `over` counts. Neither
    argument may be changed. Now it only merges at the top. Mend settings.py, so that
    test_settings.py passes.""",
    {
        "settings.py": '''
            """Settings as nested dicts."""


            def merge(base, over):
                base.update(over)
                return base
            ''',
        "test_settings.py": """
            import unittest

            from settings import merge


            class Merge(unittest.TestCase):
                def test_depth(self):
                    base = {"log": {"level": "info", "file": None}, "port": 80}
                    found = merge(base, {"log": {"level": "debug"}})
                    self.assertEqual(found["log"], {"level": "debug", "file": None})
                    self.assertEqual(base["log"]["level"], "info")
            """,
    },
    """
    base = {"a": {"b": {"c": 1, "d": 2}, "e": [1]}, "f": 3, "g": {"h": 1}}
    over = {"a": {"b": {"d": 5, "x": 6}}, "f": {"y": 7}, "g": 0}
    merged = {"a": {"b": {"c": 1, "d": 5, "x": 6}, "e": [1]}, "f": {"y": 7}, "g": 0}
    assert call("settings:merge", base, over) == merged
    assert call("settings:merge", {}, {"k": {}}) == {"k": {}}
    assert call("settings:merge", {"k": 1}, {}) == {"k": 1}
    assert call("settings:merge", {"k": {"l": 1}}, {"k": None}) == {"k": None}
    """,
    unchanged("settings", "merge(given, {'a': {'b': 2, 'd': 3}})", {"a": {"b": 1}, "c": 4}),
    unchanged("settings", "merge({'a': {'b': {'c': 0}}}, given)['a']", {"a": {"b": {"d": 1}}}),
)
TAX = task(
    "edit-tax",
    """Prices are in cents. cart.total must take the discount off before it adds the tax, and
    tax.tax must round half a cent up. Now the discount is taken off after the tax, and half a cent
    goes to the even neighbour. Mend both modules of the folder shop; test_shop.py has an
    example.""",
    {
        "shop/__init__.py": "",
        "shop/tax.py": '''
            """Tax in cents."""


            def tax(cents, percent):
                return round(cents * percent / 100)
            ''',
        "shop/cart.py": '''
            """The sum of a cart, in cents."""

            from shop.tax import tax


            def total(prices, percent, discount=0):
                whole = sum(prices)
                return whole + tax(whole, percent) - discount
            ''',
        "test_shop.py": """
            import unittest

            from shop.cart import total
            from shop.tax import tax


            class Shop(unittest.TestCase):
                def test_half_a_cent(self):
                    self.assertEqual(tax(50, 5), 3)

                def test_discount_comes_first(self):
                    self.assertEqual(total([1000, 500], 10, discount=500), 1100)
            """,
    },
    """
    for cents in (10, 30, 50, 70, 90, 110, 33, 47, 1999):
        for percent in (5, 7, 19, 25):
            assert call("shop.tax:tax", cents, percent) == (2 * cents * percent + 100) // 200
    """,
    """
    assert call("shop.cart:total", [1000, 500], 10, 500) == 1100
    assert call("shop.cart:total", [250, 250], 20, discount=100) == 480
    assert call("shop.cart:total", [130], 5) == 137
    assert call("shop.cart:total", [], 19) == 0
    """,
)
TASKS = (MEDIAN, PAGES, MERGE, TAX)
