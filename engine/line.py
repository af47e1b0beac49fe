"""Whose turn it is to generate: one request at a time, a bounded number waits, the rest is refused.

Knows turns and the one worker thread; knows nothing of HTTP or of what is generated.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from engine.errors import RequestError

T = TypeVar("T")


class Line:
    """One request generates, `max_waiting` may wait in order, the next is refused.

    Work runs in a single thread: a request that is cancelled gives up its turn at once, and the
    next one starts when the thread has done the token that it was at.
    """

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self._present = 0
        self._turn = asyncio.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="generate")

    @property
    def waiting(self) -> int:
        """How many are in the line but not at the front."""
        return self._present - self._turn.locked()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the line; `RequestError` (429) where it is full."""
        if self._present > self.max_waiting:
            raise RequestError(
                f"queue: found it full, expected at most {self.max_waiting} to wait; retry later",
                status=429,
                code="queue_full",
            )
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn and hold it; first come, first served."""
        async with self._turn:
            yield

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """`work(*args)`, done in the worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)
