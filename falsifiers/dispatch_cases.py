"""What the falsifiers of `dispatch` and `watch` send, and to whom.

The host is OpenSSH's server on loopback. Its Python is a stand-in that answers for `engine
distill` at once (falsifiers.stand_in_python), but where a test is about what is really trained:
what is sent, started, followed and fetched is real either way.
"""

import json
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from engine.dispatch.connection import connected
from engine.dispatch.host import Host
from engine.dispatch.order import Order
from engine.distill.recipe import Recipe
from engine.distill.run import Plan
from falsifiers import stand_in_python
from falsifiers.ssh_host import NAME, SshHost

# Nothing is at its default, so that what is left out shows.
RECIPE = Recipe(
    *(20, 4, 16, 2, 2e-3, 3, 0.2, 0.05, 0.8, 0.9, 1e-7, 0.5, 1.5, 0.25, "bf16", 7, 10, 8, 5)
)


@dataclass(frozen=True)
class Far:
    """A host, its Python, and the folder there."""

    host: SshHost
    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder.parent / "bin"

    @property
    def python(self) -> Path:
        return self.bin / "python"

    @property
    def calls(self) -> list[str]:
        """What the stand-in was asked to do."""
        noted = self.bin / "calls"
        return noted.read_text().splitlines() if noted.exists() else []

    def mark(self, name: str, there: bool = True) -> None:
        """Tell the stand-in; and the host, whose Python has no torch where it is `bare`, and on
        whose path there is nothing else where it is `alone`."""
        mark = self.bin / name
        mark.touch() if there else mark.unlink(missing_ok=True)

    def tool(self, name: str, script: str) -> None:
        """Put a command on the host's path."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def forget(self, option: str) -> None:
        """The version of the project there does not know an option."""
        (self.bin / "unknown").write_text(option)

    def plan(self, **changed: object) -> Plan:
        """Of files that are there."""
        files = {name: str(self.folder.parent / name) for name in ("teacher", "student", "data")}
        return Plan(**{**files, "recipe": RECIPE, "route": "plain", "ahead": 1, **changed})

    def order(self, run: str = "first", **changed: object) -> Order:
        fields = {"python": str(self.python), "folder": str(self.folder), "plan": self.plan()}
        return Order(NAME, run if "/" in run else f"runs/{run}", **{**fields, **changed})

    def arguments(self, run: str = "first", **changed: object) -> list[str]:
        """As somebody would type the order, without --remote-python."""
        return [*self.way, *self.options(**changed), "--out", run]

    def options(self, **changed: object) -> list[str]:
        """Of `distill`."""
        plan = self.plan(**changed)
        given = {name: value for name, value in asdict(plan).items() if name != "recipe"}
        del given["allow_mirror"]
        given |= {each.name: getattr(plan.recipe, each.name) for each in fields(Recipe)}
        return [part for n, v in given.items() for part in (f"--{n.replace('_', '-')}", str(v))]

    @property
    def near(self) -> Host:
        """The same, asked without a connection."""
        return Host(python=str(self.python))

    @property
    def way(self) -> list[str]:
        """The command, to this host."""
        return ["dispatch", NAME, "--folder", str(self.folder), "-F", str(self.host.config)]

    def connected(self):
        """A connection that is kept."""
        return connected(Host(NAME, str(self.python), ("-F", str(self.host.config))))

    def run(self, name: str = "first") -> Path:
        return self.folder / "runs" / name


def far(host: SshHost, place: Path) -> Far:
    """A stand-in, and the files that a run needs, below `place`."""
    made = Far(host, place / "far")
    made.bin.mkdir(parents=True)
    script = f"""[ -e {made.bin}/alone ] && export PATH={made.bin} || export PATH={made.bin}:$PATH
[ -e {made.bin}/bare ] || export PYTHONPATH={sysconfig.get_path("purelib")}
[ "$1" = -c ] && exec {sys.executable} -S "$@"
exec {sys.executable} -S {stand_in_python.__file__} {made.bin} "$@"
"""
    for name in ("python", "python3"):
        made.tool(name, script)
    (made.bin / "unknown").write_text("")
    (made.bin / "names").write_text(json.dumps([each.name for each in fields(Recipe)]))
    for name in ("teacher", "student", "data"):
        (place / name).mkdir()
    return made


def small_project(place: Path) -> Path:
    """A checkout with a few of the project's files."""
    (place / "engine").mkdir(parents=True)
    for name in ("engine/__init__.py", "engine/a.py", "pyproject.toml", "constraints.txt"):
        (place / name).write_text(f"# {name}\n")
    git = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    return place


CONTRACT = """\
schema: tollens/contract/v1
id: run-v1
version: 1.0.0
title: A run
subject: [pyproject.toml]
falsifiers:
  - id: F-RUN-001
    rule: it learns
    prediction: the best held-out loss is low
    needs: [{{env: RUN_PATH}}]
    measures:
      best: {{lt: {bound}}}
    kills: []
    if_fails: train longer
status_history: []
"""
TEST = """\
import json, os, pathlib, pytest

@pytest.mark.falsifies("F-RUN-001")
def test_it_learns(observe):
    lines = pathlib.Path(os.environ["RUN_PATH"], "metrics.jsonl").read_text().splitlines()
    rows = map(json.loads, lines)
    observe("best", min(row["heldout_loss"] for row in rows if "heldout_loss" in row))
"""


UNBOUND = """\
  - id: F-RUN-002
    rule: it is fast
    prediction: nobody has measured it
    measures:
      speed: {gt: 1}
    kills: []
    if_fails: measure it
"""


def small_contract(place: Path, bound: float, more: str = "") -> Path:
    """A project whose contract judges a run's metrics; `more` are falsifiers."""
    for name in ("contracts", "falsifiers/saboteurs"):
        (place / name).mkdir(parents=True)
    without = " ".join(f"-p no:{each}" for each in ("hypothesispytest", "anyio", "xdist"))
    settings = f'[tool.pytest.ini_options]\naddopts = "{without}"\n'  # which is quicker
    (place / "pyproject.toml").write_text(settings)
    (place / "falsifiers/test_run.py").write_text(TEST)
    contract = place / "contracts/run-v1.yaml"
    contract.write_text(CONTRACT.format(bound=bound).replace("status_", f"{more}status_"))
    return contract


# Best at the fifth step, and at 2 s and 8 tokens a step.
ROWS = [{"step": 0, "heldout_loss": 4.0}] + [
    row
    for step in range(1, 11)
    for row in (
        {"step": step, "loss": 4 - step / 10, "tokens": 8, "seconds": 2.0},
        *({"step": step, "heldout_loss": loss} for loss in {5: [2.5], 10: [3.0]}.get(step, [])),
    )
]


def run_that_is_done(place: Path, rows: list[dict], steps: int) -> None:
    """As `distill` leaves one, as far as a watch looks at it."""
    (place / "last/training").mkdir(parents=True)
    (place / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (place / "dispatch.json").write_text(json.dumps({"plan": {"recipe": {"steps": steps}}}))
    (place / "last/training/progress.json").write_text(json.dumps({"step": steps}))


# By a script in squeue's place; its words are those of its manual, JOB STATE CODES.
ENDED = [
    "echo BOOT_FAIL",
    *(f"echo {word}" for word in ("CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL")),
    *(f"echo {word}" for word in ("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT")),
    "true",
    "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1",
]
GOING_ON = [
    *(f"echo {word}" for word in ("COMPLETING", "CONFIGURING", "PENDING", "RESV_DEL_HOLD")),
    *(f"echo {word}" for word in ("REQUEUE_FED", "REQUEUE_HOLD", "REQUEUED", "RESIZING")),
    *(f"echo {word}" for word in ("RUNNING", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT")),
    *(f"echo {word}" for word in ("STOPPED", "SUSPENDED")),
    "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1",
]


def files_below(*folders: Path) -> dict[str, bytes]:
    """Everything that lies in some folders."""
    paths = [path for folder in folders for path in folder.rglob("*")]
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in paths}
