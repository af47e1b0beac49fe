"""What is ordered of a host: a plan of distillation, where it runs, and by what command.

Knows the options of `distill` and what a job's script looks like; asks no host anything.
"""

import shlex
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from engine.distill.recipe import Recipe
from engine.distill.run import SYNTHETIC, Plan
from engine.distill.teachers import FIXTURE, NONE
from engine.errors import EngineError

EXECUTORS = ("ssh", "slurm")
ORDER_SCHEMA = "engine/dispatch/order/v1"
NO_FILES = {"teacher": (FIXTURE, NONE), "student": (), "data": (SYNTHETIC,)}
OTHERS = [each.name for each in fields(Plan) if each.name not in ("recipe", "allow_mirror")]


@dataclass(frozen=True)
class Order:
    """`plan` is None where `run` is to go on. Paths are the host's; see `engine.far.probe`."""

    host: str
    run: str
    plan: Plan | None
    folder: str = "tollens"
    executor: str = "ssh"
    processes: int = 1
    python: str | None = None  # an environment that is there
    project: str | None = None  # a project that is there
    submit: tuple[str, ...] = ()  # options of sbatch

    def __post_init__(self) -> None:
        if self.executor not in EXECUTORS:
            expected = f"expected one of {', '.join(EXECUTORS)}"
            raise EngineError(f"--executor: found {self.executor!r}, {expected}")
        if self.project is not None and self.python is None:
            raise EngineError(
                "--remote-project: found no --remote-python, expected both or neither"
            )
        if self.submit and self.executor != "slurm":
            raise EngineError("--sbatch-option: found it, expected it with --executor slurm alone")
        if "/" in (self.python or "") and not str(self.python).startswith(("/", "~/")):
            raise EngineError(
                f"--remote-python: found {self.python}, expected a name, or a path that begins "
                "with / or ~/"
            )

    @property
    def paths(self) -> dict[str, str]:
        """What must be on the host, by the option that names it."""
        found = {"run": self.run} if self.plan is None else {}
        for name, made in NO_FILES.items() if self.plan else ():
            if getattr(self.plan, name) not in made:
                found[name] = getattr(self.plan, name)
        if self.python and "/" in self.python:
            found["python"] = self.python
        return found | ({"project": self.project} if self.project else {})

    @property
    def dataset(self) -> str:
        """What is learned from, for people."""
        if self.plan is None:
            return "the run's own"
        made = self.plan.data == SYNTHETIC
        return "synthetic: made from the seed" if made else f"folder: {self.plan.data}"

    def placed(self, folder: str, run: str, paths: dict[str, str]) -> "Order":
        """With absolute paths, as the host gave them."""
        files: dict[str, Any] = {name: paths[name] for name in NO_FILES if name in paths}
        plan = replace(self.plan, **files) if self.plan else None
        own: dict[str, Any] = {n: paths[n] for n in ("python", "project") if n in paths}
        return replace(self, folder=folder, run=run, plan=plan, **own)

    def arguments(self) -> list[str]:
        """After `python -m engine`: every hyperparameter is said, none is left to a default."""
        if self.plan is None:
            return ["distill", "--resume", self.run]
        said = {name: getattr(self.plan, name) for name in OTHERS}
        said |= {each.name: getattr(self.plan.recipe, each.name) for each in fields(Recipe)}
        flags = [part for name, value in said.items() for part in (flag(name), str(value))]
        mirror = ["--allow-mirror"] if self.plan.allow_mirror else []
        return ["distill", *flags, *mirror, "--out", self.run]

    def command(self, python: str) -> list[str]:
        """What the job runs: under torchrun where processes are several, or Slurm's."""
        module = ["-m", "engine", *self.arguments()]
        if self.executor == "ssh" and self.processes == 1:
            return [python, *module]
        count = ["--standalone", "--nproc-per-node", str(self.processes)]
        return [python, "-m", "torch.distributed.run", *count, *module]

    def words(self) -> list[str]:
        """The options of `dispatch` that say where and how, and not what."""
        given = {"folder": self.folder, "remote_python": self.python}
        given["remote_project"] = self.project
        found = [part for name, value in given.items() if value for part in (flag(name), value)]
        if self.executor != "ssh":
            found += ["--executor", self.executor]
        if self.processes != 1:
            found += ["--processes", str(self.processes)]
        return found + [f"--sbatch-option={each}" for each in self.submit]

    def script(self, python: str, project: str) -> str:
        """Runs the command in the project's folder, and says how it ended."""
        done = shlex.quote(f"{self.run}/job/exit")
        return (
            "#!/bin/sh\ntrap : INT TERM  # the command hears them too, and this waits for its end\n"
            f"cd {shlex.quote(project)} && {quoted(self.command(python))}\n"
            f"code=$?\necho $code > {done}.partial && mv {done}.partial {done}\nexit $code\n"
        )

    def starter(self) -> list[str]:
        """The command that takes the script."""
        if self.executor == "ssh":
            return ["/bin/sh"]
        log, name = (
            f"--output={self.run.replace('%', '%%')}/job/log",
            f"--job-name={self.run.rpartition('/')[2]}",
        )
        return ["sbatch", "--parsable", name, log, *self.submit]

    def to_dict(self) -> dict[str, Any]:
        """As the manifest has it."""
        return {"schema": ORDER_SCHEMA, **asdict(self), "dataset": self.dataset}


def quoted(words: list[str]) -> str:
    """A command as a shell reads it."""
    return shlex.join(words)


def flag(name: str) -> str:
    """The option that a field is given by."""
    return f"--{name.replace('_', '-')}"
