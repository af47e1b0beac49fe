"""A run's job on the host: started once, apart from any connection, and how it stands.

    RUN/job/dispatch.json   what was ordered       RUN/job/pid, slurm   what it is known by
    RUN/job/start.sh        what was started       RUN/job/log, exit    what it said, how it ended

Whoever has the lock RUN/.start.lock and finds no order there starts the run, and nobody else does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from typing import Any, Callable  # noqa: UP035  # Python 3.8

from engine.far.files import locked, put, read
from engine.far.frames import Refused

PATIENCE = 30.0  # seconds from the folder to the process
ENDED = (  # Slurm's words; what else it says of a job is one that may go on
    *("boot_fail", "cancelled", "completed", "deadline", "failed", "node_fail", "out_of_memory"),
    *("preempted", "revoked", "timeout"),
)


def start(
    run: str, order: dict[str, Any], script: str, submit: list[str], again: bool
) -> dict[str, Any]:
    """Start `script` by the command `submit`, or find that there is a job; never two.

    `again` lets a run go on whose job failed or died; one that had not begun needs no leave. What
    is left of that job is kept beside. Answers with the order that counts, maybe another's.
    """
    with locked(os.path.join(run, ".start.lock")):
        started = _start(os.path.join(run, "job"), order, script, submit, again)
        return {"started": started, "job": state_of(run), "order": order_of(run)}


def _start(job: str, order: dict[str, Any], script: str, submit: list[str], again: bool) -> bool:
    run = os.path.dirname(job)
    before = state_of(run)
    over = before["state"] in ("ended", "died") and before.get("code") != 0
    if over and (again or not has_begun(run)):
        os.rename(job, f"{job}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
    ordered = os.path.join(job, "dispatch.json")
    if os.path.exists(ordered):
        return False
    try:
        put(ordered, json.dumps(order, indent=2).encode() + b"\n")
        put(os.path.join(job, "start.sh"), script.encode())
        _launch(job, [*submit, os.path.join(job, "start.sh")])
    except BaseException:
        shutil.rmtree(job, ignore_errors=True)
        raise
    return True


def _launch(job: str, command: list[str]) -> None:
    if command[0] == "sbatch":
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise Refused(f"sbatch: found {said}, expected it to take the job")
        number = done.stdout.decode().split(";")[0].strip()
        _note(job, "slurm", number, lambda: subprocess.call(["scancel", number]))
        return
    with open(os.path.join(job, "log"), "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    known = f"{process.pid} {_born(process.pid)}"
    _note(job, "pid", known, lambda: os.killpg(process.pid, signal.SIGKILL))


def _note(job: str, name: str, known: str, end: Callable[[], object]) -> None:
    """Write what the job is known by; one that nobody could find again is ended."""
    try:
        put(os.path.join(job, name), f"{known}\n".encode())
    except BaseException:
        end()
        raise


def state_of(run: str) -> dict[str, Any]:
    """`none`, `running` (or what Slurm calls it), `ended` with its code, or `died` without one."""
    job = os.path.join(run, "job")
    if not os.path.isdir(job):
        return {"state": "none"}
    slurm, process = read(os.path.join(job, "slurm")).strip(), read(os.path.join(job, "pid"))
    alive = _queued(slurm) if slurm else _lives(process.split()) if process else _begins(job)
    code = read(os.path.join(job, "exit")).strip()  # after it was looked whether it lives
    known = {"slurm": slurm} if slurm else {"pid": int((process or "0").split()[0])}
    if code:
        return {**known, "state": "ended", "code": int(code)}
    return {**known, "state": alive or "died"}


def has_begun(run: str) -> bool:
    """Whether there is anything to go on from: the run writes of itself when it begins."""
    return os.path.exists(os.path.join(run, "dispatch.json"))


def order_of(run: str) -> dict[str, Any] | None:
    """What was ordered of the run, or what it says itself, if anything."""
    orders = (read(os.path.join(run, name, "dispatch.json")) for name in ("job", ""))
    text = next(filter(None, orders), None)
    return json.loads(text) if text else None


def _begins(job: str) -> str:
    return "starting" if time.time() - os.path.getmtime(job) < PATIENCE else ""


def _lives(process: list[str]) -> str:
    return "running" if _born(int(process[0])) == process[1] != "-" else ""


def _born(pid: int) -> str:
    """When a process began, as another may have its number by now; `-` where it is gone."""
    stat = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not stat or stat[0] == "Z":
        return "-"
    return stat[19] + "@" + read("/proc/sys/kernel/random/boot_id").strip()


def _queued(number: str) -> str:
    """What Slurm says of a job; empty where it knows of none. A silent Slurm is no dead job."""
    command = ["squeue", "--noheader", "--jobs", number, "--format", "%T"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode and b"Invalid job id" not in done.stderr:
        return "unknown"
    said = done.stdout.decode().strip().lower()
    return "" if said in ENDED else said
