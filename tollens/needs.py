"""Whether what a falsifier needs is there; the one place that looks at the environment for it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from tollens.contract import Need


def unmet(needs: Iterable[Need], root: Path) -> list[str]:
    """A reason for each need that is not met, in the order declared."""
    reasons = (_unmet(need, root) for need in needs)
    return [reason for reason in reasons if reason]


def _unmet(need: Need, root: Path) -> str | None:
    [(kind, value)] = need.model_dump(exclude_unset=True).items()
    return None if CHECKS[kind](value, root) else f"needs {kind} {value}, which is not there"


def _env(name: str, root: Path) -> bool:
    return bool(os.environ.get(name))


def _device(name: str, root: Path) -> bool:
    return _prints(["nvidia-smi", "-L"], "GPU 0") or Path("/dev/nvidia0").exists()


def _prints(command: list[str], expected: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and expected in done.stdout


def _module(name: str, root: Path) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _command(name: str, root: Path) -> bool:
    return shutil.which(name) is not None


def _file(name: str, root: Path) -> bool:
    return (root / os.path.expandvars(name)).is_file()


CHECKS: dict[str, Callable[[str, Path], bool]] = {
    "env": _env,
    "device": _device,
    "module": _module,
    "command": _command,
    "file": _file,
}
