"""Known solutions of the agentic bench's tasks, in its protocol, by the task's name.

Each is the replies of a student, turn by turn; the blocks are written out as a model would. Every
action of the protocol occurs, and longer fences too.
"""

SOLUTIONS = {
    "edit-median": [
        "Let me look.\n```read stats.py\n```\n```run\npython -m unittest\n```",
        """\
```replace stats.py
<<<<<<< SEARCH
    values.sort()
    return values[len(values) // 2]
=======
    if not values:
        raise ValueError("no values")
    values = sorted(values)
    half = len(values) // 2
    return (values[half] + values[-half - 1]) / 2
>>>>>>> REPLACE
```
```run
python -m unittest
```""",
        "The tests pass.\n\n```done\n```",
    ],
    "test-years": [
        """\
```write test_years.py
import unittest

from years import is_leap


class Leap(unittest.TestCase):
    def test_hundreds(self):
        self.assertFalse(is_leap(1900))
        self.assertTrue(is_leap(2000))

    def test_other_years(self):
        self.assertFalse(is_leap(2023))
        self.assertTrue(is_leap(2024))
```
```done
```"""
    ],
    "module-slug": [
        """\
```write slug.py
import re


def slugify(text, limit=None):
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")
```
```run
python -m unittest
```
""",
        "```done\n```",
    ],
    "replace-name": [
        "```run\nsed -i 's/\\bget_user\\b/find_user/g' users/*.py test_users.py README.md\n"
        "grep -rn get_user .\n```",
        "```done\n```",
    ],
    "command-build": [
        "```run\npython build.py\n```",
        "```run\npython build.py --region north && cat table.csv\n```\n```done\n```",
    ],
    "edit-pages": [
        """\
```replace pages.py
<<<<<<<
    return len(items) // size
=======
    return -(-len(items) // size)
>>>>>>>
<<<<<<<
    if number > count(items, size):
=======
    if not 1 <= number <= count(items, size):
>>>>>>>
```
```done
```"""
    ],
    "test-clamp": [
        """\
```replace test_bounds.py
<<<<<<<
        self.assertEqual(clamp(0, 10, 5), 5)
        self.assertEqual(clamp(0, 10, -3), 0)
        self.assertEqual(clamp(0, 10, 12), 10)
=======
        self.assertEqual(clamp(5, 0, 10), 5)
        self.assertEqual(clamp(-3, 0, 10), 0)
        self.assertEqual(clamp(12, 0, 10), 10)
>>>>>>>
```
```done
```"""
    ],
    "module-duration": [
        """\
````write duration.py
\"\"\"Durations as text.

```
seconds("1h30m") == 5400
```
\"\"\"

import re


def seconds(text):
    found = re.fullmatch(r"(?:(\\d+)h)?(?:(\\d+)m)?(?:(\\d+)s)?", text)
    if not text or not found:
        raise ValueError(text)
    hours, minutes, rest = (int(each or 0) for each in found.groups())
    return 3600 * hours + 60 * minutes + rest


def text(seconds):
    parts = zip("hms", (seconds // 3600, seconds // 60 % 60, seconds % 60))
    return "".join(f"{n}{unit}" for unit, n in parts if n) or "0s"
````
```done
```"""
    ],
    "replace-header": [
        "```run\nfor f in src/main.py src/text.py src/data/load.py; do\n"
        "  sed -i '1s/.*/# Copyright 2023-2025 Acme Ltd/' $f\ndone\nhead -n 1 src/*.py\n```",
        "```done\n```",
    ],
    "command-sort": ["```run\nsort -u words.txt > sorted.txt\n```", "```done\n```"],
    "edit-merge": [
        """\
```replace settings.py
<<<<<<<
    base.update(over)
    return base
=======
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = merge(base[key], value) if both else value
    return merged
>>>>>>>
```
```done
```"""
    ],
    "test-stack": [
        """\
```write test_stack.py
import unittest

from stack import Stack


class Stacks(unittest.TestCase):
    def test_stack(self):
        stack = Stack()
        stack.push(1)
        stack.push(2)
        self.assertEqual(len(stack), 2)
        self.assertEqual(stack.peek(), 2)
        self.assertEqual(len(stack), 2)
        self.assertEqual(stack.pop(), 2)
        self.assertEqual(len(stack), 1)
        self.assertEqual(stack.pop(), 1)
        with self.assertRaises(IndexError):
            stack.pop()
```
```done
```"""
    ],
    "module-order": [
        """\
```write order.py
def order(needs):
    left = {name: set(before) for name, before in needs.items()}
    for before in needs.values():
        for name in before:
            left.setdefault(name, set())
    made = []
    while left:
        ready = [name for name, before in left.items() if not before - set(made)]
        if not ready:
            raise ValueError("a cycle")
        made.append(min(ready))
        del left[made[-1]]
    return made
```
```done
```"""
    ],
    "replace-spelling": [
        """\
```run
sed -i 's/"colour":/"color":/' themes/*.json
```
```replace theme.py
<<<<<<<
    return read(name)["colour"]["background"]
=======
    return read(name)["color"]["background"]
>>>>>>>
<<<<<<<
    return read(name)["colour"]["text"]
=======
    return read(name)["color"]["text"]
>>>>>>>
```
```done
```"""
    ],
    "command-migrate": [
        "```run\nwhile ! python migrate.py | grep 'up to date'; do :; done\n```\n```done\n```"
    ],
    "edit-tax": [
        """\
```replace shop/tax.py
<<<<<<<
    return round(cents * percent / 100)
=======
    return (2 * cents * percent + 100) // 200
>>>>>>>
```
```replace shop/cart.py
<<<<<<<
    whole = sum(prices)
    return whole + tax(whole, percent) - discount
=======
    whole = sum(prices) - discount
    return whole + tax(whole, percent)
>>>>>>>
```
```done
```"""
    ],
    "test-roman": [
        """\
```replace test_roman.py
<<<<<<<
        expected = {1: "I", 4: "IIII", 9: "VIIII", 14: "XIV", 40: "XL", 90: "LXXXX"}
        expected |= {400: "CD", 1990: "MXM", 2024: "MMXXIV"}
=======
        with self.assertRaises(ValueError):
            roman(0)
        expected = {1: "I", 4: "IV", 9: "IX", 14: "XIV", 40: "XL", 90: "XC"}
        expected |= {400: "CD", 1990: "MCMXC", 2024: "MMXXIV"}
>>>>>>>
```
```done
```"""
    ],
    "module-cache": [
        """\
```write lru.py
class Cache:
    def __init__(self, capacity):
        self.capacity, self.values = capacity, {}

    def get(self, key):
        if key not in self.values:
            return None
        self.values[key] = self.values.pop(key)
        return self.values[key]

    def put(self, key, value):
        if self.values.pop(key, None) is None and len(self.values) >= self.capacity:
            del self.values[next(iter(self.values))]
        self.values[key] = value

    def keys(self):
        return list(self.values)
```
```run
python replay.py
```""",
        "```done\n```",
    ],
    "replace-print": [
        "```run\ncd jobs\nsed -i 's/\\bprint(/log(/' fetch.py store.py\n"
        "sed -i '1i from jobs.log import log\\n' fetch.py store.py\ncat fetch.py\n```",
        "```done\n```",
    ],
    "command-answer": [
        "```run\npython walk.py 1729 | tail -n 1 > answer.txt\n```\n```done\n```",
    ],
}

# A file that is changed besides, where the task says that nothing else is to be.
BESIDES = {
    "replace-header": ("src/main.py", "src/text.py", "src/data/load.py", "src/vendor/left.py"),
    "replace-print": ("jobs/log.py",),
}
# The same change everywhere, also where it is not to be.
OVERDONE = {
    "replace-name": "sed -i 's/get_user/find_user/g' users/*.py test_users.py README.md",
    "replace-header": "sed -i 's/Copyright 2023 Acme/Copyright 2023-2025 Acme Ltd/' "
    "$(find src -name '*.py')",
    "replace-spelling": "sed -i 's/colour/color/g' themes/*.json theme.py CHANGES.md",
    "replace-print": "sed -i 's/print/log/; 1i from jobs.log import log' jobs/[cfs]*.py",
}
