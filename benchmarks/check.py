"""How long `tollens check` takes for 2,400 contracts, in our dialect and in provable-contracts'.

    python -m benchmarks.check                        # about a minute
    python -m benchmarks.check --name my-machine --runs 9
    python -m benchmarks.check --table benchmarks/check-my-machine.json

Run from the root of the project. The contracts are made here, in a temporary folder: each of ours
with a test and a saboteur of its own and no evidence yet; each of theirs with prose tests. Every
run is a process of its own, timed from its start to its end, in turn with the others; what it
prints is thrown away, and the first turn is not counted. Writes every run's seconds and the machine
as JSON, and prints a Markdown table with the bars.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cpu import HERE, machine

PACKAGES = ("PyYAML", "pydantic", "typer")
CONTRACTS = 2400
CHECK = "import sys; from tollens.cli import main; sys.argv[1:] = ['check']; main()"
IMPORT = """\
import sys, time
began = time.perf_counter()
import tollens
print(time.perf_counter() - began)
if "torch" in sys.modules: raise SystemExit("torch was imported")
"""
OURS_CHECKED, THEIRS_CHECKED = "check, ours", "check, provable-contracts"
IMPORTED = "import tollens"
MOST = {OURS_CHECKED: 3.0, THEIRS_CHECKED: 3.0, IMPORTED: 0.25}

OURS = """\
# yaml-language-server: $schema=contract.schema.json
schema: tollens/contract/v1
id: area{n}-v1
version: 1.0.0
title: Addition in area {n}
description: |
  Sums of small integers are exact, and sums of floats are within a unit in the last place of what
  the exact sum rounds to. The oracle is `fractions`.
references: ["IEEE 754-2019, section 5.4.1"]
depends_on: []
subject: [calc.part{part}]
equations:
  sum: {{formula: "s = a + b", domain: "integers up to 2^53", invariants: ["s - b = a"]}}
falsifiers:
  - id: F-AREA{n}-001
    rule: addition is exact on small integers
    prediction: the largest error over 1,000 pairs is 0
    measures:
      max_abs_error: {{le: 1e-6, unit: "1"}}
      pairs: {{ge: 1000}}
    kills: [area{n}-fault]
    if_fails: the carry of calc.part{part} is lost
  - id: F-AREA{n}-002
    rule: addition commutes
    prediction: swapped pairs have equal sums
    level: functional
    measures: {{unequal: {{eq: 0}}}}
    kills: [area{n}-fault]
gates:
  - {{id: GATE-AREA{n}, requires: [F-AREA{n}-001, F-AREA{n}-002], ship_blocking: true}}
"""
TEST = '''\
"""Tries to refute addition in area {n}."""

import pytest

from calc.part{part} import add


@pytest.mark.falsifies("F-AREA{n}-001")
def test_exact(observe):
    errors = [abs(add(a, 1) - (a + 1)) for a in range(1000)]
    observe("max_abs_error", max(errors))
    observe("pairs", len(errors))


@pytest.mark.falsifies("F-AREA{n}-002")
def test_commutes(observe):
    observe("unequal", sum(add(a, 1) != add(1, a) for a in range(1000)))
'''
SABOTEUR = '''\
"""Planted faults in area {n}."""


def area{n}_fault(plant):
    """Adds one too many."""
    plant("calc.part{part}.add", lambda add: lambda a, b: add(a, b) + 1)
'''
THEIRS = """\
# Kernel {n}: addition
metadata:
  version: "1.0.0"
  created: "2026-02-18"
  author: "An author"
  description: "Addition in area {n}: exact on integers, rounded once on floats"
  references:
    - "IEEE 754-2019, section 5.4.1"
    - "Goldberg (1991) What every computer scientist should know"
  depends_on: []
equations:
  sum:
    formula: "s = a + b"
    domain: "a, b in Z, |a|, |b| < 2^52"
    codomain: "s in Z"
    invariants:
      - "s - b = a"
      - "s = b + a"
  rounded:
    formula: "s = fl(a + b)"
    domain: "a, b finite"
    invariants:
      - "|s - (a + b)| <= ulp(s) / 2"
proof_obligations:
  - type: invariant
    property: "Exact on integers"
    formal: "add(a, b) - b == a"
    applies_to: all
  - type: bound
    property: "Rounded once"
    formal: "abs(add(a, b) - exact) <= ulp / 2"
    tolerance: 1.0e-6
    applies_to: all
  - type: equivalence
    property: "Vector code equals scalar code"
    tolerance: 8.0
    applies_to: simd
falsification_tests:
  - id: FALSIFY-AREA{n}-001
    rule: "Exact on integers"
    prediction: "add(a, b) - b == a for all a and b below 2^52"
    test: "property test with 10,000 random pairs"
    if_fails: "a carry is lost"
  - id: FALSIFY-AREA{n}-002
    rule: "Rounded once"
    prediction: "the error is at most half a unit in the last place"
    test: "cargo test -p calc --lib falsify_area{n}_002"
    if_fails: "an intermediate result is stored in a narrower type"
  - id: FALSIFY-AREA{n}-003
    rule: "Vector code equals scalar code"
    prediction: "|add_avx2(a, b) - add_scalar(a, b)| < 8 ULP"
    test: "property test comparing both"
    if_fails: "the tail of the vector loop is wrong"
kani_harnesses:
  - id: KANI-AREA{n}-001
    obligation: AREA{n}-INV-001
    property: "Exact on integers"
    bound: 8
    strategy: bounded_int
    harness: verify_exact
qa_gate:
  id: F-AREA{n}
  name: "Addition in area {n}"
  description: "Quality gate"
  checks: ["exact", "rounded"]
  pass_criteria: "All 3 falsification tests pass"
status_history:
  - version: "1.0.0"
    date: "2026-02-18"
    pr: 12
    summary: "first version"
"""


def write_ours(root: Path) -> None:
    """A project with 2,400 contracts of ours, bound, with saboteurs, and not yet recorded."""
    for folder in ("contracts", "falsifiers/saboteurs", "calc"):
        (root / folder).mkdir(parents=True)
    (root / "pyproject.toml").write_text("")
    (root / "contracts/contract.schema.json").write_text("{}")  # is looked for, and not read
    for part in range(24):
        (root / f"calc/part{part}.py").write_text("def add(a, b):\n    return a + b\n")
    for n in range(CONTRACTS):
        names = {"n": n, "part": n % 24}
        (root / f"contracts/area{n}-v1.yaml").write_text(OURS.format(**names))
        (root / f"falsifiers/test_area{n}.py").write_text(TEST.format(**names))
        (root / f"falsifiers/saboteurs/area{n}.py").write_text(SABOTEUR.format(**names))


def write_theirs(root: Path) -> None:
    """A project with 2,400 contracts in the provable-contracts dialect."""
    (root / "contracts").mkdir(parents=True)
    (root / "pyproject.toml").write_text("")
    for n in range(CONTRACTS):
        (root / f"contracts/area{n}-v1.yaml").write_text(THEIRS.format(n=n))


def measure(runs: int) -> dict[str, Any]:
    """Everything that is written as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        write_ours(ours)
        write_theirs(theirs)
        return {
            "schema": "benchmarks/check/v1",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": {
                "Python": platform.python_version(),
                **{name: version(name) for name in PACKAGES},
            },
            "contracts": CONTRACTS,
            "bytes": {path.name: _bytes(path / "contracts") for path in (ours, theirs)},
            "seconds": _turns(ours, theirs, runs),
        }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _turns(ours: Path, theirs: Path, runs: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in MOST}
    for turn in range(runs + 1):
        seconds = {
            OURS_CHECKED: checked(ours),
            THEIRS_CHECKED: checked(theirs),
            IMPORTED: imported(),
        }
        for name, value in seconds.items() if turn else ():
            found[name].append(value)
    return found


def checked(folder: Path) -> float:
    """Seconds of one process; exit code 1 says that it found something, as it must in ours."""
    began = time.perf_counter()
    done = _python(CHECK, folder, subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    if done.returncode not in (0, 1):
        raise SystemExit(f"tollens check in {folder}: exit code {done.returncode}")
    return seconds


def imported() -> float:
    """Seconds that the import takes in a new interpreter, as that one measures them."""
    done = _python(IMPORT, HERE.parent, subprocess.PIPE)
    if done.returncode:
        raise SystemExit("`import tollens` failed, or imported torch")
    return float(done.stdout)


def _python(code: str, folder: Path, out: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, stdout=out, text=True)


def rows(report: Mapping[str, Any]) -> Iterator[str]:
    """The bars as a Markdown table, and what they hold for."""
    yield "| measure | bar | found | met |"
    yield "|---|---|---|---|"
    for name, most in MOST.items():
        seconds = report["seconds"][name]
        found = median(seconds)
        told = f"{found:.3g} s ({min(seconds):.3g} to {max(seconds):.3g})"
        yield f"| {name} | ≤ {most} s | {told} | {'yes' if found <= most else '**no**'} |"
    sizes = ", ".join(f"{size / 1e6:.1f} MB of {name}" for name, size in report["bytes"].items())
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    yield ""
    yield f"{report['contracts']} contracts each: {sizes}. {report['machine']['processor']},"
    yield f"{report['machine']['cores']} cores; {versions}; {report['date'][:10]}, medians of"
    yield f"{len(report['seconds'][IMPORTED])} runs in turn."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--name", default=platform.node() or "here")
    parser.add_argument("--table", type=Path, help="print the table of a file written before")
    arguments = parser.parse_args()
    if arguments.table:
        report = json.loads(arguments.table.read_text())
    else:
        report = measure(arguments.runs)
        path = HERE / f"check-{arguments.name}.json"
        path.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    print("\n".join(rows(report)))


if __name__ == "__main__":
    main()
