"""Sends a run to a host: looks first, sends what is missing, starts once.

Knows the order of things; how each is done is other modules'.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from engine.dispatch.host import Host
from engine.dispatch.order import Order, flag
from engine.dispatch.preflight import judge, look, require
from engine.dispatch.project import EXTRAS, Project
from engine.errors import EngineError

Tell = Callable[[str], None]
NO_DEVICE = {"device": "cpu", "teacher_device": "cpu", "route": "auto"}


@dataclass(frozen=True)
class Sent:
    """What became of an order: `started` now, or it was there; the manifest that counts."""

    started: bool
    run: str
    job: dict[str, Any]
    manifest: dict[str, Any]


def send(order: Order, host: Host, project: Project | None, tell: Tell) -> Sent:
    """Raises `EngineError` before anything is started where something is amiss."""
    facts = host.ask(
        "probe",
        folder=order.folder,
        run=order.run,
        paths=order.paths,
        commands=["sbatch", "squeue"],
    )
    checks = look(order, facts, project)
    for each in checks:
        tell(str(each))
    require(order.host, checks)
    paths = {name: each["path"] for name, each in facts["paths"].items()}
    order = order.placed(facts["folder"], facts["run"], paths)
    there = already(order, facts)
    if there is not None:
        return there
    if project is None:
        python, place = str(order.python), str(order.project)  # which an order has together
    else:
        place = sync(order, host, project, tell)
        own = project.environment(facts["python"])
        python = order.python or make_environment(order, host, own, place, tell)
    found = dry_run(order, host, facts, python, place)
    manifest = describe(order, python, place, project, facts, found)
    answer = host.ask(
        "start",
        run=order.run,
        order=manifest,
        script=order.script(python, place),
        submit=order.starter(),
        again=order.plan is None,
    )
    require_same(order, answer["order"])  # as somebody may have been quicker
    return Sent(answer["started"], order.run, answer["job"], answer["order"])


def already(order: Order, facts: dict[str, Any]) -> Sent | None:
    """The job that is there, if it is this run's; refuses to take another run's folder."""
    job, before = facts["job"], facts["order"]
    over = job["state"] in ("died", "ended") and job.get("code") != 0
    if job["state"] == "none" or before is None or (order.plan is None and over):
        return None
    require_same(order, before)
    if over and not facts["begun"]:
        return None  # as there is nothing to go on from
    if over:
        how = f"ended with {job['code']}" if "code" in job else "died"
        raise EngineError(
            f"{order.host}: {order.run}: found this run, which {how}, expected to go on by "
            f"--resume {order.run}, or another --out; {order.run}/job/log says more"
        )
    return Sent(False, order.run, job, before)


def require_same(order: Order, before: dict[str, Any]) -> None:
    """Refuse to take another plan's run for this one's."""
    differing = differences(asdict(order.plan), before["plan"]) if order.plan else []
    if differing:
        raise EngineError(
            f"{order.host}: {order.run}: found another run there ({differing[0]}), expected a "
            "new folder: choose another --out"
        )


def differences(now: dict[str, Any], before: dict[str, Any], path: str = "") -> list[str]:
    """Where two plans part, as `steps: 30, there 20`."""
    found = []
    for name in sorted(now.keys() | before.keys()):
        ours, theirs = now.get(name), before.get(name)
        if isinstance(ours, dict) and isinstance(theirs, dict):
            found += differences(ours, theirs, f"{path}{name}.")
        elif ours != theirs:
            found.append(f"{path}{name}: {ours}, there {theirs}")
    return found


def sync(order: Order, host: Host, project: Project, tell: Tell) -> str:
    """The folder of the project on the host, with every file as it is here."""
    place = f"{order.folder}/projects/{project.digest[:16]}"
    files = [[each.name, each.sha256, each.size] for each in project.files]
    missing = host.ask("keep", project=place, files=files)
    if missing:
        wanted = [each.name for each in project.files if each.name in set(missing)]
        data = project.bytes_of(wanted)
        if host.ask("receive", project=place, files=files, missing=wanted, data=data):
            raise EngineError(f"{order.host}: {place}: found other files than were sent; again")
    tell(f"ok  project    {place}: {len(missing)} of {len(files)} files sent")
    return place


def make_environment(order: Order, host: Host, name: str, place: str, tell: Tell) -> str:
    """The Python of that environment, made of the project at `place` if it is not there."""
    folder = f"{order.folder}/environments/{name}"
    python = f"{folder}/bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--constraint", f"{place}/constraints.txt", f"{place}[{EXTRAS}]"]
    steps = [[host.python, "-m", "venv", "--clear", folder], install]
    with host.talk("environment", place=folder, steps=steps, project=place) as talk:
        for frame in talk.frames():
            tell(f"{host}: {frame['said']}")
    tell(f"ok  environment {folder}: {'made now' if talk.answer else 'was there'}")
    return python


def dry_run(
    order: Order, host: Host, facts: dict[str, Any], python: str, place: str
) -> dict[str, Any]:
    """What the run says of itself on the host; a node to log in to need not have the device."""
    instead = NO_DEVICE if order.executor == "slurm" else {}
    flags = [part for name, value in instead.items() for part in (flag(name), value)]
    command = [python, "-m", "engine", *order.arguments(), *flags, "--dry-run", "--json"]
    found = judge(order, facts, host.ask("check", command=command, cwd=place))
    plan = asdict(order.plan) if order.plan else (facts["order"] or found)["plan"]
    found["plan"] |= {name: plan[name] for name in instead}
    return found


def describe(
    order: Order,
    python: str,
    place: str,
    project: Project | None,
    facts: dict[str, Any],
    found: dict[str, Any],
) -> dict[str, Any]:
    """The manifest: what the run is a function of, as it says itself, and how it was sent."""
    sent: dict[str, Any] = {"folder": place, "digest": None, "commit": None, "dirty": None}
    if project is not None:
        sent |= {"digest": project.digest, "commit": project.commit, "dirty": project.dirty}
    own = {name: value for name, value in order.to_dict().items() if name != "plan"}
    seen = {name: facts[name] for name in ("python", "free", "memory", "cuda")}
    how: dict[str, Any] = {"command": order.command(python), "again": order.words()}
    how |= {"project": sent, "facts": seen}
    return json.loads(json.dumps({**found, "dispatched": {**own, **how}}))  # type: ignore[no-any-return]
