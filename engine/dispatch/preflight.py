"""What must hold of a host before a run is started there, and what to do where it does not.

Judges what `engine.far.probe` saw, and what `distill --dry-run` said on the host itself, which
opens everything; asks nobody.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from engine.dispatch.order import Order
from engine.dispatch.project import Project
from engine.distill.recipe import Recipe
from engine.errors import EngineError

SYSTEM, PYTHON = "Linux", (3, 11)
ENVIRONMENT = 8 << 30  # bytes of disk that one takes, with torch for CUDA
RUN = 1 << 30  # bytes of disk at least; `distill` itself asks for what its checkpoints take
OF_A_PARAMETER = 16  # bytes of memory: weight, gradient and two moments in float32
GIB = 1 << 30
OTHER_VERSION = "the project on the host is another; leave --remote-project out"


@dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    what: str
    found: str
    expected: str = ""
    holds: bool = True
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{'ok' if self.holds else 'no':3} {self.what:10} {self.found}"
        return line if self.holds else f"{line}; expected {self.expected}"


def require(host: str, checks: list[Check]) -> None:
    """Refuse to go on where one does not hold."""
    for each in checks:
        if not each.holds:
            raise EngineError(
                f"{host}: {each.what}: found {each.found}, expected {each.expected}: {each.remedy}"
            )


def look(order: Order, facts: Mapping[str, Any], project: Project | None) -> list[Check]:
    """What shows before anything is sent; `project` is what would be."""
    return [
        _system(facts["system"]),
        _python(facts["python"]),
        *_torch(order, facts),
        *_devices(order, facts),
        _disk(order, facts, project),
        *(_path(name, each, order.host) for name, each in facts["paths"].items()),
        *_slurm(order, facts),
    ]


def _system(found: str) -> Check:
    return Check("system", found, SYSTEM, found == SYSTEM, "choose another host")


def _python(found: str) -> Check:
    holds = tuple(map(int, found.split(".")[:2])) >= PYTHON
    return Check("python", found, "3.11 or later", holds, "name another by --base-python")


def _torch(order: Order, facts: Mapping[str, Any]) -> Iterator[Check]:
    if order.python is not None:
        remedy = f"install it there, or leave --remote-python {order.python} out to have one made"
        yield Check("torch", "torch" if facts["torch"] else "none", "it", facts["torch"], remedy)


def _devices(order: Order, facts: Mapping[str, Any]) -> Iterator[Check]:
    if order.plan is None or order.executor == "slurm":
        return  # the node that computes is another machine
    for device in sorted({order.plan.device, order.plan.teacher_device}):
        holds = facts["cuda"] or not device.startswith("cuda")
        remedy = "choose another host, or --device cpu; `nvidia-smi` there says more"
        yield Check("device", device if holds else "no GPU", device, holds, remedy)


def _disk(order: Order, facts: Mapping[str, Any], project: Project | None) -> Check:
    needed = RUN
    if project is not None:
        made = order.python or project.environment(facts["python"]) in facts["environments"]
        needed += project.size + (0 if made else ENVIRONMENT)
    if not facts["writable"]:
        return Check("folder", f"{facts['folder']} not writable", "it", False, "choose --folder")
    found, expected = f"{facts['free'] / GIB:.1f} GiB free", f"{needed / GIB:.1f} GiB"
    remedy = f"make room at {facts['folder']}, or choose another --folder"
    return Check("disk", found, expected, facts["free"] >= needed, remedy)


def _path(name: str, seen: Mapping[str, str], host: str) -> Check:
    path, kind = seen["path"], seen["kind"]
    if kind != "nothing":
        return Check(name, path)
    if name == "run":
        return Check(name, f"nothing at {path}", "a run", False, "mend --resume")
    option = f"--remote-{name}" if name in ("python", "project") else f"--{name}"
    remedy = f"copy it there (scp -r {name.upper()} {host}:{path}), or mend {option}"
    return Check(name, f"nothing at {path}", "it on the host", False, remedy)


def _slurm(order: Order, facts: Mapping[str, Any]) -> Iterator[Check]:
    if order.executor == "slurm":
        holds = {"sbatch", "squeue"} <= set(facts["commands"])
        found = "sbatch" if holds else "no sbatch and squeue"
        yield Check("slurm", found, "them", holds, "log in to a node of Slurm, or --executor ssh")


def judge(order: Order, facts: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own account of what it is a function of, from its dry run on the host.

    Raises `EngineError` where the dry run does not end well, where it leaves a hyperparameter
    unsaid, where the teacher is the student by its contents, and where memory does not do.
    """
    if done["code"]:
        said = done["err"].strip().splitlines() or [f"distill: found exit code {done['code']}"]
        raise EngineError(f"{order.host}: {said[-1].removeprefix('error: ')}")
    try:
        found: dict[str, Any] = json.loads(done["out"])
        checks = [_complete(found), _teacher(order, found), *_memory(order, facts, found)]
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{order.host}: project: found no account of the run by its `distill --dry-run` "
            f"({error!r}), expected one as this version's: {OTHER_VERSION}"
        ) from error
    require(order.host, checks)
    return found


def _complete(found: Mapping[str, Any]) -> Check:
    missing = {each.name for each in fields(Recipe)} - set(found["plan"]["recipe"])
    named = ", ".join(sorted(missing)) or "all"
    return Check("recipe", f"without {named}", "every hyperparameter", not missing, OTHER_VERSION)


def _teacher(order: Order, found: Mapping[str, Any]) -> Check:
    holds = not is_mirror(found) or found["plan"]["allow_mirror"]
    what = f"{found['plan']['teacher']}, whose contents are the student's"
    remedy = "there is nothing to learn from it; --allow-mirror if that is meant"
    return Check("teacher", what, "another model than the student", holds, remedy)


def is_mirror(found: Mapping[str, Any]) -> bool:
    """Whether the host found the contents of teacher and student to be the same."""
    return bool(found["mirror"])


def _memory(order: Order, facts: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Check]:
    if facts["memory"] is None or found["plan"]["device"] != "cpu" or order.executor == "slurm":
        return  # on a GPU `distill` looks itself
    needed = OF_A_PARAMETER * found["parameters"] * order.processes
    said, expected = (f"{each / GIB:.1f} GiB" for each in (facts["memory"], needed))
    remedy = "stop what else runs there, or take a smaller student"
    yield Check("memory", f"{said} free", expected, facts["memory"] >= needed, remedy)
