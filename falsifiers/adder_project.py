"""The sample project of docs/rules.md, recorded by a real run, in a folder of a git repository.

It is recorded once in a process, by another one, so that no planted fault has a part in it. The
`tollens` command is run in this process, so that a planted fault is in force in it.
"""

import atexit
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from falsifiers.harness_command import exit_code
from falsifiers.ran import Ran
from tollens.rule_examples import CONTRACT, SAMPLE
from tollens.scaffold import put_schema

FOLDER = "adder"  # the project's, below the repository's root
PYPROJECT = """\
[tool.pytest.ini_options]
testpaths = ["falsifiers"]
pythonpath = ["."]
addopts = ["-p", "no:hypothesispytest", "-p", "no:anyio"]
"""
IDENTITY = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]


class Adder:
    """A copy of the recorded project; the working directory is its root."""

    def __init__(self, folder, monkeypatch, capsys):
        shutil.copytree(recorded(), folder)
        for name in ("CI", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            monkeypatch.delenv(name, raising=False)
        self.root = folder / FOLDER
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.chdir(self.root)

    def tollens(self, *arguments, **environment):
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["tollens", *map(str, arguments)])
            for name, value in environment.items():
                patch.setenv(name, value)
            self._capsys.readouterr()
            code = exit_code()
            return Ran(code, *self._capsys.readouterr())

    def check(self, *arguments, **environment):
        return self.tollens("check", *arguments, "--format", "json", **environment)

    def differing(self, rule, example):
        """How what is found after an example was done differs from what the example says."""
        self.reset()
        found = [each for each in self._tried(example) if each["rule"] == rule]
        places = [self._place(*each) for each in zip(found, example.lines, strict=False)]
        right = [(example.path, True, example.severity)] * len(example.lines)
        return [] if places == right and len(found) == len(right) else [(rule, found)]

    def _tried(self, example):
        """The findings of `check` after what the example says was done."""
        if example.edits:
            self.edit(example.edits, example.old, example.new)
        if example.then:
            paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
            kept = {**os.environ, "PATH": paths}
            subprocess.run(example.then, shell=True, cwd=self.root, capture_output=True, env=kept)
        before, _, after = example.check.partition("tollens check")
        environment = dict(pair.split("=", 1) for pair in shlex.split(before))
        return self.check(*shlex.split(after), **environment).findings

    def _place(self, finding, text):
        line = (self.root / finding["path"]).read_text().splitlines()[finding["line"] - 1]
        told = finding["found"] and finding["hint"] is not None
        return finding["path"], bool(text in line and told), finding["severity"]

    def edit(self, path, old, new):
        """Replace a text that must be there, once; a new file if there is none to replace."""
        file = self.root / path
        text = file.read_text() if old else ""
        if old not in text:
            raise ValueError(f"{old!r} is not in {path}")
        file.write_text(text.replace(old, new, 1) if old else new)

    def git(self, *arguments):
        return git(self.root, *arguments)

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "state")

    def reset(self):
        self.git("checkout", "--quiet", ".")
        self.git("clean", "-fdq")


def first(differing):
    """What differs in the first example that differs; the others are not tried then."""
    return next(filter(None, differing), [])


def git(root, *arguments):
    command = ["git", *IDENTITY, *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


@cache
def recorded():
    """The folder of the repository; not to be written into."""
    folder = Path(tempfile.mkdtemp(prefix="adder-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    root = folder / FOLDER
    for name, text in {**SAMPLE, "pyproject.toml": PYPROJECT, "calc/__init__.py": ""}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    put_schema(root / CONTRACT)
    git(folder, "init", "--quiet")
    run_pytest(root, "--sabotage")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "recorded")
    return folder


def run_pytest(root, *arguments):
    """`pytest --contract contracts`, as a process of its own."""
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "ADDER_FILE")}
    command = [sys.executable, "-m", "pytest", "-q", "--contract", "contracts", *arguments]
    done = subprocess.run(command, cwd=root, env=kept, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
