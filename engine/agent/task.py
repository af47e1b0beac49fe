"""A task: a small folder of files, what is to become of it, and how one sees that it did.

Knows tasks and the sandbox's trials; knows nothing of students. A check runs apart from the
student's code, in another process, and looks at what is left: at the files' text, or at plain
values that their functions give back. What the student says of its work, its tests' output and its
exit codes do not count, and nothing that it does to its folder reaches the check. The asserts in
checks are text that the judge runs; none is the engine's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import dedent, indent

from engine.evaluation.sandbox import Trial

# The student's side: its files, and what may be asked of them.
ROOM = """
import importlib, os, sys, unittest
for path, text in {files!r}.items():
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
sys.path.insert(0, os.getcwd())

def call(name, *args, **keywords):
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)(*args, **keywords)

def error(name, *args):
    try:
        call(name, *args)
    except Exception as raised:
        return type(raised).__name__
    return None

def tests(module):
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromName(module).run(result)
    return [result.testsRun, len(result.failures) + len(result.errors), len(result.skipped)]

def do(what, *args, **keywords):
    return {{"call": call, "error": error, "tests": tests}}[what](*args, **keywords)
"""
# The check's side.
ASKING = """
files = {files!r}

def call(name, *args, **keywords):
    return do("call", name, *args, **keywords)

def error(name, *args):
    return do("error", name, *args)

def tests(module):
    return do("tests", module)
"""


@dataclass(frozen=True)
class Check:
    """Statements with `files`, `call("module:function", …)`, `error(…)` and `tests("module")`.

    `error` is the name of the exception, and `tests` are the numbers of tests that ran, failed and
    were skipped. The files of `over` take the place of the student's.
    """

    test: str
    over: Mapping[str, str] = field(default_factory=dict)

    def trial(self, files: Mapping[str, str]) -> Trial:
        """What the sandbox is to judge; each check has a process of its own."""
        there = {**files, **self.over}
        test = "def check(do):\n" + indent(dedent(self.test).strip("\n"), "    ") + "\n"
        return Trial(ROOM.format(files=there), "do", ASKING.format(files=there), test)


@dataclass(frozen=True)
class Task:
    """`goal` and `files` are what the student is given; it never sees `checks`."""

    name: str
    goal: str
    files: Mapping[str, str]
    checks: tuple[Check, ...]

    @property
    def kind(self) -> str:
        """What is to be done, by the name's first word."""
        return self.name.partition("-")[0]


def task(name: str, goal: str, files: Mapping[str, str], *checks: Check | str) -> Task:
    """A task, of texts that are indented as where they are written."""
    made = tuple(Check(each) if isinstance(each, str) else each for each in checks)
    return Task(name, " ".join(goal.split()), texts(files), made)


def texts(files: Mapping[str, str]) -> dict[str, str]:
    """Files without the indentation that they are written with."""
    return {path: dedent(text).lstrip("\n") for path, text in files.items()}


def mutants(test: str, path: str, right: tuple[str, ...], wrong: tuple[str, ...]) -> list[Check]:
    """Checks of a module of tests: it holds for each right text at `path`, and for no wrong one."""
    holds = f'ran, failed, skipped = tests("{test}")\nassert ran and not failed and not skipped'
    fails = f'ran, failed, skipped = tests("{test}")\nassert ran and failed'
    made = [Check(holds, texts({path: each})) for each in right]
    return made + [Check(fails, texts({path: each})) for each in wrong]
