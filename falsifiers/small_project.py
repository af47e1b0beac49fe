"""A small project on disk and runs to record in it: scaffold of the harness's own falsifiers.

Knows how to write one contract, one test file and one module, and how to make a run's outcomes by
hand; decides nothing about what is right.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tollens import history
from tollens.bindings import find_bindings
from tollens.bounds import Measure, judge_value
from tollens.contract import Contract, load
from tollens.digests import Sources, Today, today
from tollens.evidence import Host, Run
from tollens.history import Recordable, Recorded
from tollens.outcomes import Outcome
from tollens.project import Project
from tollens.verdicts import Kill, Level, Verdict

ID = "small-v1"
HEAD = """\
# yaml-language-server: $schema=../schema.json
schema: tollens/contract/v1
id: small-v1
version: {version}
title: A small contract
subject: [small.part]
falsifiers:
"""
CLAIM = """\
  - id: {name}
    rule: the part is right
    prediction: the error keeps its bound
    level: {level}
    measures:
      error: {{le: {bound}}}
    kills: [{kills}]
"""
TEST = """
@pytest.mark.falsifies("{name}")
def test_{function}(observe):
    observe("error", part.error())
"""
RUN = Run(
    start="2026-01-01T00:00:00Z",
    end="2026-01-01T00:00:01Z",
    command="pytest --contract contracts",
    commit=None,
    dirty=False,
    host=Host(cpu="c", cores=1, memory_gib=1.0, gpu=None, driver=None, system="Linux"),
    python="3.11.0",
    packages={},
    seed=0,
    sources={},
)


def contract_text(
    names: Iterable[str],
    version: str = "1.0.0",
    bound: str = "1.0",
    level: str = "algorithm",
    kills: str = "",
) -> str:
    claims = (CLAIM.format(name=each, level=level, bound=bound, kills=kills) for each in names)
    return HEAD.format(version=version) + "".join(claims)


@dataclass(frozen=True)
class SmallProject:
    """A project with one contract, `small-v1`, whose falsifiers each have one test."""

    root: Path
    names: tuple[str, ...] = ("F-SMALL-001",)

    @property
    def project(self) -> Project:
        return Project(self.root)

    @property
    def contract_path(self) -> Path:
        return self.root / "contracts" / f"{ID}.yaml"

    @property
    def evidence_path(self) -> Path:
        return self.root / "evidence" / ID / "evidence.json"

    @property
    def contract(self) -> Contract:
        return load(self.contract_path, f"contracts/{ID}.yaml").contract

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())

    def build(self, **claims: str) -> SmallProject:
        """Write the contract, the tests and the module under test."""
        self.write(f"contracts/{ID}.yaml", contract_text(self.names, **claims))
        self.write("small/__init__.py", "")
        self.write("small/part.py", "def error():\n    return 0.5\n")
        tests = (
            TEST.format(name=name, function=name.lower().replace("-", "_")) for name in self.names
        )
        head = "import pytest\n\nfrom small import part\n"
        self.write("falsifiers/test_small.py", head + "".join(tests))
        return self

    def git(self, *arguments: str) -> str:
        """What git says in the project, whatever its settings on this machine are."""
        who = itertools.product(("AUTHOR", "COMMITTER"), ("NAME", "EMAIL"))
        bare = {f"GIT_{role}_{what}": "x" for role, what in who}
        bare |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            env=os.environ | bare,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    def commit(self, message: str) -> str:
        """Commit everything; the name of the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def today(self) -> Today:
        return today(self.contract, Sources(self.project), find_bindings(self.project))

    def recordable(
        self,
        outcomes: Iterable[Outcome],
        kills: Mapping[tuple[str, str], tuple[Kill, str]] | None = None,
        run: Run = RUN,
    ) -> Recordable:
        contract, now = self.contract, self.today()
        files = {path: sha for each in now.files.values() for path, sha in each.items()}
        return Recordable(
            path=self.contract_path,
            shown=f"contracts/{ID}.yaml",
            contract=contract,
            today=now,
            saboteurs={name: "0" * 64 for each in contract.falsifiers for name in each.kills},
            outcomes=list(outcomes),
            kills=kills or {},
            run=run.model_copy(update={"sources": dict(sorted(files.items()))}),
        )

    def record(
        self,
        *outcomes: Outcome,
        kills: Mapping[tuple[str, str], tuple[Kill, str]] | None = None,
        run: Run = RUN,
        always: bool = False,
    ) -> Recorded:
        new = self.recordable(outcomes, kills, run)
        return history.record(self.project, new, always=always)

    def said(
        self,
        name: str,
        verdict: Verdict = Verdict.CORROBORATED,
        level: Level = Level.ALGORITHM,
        value: float = 0.5,
    ) -> Outcome:
        """What a run of the test of `name` could have said."""
        seen = {"error": judge_value(Measure(le=1.0), value)} if verdict.executed else {}
        reason = "" if verdict is Verdict.CORROBORATED else f"because {verdict.lower()}"
        tests = ("falsifiers/test_small.py::test",)
        return Outcome(name, level, verdict, reason, tests, 0.1, seen, (), None)
