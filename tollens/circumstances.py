"""The circumstances of a run: host, commit, packages; reads them, decides nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from tollens.digests import git
from tollens.evidence import Host, Run

PACKAGES = (
    *("gguf", "hypothesis", "llama-cpp-python", "numpy", "pydantic", "pytest", "pyyaml"),
    *("starlette", "tokenizers", "tollens", "torch", "transformers", "triton"),
)


def utc_now() -> str:
    """The time as evidence and history write it: UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@cache
def host() -> Host:
    """The machine: CPU model, cores, memory, GPU and driver where there is one."""
    gpu, driver = _gpu()
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Host(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        memory_gib=round(pages / 2**30, 1),
        gpu=gpu,
        driver=driver,
        system=f"{platform.system()} {platform.machine()}",
    )


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found else platform.processor() or "unknown"


def _gpu() -> tuple[str | None, str | None]:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    name, _, driver = done.stdout.splitlines()[0].partition(", ") if done.stdout else ("", "", "")
    return name or None, driver or None


@cache
def packages() -> Mapping[str, str]:
    """Versions of the installed packages that a verdict may depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit(root: Path, ignored: Iterable[str]) -> tuple[str | None, bool]:
    """The commit checked out, and whether the tree differs from it outside `ignored` folders."""
    head = git(root, "rev-parse", "HEAD")
    exclude = [f":(exclude){each}" for each in ignored]
    changes = git(root, "status", "--porcelain", "--", ".", *exclude)
    return head, bool(changes)


def describe(
    root: Path,
    started: str,
    ended: str,
    arguments: Sequence[str],
    seed: int,
    machine_written: Iterable[str],
) -> Run:
    """The circumstances of a run that has ended; its sources are added for each contract."""
    head, dirty = commit(root, machine_written)
    command = shlex.join(["pytest", *(_relative(each, root) for each in arguments)])
    return Run(
        start=started,
        end=ended,
        command=command,
        commit=head,
        dirty=dirty,
        host=host(),
        python=".".join(map(str, sys.version_info[:3])),
        packages=dict(packages()),
        seed=seed,
        sources={},
    )


def _relative(argument: str, root: Path) -> str:
    """Evidence names no path outside the project."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else f"…/{path.name}"
