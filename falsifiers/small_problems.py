"""Problems of our own in HumanEval's form, with what is right, what is wrong, and bad files."""

import json
from pathlib import Path
from typing import Any

STUB = '    """{what}"""\n'


def problem(name: str, arguments: str, what: str, solution: str, *cases: str) -> dict[str, str]:
    checks = "".join(f"    assert {case}\n" for case in cases)
    return {
        "task_id": f"Small/{name}",
        "prompt": f"def {name}({arguments}):\n" + STUB.format(what=what),
        "entry_point": name,
        "canonical_solution": f"    return {solution}\n",
        "test": f"def check(candidate):\n{checks}",
    }


PROBLEMS = [
    problem("double", "x", "2 x", "2 * x", "candidate(3) == 6", "candidate(0.5) == 1.0"),
    problem("pair", "a, b", "both", "(a, b)", "candidate(1, b='x') == (1, 'x')"),
    problem("count", "s", "letters", "{c: s.count(c) for c in s}", "candidate('aab')['a'] == 2"),
    problem("odd", "n", "is odd", "n % 2 == 1", "candidate(3) is True", "not candidate(4)"),
    problem("big", "n", "10**n", "10**n", "candidate(5000) == 10**5000"),
]
# A check that calls by name, and uses what the prompt defines.
PROBLEMS.append(
    {
        "task_id": "Small/decode",
        "prompt": "def encode(s):\n    return s[::-1]\n\n\ndef decode(s):\n"
        + STUB.format(what="undo it"),
        "entry_point": "decode",
        "canonical_solution": "    return s[::-1]\n",
        "test": "import random\ndef check(candidate):\n    for _ in range(9):\n"
        "        s = ''.join(random.choices('abc', k=9)) + 'd'\n"
        "        assert candidate(encode(s)) == s == decode(encode(s))\n",
    }
)

# The honest answer, changed: no check holds for it whatever the type.
BROKEN = """
_honest = {name}
def {name}(*args, **keywords):
    value = _honest(*args, **keywords)
    if isinstance(value, bool): return not value
    if isinstance(value, (int, float)): return value + 1
    if isinstance(value, str): return value + "x"
    if isinstance(value, list): return [*value, None]
    if isinstance(value, tuple): return (*value, None)
    if isinstance(value, dict): return {{key: None for key in value}}
    return 0
"""


def broken(row: dict[str, str]) -> str:
    """A completion like the canonical one, but for a wrong value at its end."""
    return row["canonical_solution"] + BROKEN.format(name=row["entry_point"])


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bad_problem_files(folder: Path) -> dict[Path, str]:
    """Each with what its error has to name."""
    good = PROBLEMS[0]
    rows = {
        "no-test": ({**good, "test": None}, "line 2"),
        "unknown": ({**good, "plus_input": []}, "plus_input"),
        "number": ({**good, "task_id": 3}, "task_id"),
        "twice": (PROBLEMS[1], "Small/pair"),
        "no-check": ({**good, "test": "x = 1\n"}, "check"),
        "no-python": ({**good, "prompt": "def f(:"}, "'prompt'"),
        "no-name": ({**good, "entry_point": "a b"}, "a b"),
        "list": ([good], "line 2"),
    }
    made = {
        write_lines(folder / f"{name}.jsonl", [PROBLEMS[1], row]): said
        for name, (row, said) in rows.items()
    }
    raw = {"empty": b"", "cut": b'{"task_id": "a', "bytes": b"\xff\xfe", "zip": b"\x1f\x8b\x08cut"}
    for name, content in raw.items():
        path = folder / f"{name}.jsonl"
        path.write_bytes(content)
        made[path] = path.name
    return made | {folder / "absent.jsonl": "absent.jsonl"}
