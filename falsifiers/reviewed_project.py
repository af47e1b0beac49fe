"""Projects with several contracts and recorded evidence, for what shows them to a reviewer.

Writes contracts, tests and saboteurs, and records outcomes made by hand, without running a test;
decides nothing about what is right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falsifiers.small_project import RUN, SmallProject
from tollens import history
from tollens.bounds import Measure, judge_value
from tollens.contract import load
from tollens.evidence import Run
from tollens.history import Recordable
from tollens.inspection import Inspection
from tollens.outcomes import Attached, Outcome
from tollens.verdicts import Kill, Level, Verdict

HEAD = "# yaml-language-server: $schema=../schema.json\n"
TEST = '@pytest.mark.falsifies("{id}")\ndef test_{function}(observe):\n    part.run()\n'


@dataclass(frozen=True)
class Said:
    """What a run said of a falsifier: verdict, values by measure, saboteurs' fates, level."""

    verdict: Verdict = Verdict.CORROBORATED
    values: Mapping[str, Any] | None = None
    reason: str = ""
    fates: Mapping[str, Kill] | None = None
    level: Level = Level.ALGORITHM
    attachments: tuple[tuple[str, bytes], ...] = ()


class ReviewedProject(SmallProject):
    """A project whose contracts are given as data, with `small.part` as their subject."""

    def claim(self, contracts: Mapping[str, Mapping[str, Any]]) -> ReviewedProject:
        """Write contracts (id → keys that differ from the plain ones), tests and saboteurs."""
        self.write("small/__init__.py", "")
        self.write("small/part.py", "def run():\n    return 0\n")
        self.write("pyproject.toml", "")
        for name, keys in contracts.items():
            self.state(name, keys)
        self._saboteurs(contracts.values())
        return self

    def state(self, name: str, keys: Mapping[str, Any]) -> None:
        """Write one contract, without a history, and its tests."""
        plain = {"schema": "tollens/contract/v1", "id": name, "version": "1.0.0"}
        whole = {**plain, "title": name, "subject": ["small.part"], **keys}
        rows = (f"{key}: {json.dumps(value)}\n" for key, value in whole.items())
        self.write(f"contracts/{name}.yaml", HEAD + "".join(rows))
        self._tests(name, [each["id"] for each in whole["falsifiers"]])

    def _tests(self, name: str, ids: Iterable[str]) -> None:
        functions = (TEST.format(id=each, function=each.lower().replace("-", "_")) for each in ids)
        area = name.removesuffix("-v1").replace("-", "_")
        head = "import pytest\n\nfrom small import part\n\n"
        self.write(f"falsifiers/test_{area}.py", head + "\n".join(functions))

    def _saboteurs(self, contracts: Iterable[Mapping[str, Any]]) -> None:
        kills = {k for each in contracts for f in each["falsifiers"] for k in f.get("kills", ())}
        shape = 'def {}(plant):\n    """Breaks the part."""\n'
        texts = (shape.format(name.replace("-", "_")) for name in sorted(kills))
        self.write("falsifiers/saboteurs/small.py", "\n\n".join(texts))

    def say(
        self,
        name: str,
        said: Mapping[str, Said],
        run: Run = RUN,
        inspection: Inspection | None = None,
        always: bool = False,
    ) -> None:
        """Record what a run said of a contract's falsifiers."""
        inspection = inspection or Inspection(self.project)
        path = self.root / f"contracts/{name}.yaml"
        loaded = load(path, f"contracts/{name}.yaml")
        today = inspection.today(loaded)
        sources = {path: sha for files in today.files.values() for path, sha in files.items()}
        kills = {
            (falsifier, saboteur): (kill, "")
            for falsifier, each in said.items()
            for saboteur, kill in (each.fates or {}).items()
        }
        new = Recordable(
            path=path,
            shown=f"contracts/{name}.yaml",
            contract=loaded.contract,
            today=today,
            saboteurs=inspection.digests,
            outcomes=[self._outcome(loaded.contract, key, each) for key, each in said.items()],
            kills=kills,
            run=run.model_copy(update={"sources": dict(sorted(sources.items()))}),
        )
        history.record(self.project, new, always=always)

    def _outcome(self, contract: Any, name: str, said: Said) -> Outcome:
        bounds: Mapping[str, Measure] = contract.falsifier(name).measures
        values = said.values or {}
        area = contract.id.removesuffix("-v1").replace("-", "_")
        test = f"falsifiers/test_{area}.py::test_{name.lower().replace('-', '_')}"
        return Outcome(
            falsifier=name,
            level=said.level,
            verdict=said.verdict,
            reason=said.reason,
            tests=(test,),
            seconds=0.25,
            measures={key: judge_value(bounds[key], value) for key, value in values.items()},
            attachments=tuple(self._attach(*each) for each in said.attachments),
            artifact=None,
        )

    def _attach(self, name: str, data: bytes) -> Attached:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.project.cache() / "attachments" / sha256
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return Attached(name, sha256)


def made(root: Path, contracts: Mapping[str, Mapping[str, Any]]) -> ReviewedProject:
    """A new project in git, with its contracts, and nothing recorded."""
    project = ReviewedProject(root)
    project.claim(contracts)
    project.git("init", "--quiet")
    return project
