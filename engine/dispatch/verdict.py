"""Ends a watch by what the contract says of the run: pytest judges it, in a process of its own.

Knows a command line and a variable of the environment; knows nothing of contracts, which are not
the engine's. The run is told to the falsifier by the variable.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError
from engine.safetensors import read_json

CONTRACT = "contracts/distill-train-v1.yaml"
TEST = "falsifiers/test_distill_train.py::test_a_large_students_best_held_out_loss"
VARIABLE = "DISTILL_V2_RUN_PATH"
STATUS = "from tollens.cli import main; main()"


@dataclass(frozen=True)
class Claim:
    """Which contract judges, by which of its tests (all where none is named), told by what."""

    contract: Path
    tests: tuple[str, ...]
    variable: str

    @property
    def root(self) -> Path:
        """The project whose contract it is."""
        return self.contract.parents[1]

    @property
    def results(self) -> Path:
        """Where a run of pytest leaves what it found."""
        return self.root / ".tollens/last" / f"{self.contract.stem}.json"

    def check(self) -> None:
        """Refuse what could not be judged, before hours are spent on watching."""
        if not self.contract.is_file():
            raise EngineError(
                f"{self.contract}: found no file, expected a contract: name one by --contract, or "
                "watch with --no-verdict"
            )

    def arguments(self) -> list[str]:
        """Of pytest."""
        return ["--contract", os.path.relpath(self.contract, self.root), *self.tests]

    def line(self, run: Path) -> str:
        """What a person would type, in the project."""
        told = f"{self.variable}={shlex.quote(str(run.absolute()))}"
        return f"{told} {shlex.join(['pytest', *self.arguments()])}"


@dataclass(frozen=True)
class Verdict:
    """What the contract says of the run: a falsifier, its verdict and its measures each."""

    results: tuple[dict[str, Any], ...]

    @property
    def holds(self) -> bool:
        """Whether there is a verdict, and none but `CORROBORATED`, the only pass."""
        return {each["verdict"] for each in self.results} == {"CORROBORATED"}

    def lines(self) -> Iterator[str]:
        """For people."""
        for each in self.results:
            yield f"{each['falsifier']}: {each['verdict']} (level {each['level']})"
            for name, found in each["measures"].items():
                mark = " " if found["held"] else "!"
                value = f"{found['value']:.6g}" if is_number(found["value"]) else found["value"]
                told = f"{value} {found['unit']}".rstrip()
                yield f"  {mark} {name:20} {told}, bound {found['bound']}"


def is_number(value: Any) -> bool:
    """A truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def judge(claim: Claim, run: Path) -> Verdict:
    """Ask the contract; `EngineError` where it gives no verdict.

    Nothing is recorded, and that the project's evidence says something else yet is no fault of the
    run: what counts are the results, and not the exit code.
    """
    command = [sys.executable, "-m", "pytest", *claim.arguments(), "--record=never", "-q"]
    told = {**os.environ, claim.variable: str(run.absolute())}
    before = _written(claim.results)
    done = subprocess.run(command, cwd=claim.root, env=told, capture_output=True, text=True)
    if done.returncode not in (0, 1) or _written(claim.results) == before:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise EngineError(
            f"{claim.contract}: found no verdict but {lines[-1]!r} (exit code {done.returncode}), "
            f"expected one: in {claim.root}, {claim.line(run)}"
        )
    judged = read_json(claim.results)["predicate"]["results"]
    return Verdict((*judged, *_unjudged(claim, {each["falsifier"] for each in judged})))


def _unjudged(claim: Claim, judged: set[str]) -> Iterator[dict[str, Any]]:
    """The contract's falsifiers that no test said anything of, where all were to be asked."""
    if claim.tests:
        return
    command = [sys.executable, "-c", STATUS, "status", str(claim.contract), "--format", "json"]
    done = subprocess.run(command, cwd=claim.root, capture_output=True, text=True)
    if done.returncode:
        raise EngineError(f"{claim.contract}: found {done.stderr.strip()}, expected its falsifiers")
    for each in json.loads(done.stdout)["contracts"][0]["falsifiers"]:
        if each["id"] not in judged:
            yield {"falsifier": each["id"], "verdict": "NOT_RUN", "level": "none", "measures": {}}


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
