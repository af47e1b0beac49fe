"""What the kernel does to hold a candidate: namespaces, a root of its own, limits, a filter.

Knows Linux's system calls; knows nothing of what is confined. Each step makes the calling process
poorer, for ever. Loaded in the sandbox, so it imports the standard library only. Sources: the
manual's namespaces(7), pivot_root(2), mount_setattr(2), seccomp(2) and capabilities(7).
"""

import ctypes
import os
import platform
import signal
import struct
import sys
from collections.abc import Callable, Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

NOBODY = 65534
FREE = 0x70000000  # users from here on are given to nobody
FLAGS = {"mount": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "network": 0x40000000}
NEW_USER, NEW_PID, THREAD = 0x10000000, 0x20000000, 0x10000
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/nix/store")  # where shared libraries are
PROGRAMS = ("/bin",)  # what a shell needs besides
NOWHERE = "/dev/null"
TEMPORARY = "/tmp"  # inside: the one place to write
NO_SUID, NO_DEVICES, PRIVATE, RECURSIVE, BIND, DETACH = 2, 4, 1 << 18, 1 << 14, 1 << 12, 2
READ_ONLY = 1
DEATH_SIGNAL, DUMPABLE, SECCOMP, NO_NEW_PRIVILEGES = 1, 4, 22, 38  # of prctl

# Per machine: the audit architecture, and the numbers of what a candidate may not call:
# sockets, other programs, signals, looking into processes, and what reaches the kernel deeper.
REFUSED: Mapping[str, tuple[int, int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        56,  # clone
        # socket, fork, vfork, execve, kill, ptrace, prio, sched_*, pivot_root, setrlimit, mount
        (41, 57, 58, 59, 62, 101, 129, 141, 142, 144, 155, 160, 161, 165, 166, 200, 203, 234)
        # keys, ioprio, migrate, unshare, move_pages, perf, prlimit, setns, process_vm_*, kcmp, bpf
        + (248, 249, 250, 251, 256, 272, 279, 297, 298, 302, 308, 310, 311, 312, 314, 321, 322)
        + (323, 424, 425, 428, 429, 430, 434, 438, 440, 442),  # userfaultfd, pidfd_*, io_uring, …
    ),
    "aarch64": (
        0xC00000B7,
        220,
        (30, 39, 40, 41, 51, 97, 117, 118, 119, 122, 129, 130, 131, 138, 140, 164, 198, 217, 218)
        + (219, 221, 238, 239, 240, 241, 261, 268, 270, 271, 272, 274, 280, 281, 282)
        + (424, 425, 428, 429, 430, 434, 438, 440, 442),
    ),
}
# What starting and ending programs takes; without a namespace of processes it would reach others.
STARTING = {"x86_64": {57, 58, 59, 62, 200, 234}, "aarch64": {129, 130, 131, 221}}
CLONE3, MOUNT_SETATTR = 435, 442
SPACES = 0x7E020000  # clone's flags for namespaces
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000  # refuse: EPERM
UNKNOWN_CALL = 0x00050026  # ENOSYS, on which the C library falls back on clone


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class Unconfined(Exception):
    """The kernel does not allow a step."""


def confine(plan: Mapping[str, Any], keep: Collection[int], folder: str) -> None:
    """Take every step that `plan` names, in this order; only the descriptors `keep` stay open.

    `folder` is an empty one of this process's own: where its root is mounted, or, without a root,
    where it may write. Raises `Unconfined`, after which the process is to end.
    """
    die_with_parent()
    os.setsid()
    for name, step in STEPS.items():
        if name in plan["steps"]:
            try:
                step(plan, keep, folder)
            except OSError as error:
                raise Unconfined(f"{name}: {error}") from error


def can_become(user: int) -> bool:
    """Whether this process is root, in a namespace of users that has this one in it."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    ranges = [tuple(map(int, line.split())) for line in lines]
    mapped = any(first <= user < first + count for first, _, count in ranges)
    return os.geteuid() == 0 and mapped


def separate_processes(become_nobody: bool) -> None:
    """Children see no process but their own, and end with the first.

    Whoever cannot `become_nobody` later needs a namespace of users for that, and is nobody in it.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        if not become_nobody:
            _call("unshare", NEW_USER)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{NOBODY} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{NOBODY} {group} 1")
        _call("unshare", NEW_PID)
    except OSError as error:
        raise Unconfined(f"namespaces: {error}") from error


def die_with_parent() -> None:
    _call("prctl", DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)


def hide_memory() -> None:
    """No other process of the same user may look into this one."""
    _call("prctl", DUMPABLE, 0, 0, 0, 0)


def _descriptors(plan: Mapping[str, Any], keep: Collection[int], folder: str) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    first = 3
    for each in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        os.closerange(first, each)
        first = each + 1


def _namespaces(plan: Mapping[str, Any], keep: Collection[int], folder: str) -> None:
    _call("unshare", sum(FLAGS[name] for name in plan["namespaces"]))


def _root(plan: Mapping[str, Any], keep: Collection[int], folder: str) -> None:
    """Only the system's libraries and Python's, read-only, and an empty folder to write into."""
    _mount(None, "/", None, PRIVATE | RECURSIVE)
    _mount("tmpfs", folder, "tmpfs", NO_SUID | NO_DEVICES, "size=1m,mode=755")
    libraries = os.path.dirname(os.__file__)
    shown: list[str] = []
    programs = PROGRAMS if plan.get("programs") else ()
    for path in (*SYSTEM, *programs, sys.base_prefix, libraries):
        inside = folder + path
        if any(os.path.commonpath([path, each]) == each for each in shown):
            continue
        if os.path.islink(path):
            os.symlink(os.readlink(path), inside)
        elif os.path.isdir(path):
            os.makedirs(inside)
            _mount(path, inside, None, BIND | RECURSIVE)
            _protect(inside, RECURSIVE)
            shown.append(path)
    if programs:
        _show_nowhere(folder + NOWHERE)
    os.mkdir(folder + TEMPORARY)
    size = f"size={plan['folder_bytes']},nr_inodes=4096,mode=1777"
    _mount("tmpfs", folder + TEMPORARY, "tmpfs", NO_SUID | NO_DEVICES, size)
    _protect(folder, 0)
    os.chdir(folder)
    _call("syscall", PIVOT_ROOT[platform.machine()], b".", b".")
    _call("umount2", b".", DETACH)
    os.chdir(TEMPORARY)


def _show_nowhere(inside: str) -> None:
    """The one device that programs take for granted."""
    os.mkdir(os.path.dirname(inside))
    os.close(os.open(inside, os.O_CREAT))
    _mount(NOWHERE, inside, None, BIND)


def _protect(path: str, recursive: int) -> None:
    """Make a mount, or all below it, read-only."""
    attributes = struct.pack("=QQQQ", READ_ONLY | NO_SUID | NO_DEVICES, 0, 0, 0)
    at_recursive = 0x8000 if recursive else 0
    _call("syscall", MOUNT_SETATTR, -100, path.encode(), at_recursive, attributes, len(attributes))


def _limits(plan: Mapping[str, Any], keep: Collection[int], folder: str) -> None:
    import resource  # which Windows lacks

    for name, most in plan["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))


def _privileges(plan: Mapping[str, Any], keep: Collection[int], folder: str) -> None:
    """No capabilities, none by running a program, and not root."""
    if plan["become_nobody"]:
        os.setgroups([])
        user = plan["user"]
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    none = struct.pack("=6I", *[0] * 6)
    _call("capset", struct.pack("=Ii", 0x20080522, 0), none)
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    die_with_parent()  # which a change of user forgets


def _filter(plan: Mapping[str, Any], keep: Collection[int], folder: str) -> None:
    """Refuse system calls that a function from arguments to a value never needs.

    Where the plan has programs, those that start and end them are let through.
    """
    machine = platform.machine()
    if machine not in REFUSED:
        raise OSError(f"found the machine {machine}, expected one of {', '.join(REFUSED)}")
    architecture, clone, refused = REFUSED[machine]
    if plan.get("programs"):
        refused = tuple(each for each in refused if each not in STARTING[machine])
        lines = _program(architecture, clone, refused, (0, 1, SPACES))
    else:
        lines = _program(architecture, clone, refused, (1, 0, THREAD))
    code = b"".join(struct.pack("=HBBI", *each) for each in lines)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    _call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _call("prctl", SECCOMP, 2, program)


def _program(
    architecture: int, clone: int, refused: tuple[int, ...], cloning: tuple[int, int, int]
) -> list[tuple[int, int, int, int]]:
    """BPF: (code, jump if true, jump if false, number) of each instruction.

    `cloning` looks at clone's flags and jumps over the refusal where they may be.
    """
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    made = [(load, 0, 0, 4), (equal, 1, 0, architecture), (give, 0, 0, KILL)]
    made += [(load, 0, 0, 0), (at_least, 0, 1, 0x40000000), (give, 0, 0, REFUSE)]  # x32's calls
    for number in refused:
        made += [(equal, 0, 1, number), (give, 0, 0, REFUSE)]
    made += [(equal, 0, 1, CLONE3), (give, 0, 0, UNKNOWN_CALL)]
    made += [(equal, 0, 3, clone), (load, 0, 0, 16), (any_bit, *cloning)]  # its flags
    made += [(give, 0, 0, REFUSE), (give, 0, 0, ALLOW)]
    return made


STEPS: Mapping[str, Callable[[Mapping[str, Any], Collection[int], str], None]] = {
    "descriptors": _descriptors,
    "namespaces": _namespaces,
    "root": _root,
    "limits": _limits,
    "privileges": _privileges,
    "filter": _filter,
}


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    texts = [None if each is None else each.encode() for each in (source, target, kind)]
    _call("mount", *texts, ctypes.c_ulong(flags), data.encode() or None)


def _call(name: str, *arguments: Any) -> None:
    """A function of the C library that answers -1 for an error."""
    wide = [ctypes.c_long(each) if type(each) is int else each for each in arguments]
    if getattr(_library(), name)(*wide) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
