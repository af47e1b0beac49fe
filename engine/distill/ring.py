"""Makes the next pieces of work in another thread, in order, while the current one is used.

Knows threads, streams of a CUDA device and clocks; knows nothing of what is made. How well it
hides what it takes is measured: `busy` is how long making took, `waited` how long it was waited
for. A depth of 0 makes each piece when it is asked for.
"""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")
LOOK = 0.05  # seconds between two looks at whether to stop


class Ended(Exception):
    """There is no more work, or it was asked to stop."""


class Ring(Generic[Item, Made]):
    """`make` of each of `items`, at most `depth` of them ahead of who takes them."""

    def __init__(
        self,
        make: Callable[[Item], Made],
        items: Iterable[Item],
        depth: int,
        device: torch.device | None = None,
    ) -> None:
        self.busy = self.waited = 0.0  # seconds
        self._lap = (0.0, 0.0)
        self._make, self._items, self._device = make, iter(items), device
        self._queue: Queue[tuple[Made | None, BaseException | None]] = Queue(max(1, depth))
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
        self._ahead = depth > 0
        if self._ahead:
            self._thread.start()

    def take(self, stopped: Callable[[], bool] = lambda: False) -> Made:
        """The next piece; `Ended` where there is none, or where `stopped` says so meanwhile.

        What `make` raised is raised here.
        """
        started = time.perf_counter()
        try:
            return self._take(stopped) if self._ahead else self._timed(next(self._items))
        except StopIteration:
            raise Ended from None
        finally:
            self.waited += time.perf_counter() - started

    def _take(self, stopped: Callable[[], bool]) -> Made:
        while True:
            try:
                made, error = self._queue.get(timeout=LOOK)
            except Empty:
                if stopped():
                    raise Ended from None
                continue
            if error is not None:
                raise error
            return made  # type: ignore[return-value]  # is there where no error is

    def _timed(self, item: Item) -> Made:
        started = time.perf_counter()
        try:
            return self._make(item)
        finally:
            self.busy += time.perf_counter() - started

    def _work(self) -> None:
        stream = self._stream()
        with torch.cuda.stream(stream) if stream is not None else nullcontext():
            open_end = True
            while open_end:
                made, error = self._next()
                if stream is not None:
                    stream.synchronize()  # in this thread alone: what is handed over is done
                open_end = self._put((made, error)) and error is None

    def _next(self) -> tuple[Made | None, BaseException | None]:
        try:
            return self._timed(next(self._items)), None
        except StopIteration:
            return None, Ended()
        except BaseException as error:  # handed to the thread that takes, which raises it
            return None, error

    def _put(self, made: tuple[Made | None, BaseException | None]) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(made, timeout=LOOK)
                return True
            except Full:
                continue
        return False

    def _stream(self) -> "torch.cuda.Stream | None":
        """A CUDA stream of this thread's own; None on other devices."""
        if self._device is None or self._device.type != "cuda":
            return None
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    def lap(self) -> dict[str, float]:
        """Seconds that making took and was waited for, since this was last asked."""
        before, self._lap = self._lap, (self.busy, self.waited)
        return {"made": self._lap[0] - before[0], "waited": self._lap[1] - before[1]}

    def close(self) -> None:
        """Make no more, and wait for the thread to end."""
        self._closed.set()
        if self._ahead:
            self._thread.join()
