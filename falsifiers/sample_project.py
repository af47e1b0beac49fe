"""A small project of contracts, tests and saboteurs in a temporary folder, run by a nested pytest.

The nested pytest runs in this process, so that a fault planted in the harness is in force in it.
What it said is read back from its exit code, its output and the JSON that it left: nothing here
asks the harness. Knows nothing of what is claimed.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# A nested pytest forgets the modules that it was the first to import; these must not be imported
# twice in one process (compiled modules refuse it), or are slow to.
import hypothesis  # noqa: F401  isort: skip
import numpy  # noqa: F401  isort: skip
import torch  # noqa: F401  isort: skip
import yaml  # noqa: F401  isort: skip

# Each worker of a nested run would load plugins that no sample uses; they are half of its start.
PYPROJECT = """\
[tool.pytest.ini_options]
pythonpath = ["."]
addopts = ["-p", "no:hypothesispytest", "-p", "no:anyio"]
"""
CONTRACT = """\
# A sample: {id}
schema: tollens/contract/v1
id: {id}
version: 1.0.0
title: {title}
subject: [product]
falsifiers:
{falsifiers}
status_history: []
"""
ROW = re.compile(r" {4}([A-Z_]+) +(algorithm|functional|runtime) +([A-Z_]+) +([0-9.]+) s")
FATE = re.compile(r" {4}(killed|survived|error) +(\S+)")
ID = re.compile(r" {2}([A-Z][A-Z0-9]*(?:[-_][A-Z0-9]+)+)")


@dataclass(frozen=True)
class Row:
    """One line of the closing table."""

    verdict: str
    level: str
    discharge: str


@dataclass(frozen=True)
class Finished:
    """A nested run that has ended: its exit code and what it printed."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """What was printed, with the line breaks of wrapping taken out."""
        return re.sub(r"\s+", " ", " ".join(self.lines))

    @property
    def table(self) -> dict[str, list[Row]]:
        """The closing table's rows by falsifier."""
        return {name: [Row(*row[:3]) for row in rows] for name, rows in self._rows(ROW).items()}

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict of each falsifier that has one row."""
        return {name: rows[0].verdict for name, rows in self.table.items() if len(rows) == 1}

    @property
    def matrix(self) -> dict[str, dict[str, str]]:
        """The kill matrix as printed: falsifier → saboteur → fate."""
        rows = self._rows(FATE)
        return {name: {saboteur: fate for fate, saboteur in each} for name, each in rows.items()}

    def _rows(self, pattern: re.Pattern[str]) -> dict[str, list[tuple[str, ...]]]:
        found: dict[str, list[tuple[str, ...]]] = {}
        name = ""
        for line in self.lines:
            if heading := ID.fullmatch(line):
                name = heading[1]
            elif name and (row := pattern.fullmatch(line)):
                found.setdefault(name, []).append(row.groups())
        return found


class SampleProject:
    """A project with a `product` to test; contracts, tests and saboteurs are written into it."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("CI", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        self.pytester = pytester
        self.root: Path = pytester.path
        self.write("pyproject.toml", PYPROJECT)
        self.write("product.py", "def double(x):\n    return 2 * x\n")

    def write(self, path: str, text: str) -> Path:
        """Write a text file of the project, with the common indentation taken off."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return file

    def contract(
        self, claims: Mapping[str, Mapping[str, Any]], name: str = "sample", title: str = "A sample"
    ) -> Path:
        """Write a contract; a claim is what differs from `x ≤ 1`, without saboteurs."""
        plain = {"rule": "r", "prediction": "p", "measures": {"x": {"le": 1}}}
        rows = [f"  - {json.dumps({'id': id_, **plain, **more})}" for id_, more in claims.items()]
        text = CONTRACT.format(id=f"{name}-v1", title=title, falsifiers="\n".join(rows))
        return self.write(f"contracts/{name}-v1.yaml", text)

    def pytest(self, *arguments: str | Path) -> Finished:
        """A nested pytest in this process; under `-n 2` its workers are processes of their own."""
        result = self.pytester.runpytest_inprocess(*arguments)
        return Finished(int(result.ret), tuple(result.outlines))

    def run(self, *arguments: str | Path) -> Finished:
        """A nested pytest under all contracts of the project."""
        return self.pytest("--contract", "contracts", *arguments)

    def run_one(self, name: str) -> Finished:
        """A nested pytest under one contract."""
        return self.pytest("--contract", f"contracts/{name}-v1.yaml")

    def forget(self) -> None:
        """Remove what earlier runs recorded, but for the history in the contract."""
        for folder in ("evidence", ".tollens", ".pytest_cache"):
            shutil.rmtree(self.root / folder, ignore_errors=True)

    def evidence(self, name: str = "sample") -> dict[str, Any]:
        """The predicate of a contract's evidence file; empty where there is none."""
        return _predicate(self.root / "evidence" / f"{name}-v1" / "evidence.json")

    def last(self, name: str = "sample") -> dict[str, Any]:
        """The predicate of what the last run said of a contract."""
        return _predicate(self.root / ".tollens" / "last" / f"{name}-v1.json")

    def results(self, name: str = "sample") -> dict[tuple[str, str], dict[str, Any]]:
        """The evidence's results by falsifier and level."""
        results = self.evidence(name).get("results", [])
        return {(each["falsifier"], each["level"]): each for each in results}

    def recorded(self, name: str = "sample") -> dict[str, str]:
        """Falsifier → verdict in the evidence, for falsifiers observed at one level."""
        return {key[0]: each["verdict"] for key, each in self.results(name).items()}

    def files(self, cache: bool = True) -> dict[str, bytes]:
        """Every file but git's, pytest's and Python's own; without `cache`, nor the harness's."""
        passed_over = {"__pycache__", ".pytest_cache", ".git", *([] if cache else [".tollens"])}
        paths = [path for path in self.root.rglob("*") if path.is_file()]
        names = {path.relative_to(self.root): path for path in paths}
        return {
            name.as_posix(): path.read_bytes()
            for name, path in names.items()
            if passed_over.isdisjoint(name.parts)
        }


def _predicate(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    predicate: dict[str, Any] = json.loads(path.read_text())["predicate"]
    return predicate


def wrong(said: Mapping[Any, Any], expected: Mapping[Any, Any]) -> int:
    """How many of the expected entries were not said, or said otherwise; shown when it fails."""
    differing = {
        key: (said.get(key), expected.get(key))
        for key in said.keys() | expected.keys()
        if said.get(key) != expected.get(key)
    }
    print(f"(said, expected) where they differ: {differing}")
    return len(differing)
