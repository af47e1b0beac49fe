"""How much memory this process holds, how much of it is not the mapped model; and less of it.

Knows Linux's /proc and the system's own account; knows nothing of models. None where the system
does not tell.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

SMAPS = Path("/proc/self/smaps")
INTERVAL = 0.01  # seconds between two looks


def peak_memory() -> int | None:
    """The most bytes of memory this process has held, mapped files included; None if not known."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return _peak_by_rusage()
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else _peak_by_rusage()


def _peak_by_rusage() -> int | None:
    """Second choice: where a process was started by a larger one it may be that one's."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_over(files: Collection[Path]) -> int | None:
    """Bytes resident in all mappings but those of `files`; Python and its libraries count."""
    names = {str(file.resolve()) for file in files}
    try:
        with SMAPS.open(encoding="utf-8", errors="surrogateescape") as lines:
            return _resident(lines, names)
    except OSError:
        return None


def _resident(lines: Iterable[str], names: Collection[str]) -> int:
    """What the mappings hold, line by line: all of the text at once would be counted too."""
    total, counted = 0, False
    for line in lines:
        key, *rest = line.rstrip("\n").split(maxsplit=5)
        if not key.endswith(":"):  # a mapping begins: addresses, modes, …, its file
            counted = not (len(rest) == 5 and rest[4] in names)
        elif key == "Rss:" and counted:
            total += int(rest[0]) * 1024
    return total


def release_memory() -> None:
    """Give back to the system what was freed and is still held, where the C library can do so."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def in_large_pages(memory: mmap.mmap) -> mmap.mmap:
    """`memory`, for which the system is asked for large pages: to look up small ones takes time.

    Linux gives a file's mapping such pages where its file system keeps the file in them.
    """
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # of a kernel that was built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


@contextmanager
def watching(look: Callable[[], int | None]) -> Iterator[list[int]]:
    """Look again and again, from another thread, while the body runs; all that was seen."""
    seen: list[int] = []
    done = Event()

    def watch() -> None:
        while True:
            found = look()
            if found is not None:
                seen.append(found)
            if found is None or done.wait(INTERVAL):
                return

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
