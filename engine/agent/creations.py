"""Tasks of the kind `module`: a module is not there, and a text says what it has to do."""

from engine.agent.task import Check, task, texts

SLUG = task(
    "module-slug",
    """Create slug.py as README.md describes it; test_slug.py has examples.""",
    {
        "README.md": """
            # slug

            `slug.slugify(text, limit=None)` makes a name for a URL of a title:

            - letters a to z and digits stay, capital letters become small ones;
            - every run of other characters becomes one `-`, and there is none at either end;
            - with a limit the name has at most that many characters, and does not end in `-`.
            """,
        "test_slug.py": """
            import unittest

            from slug import slugify


            class Slug(unittest.TestCase):
                def test_title(self):
                    self.assertEqual(slugify("Hello, World!"), "hello-world")

                def test_limit(self):
                    self.assertEqual(slugify("one two three", limit=8), "one-two")
            """,
    },
    """
    import random, re
    assert call("slug:slugify", "Hello, World!") == "hello-world"
    assert call("slug:slugify", "  --A  b__C9 ") == "a-b-c9"
    assert call("slug:slugify", "!!!") == ""
    assert call("slug:slugify", "one two three", limit=8) == "one-two"
    assert call("slug:slugify", "abc", limit=2) == "ab"
    for _ in range(20):
        title = "".join(random.choices("aZ09 -_,", k=12))
        slug = re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")
        limit = random.randint(1, 12)
        assert call("slug:slugify", title) == slug
        assert call("slug:slugify", title, limit=limit) == slug[:limit].strip("-")
    """,
)
DURATION = task(
    "module-duration",
    """Create duration.py with the two functions that NOTES.txt asks for.""",
    {
        "NOTES.txt": """
            seconds(text): the number of seconds in a text such as "1h30m", "45s", "2h" or "1h5s".
            Units are h, m and s, each at most once and in this order, each after a whole number.
            Anything else, and the empty text, is a ValueError.

            text(seconds): the other way round, with as few units as will do: text(3665) is
            "1h1m5s", text(7200) is "2h", text(0) is "0s". Minutes and seconds are below 60.
            """,
    },
    """
    for text, expected in {"1h30m": 5400, "45s": 45, "2h": 7200, "1h5s": 3605, "90m": 5400,
                           "0s": 0, "10h0m7s": 36007}.items():
        assert call("duration:seconds", text) == expected
    for text in ("", "5", "m", "1m1h", "1h1h", "1.5h", "1h 5s", "-1s", "1d", "h1"):
        assert error("duration:seconds", text) == "ValueError", text
    """,
    """
    import random
    for number, expected in {3665: "1h1m5s", 7200: "2h", 0: "0s", 59: "59s", 3600: "1h", 61: "1m1s",
                             3601: "1h1s", 360000: "100h"}.items():
        assert call("duration:text", number) == expected
    for _ in range(20):
        number = random.randint(1, 100_000)
        assert call("duration:seconds", call("duration:text", number)) == number
    """,
)
ORDER = task(
    "module-order",
    """Create order.py with a function order(needs). `needs` is a dict from a task's name to the
    list of names that have to be done before it. The function gives all names, those that are only
    needed by others included, each once and after all that it needs; where several could come next,
    it takes the one that is first in the alphabet. A cycle is a ValueError. main.py shows how it is
    used.""",
    {
        "main.py": """
            from order import order

            for name in order({"serve": ["cook", "lay"], "cook": ["buy"], "lay": []}):
                print(name)
            """,
    },
    """
    assert call("order:order", {"serve": ["cook", "lay"], "cook": ["buy"], "lay": []}) == [
        "buy", "cook", "lay", "serve"]
    assert call("order:order", {}) == []
    assert call("order:order", {"b": ["z"], "a": []}) == ["a", "z", "b"]
    assert call("order:order", {"d": ["b", "c"], "b": ["a"], "c": ["a"]}) == ["a", "b", "c", "d"]
    assert call("order:order", {"a": ["c"], "b": []}) == ["b", "c", "a"]
    longer = {"x": [], "a": ["b"], "b": ["c"], "c": ["a"]}
    for cycle in ({"a": ["b"], "b": ["a"]}, {"a": ["a"]}, longer):
        assert error("order:order", cycle) == "ValueError"
    """,
)
REPLAY = '''
    """Plays a list of steps on a cache: a pair is put, anything else is got."""

    from lru import Cache


    def replay(capacity, steps):
        cache, got = Cache(capacity), []
        for step in steps:
            if isinstance(step, (list, tuple)):
                cache.put(*step)
            else:
                got.append(cache.get(step))
        return got, list(cache.keys())


    if __name__ == "__main__":
        print(replay(2, [("a", 1), ("b", 2), "a", ("c", 3), "b"]))
    '''
CACHE = task(
    "module-cache",
    """Create the module lru.py with a class Cache(capacity). get(key) gives the value or None;
    put(key, value) stores it; both make the key the one used last, and a put into a full cache
    first forgets the key that was used longest ago. keys() lists the keys, the one used longest ago
    first. Then replay.py works, which must stay as it is; run it to see.""",
    {
        "replay.py": REPLAY,
    },
    Check(
        """
    import random
    assert call("replay:replay", 2, [("a", 1), ("b", 2), "a", ("c", 3), "b"]) == (
        [1, None], ["a", "c"])
    for _ in range(20):
        steps = [random.choice([(random.choice("abcde"), n), random.choice("abcde")])
                 for n in range(30)]
        capacity, held, got = random.randint(1, 4), {}, []
        for step in steps:
            key, value = step if isinstance(step, tuple) else (step, held.get(step))
            if isinstance(step, str):
                got.append(value)
            if key in held or isinstance(step, tuple):
                held.pop(key, None)
                while len(held) >= capacity:
                    del held[next(iter(held))]
                held[key] = value
        assert call("replay:replay", capacity, steps) == (got, list(held))
    """,
        texts({"replay.py": REPLAY}),
    ),
)
TASKS = (SLUG, DURATION, ORDER, CACHE)
