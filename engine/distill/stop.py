"""Whether somebody asked the run to stop: Ctrl-C or SIGTERM, the first of which it survives.

Knows signals; knows nothing of what is done before the end. A second signal ends the process at
once, as if nobody had handled it.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """`signal` is the number of the one that came, 0 for none."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self) -> bool:
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal


@contextmanager
def listening() -> Iterator[Stop]:
    """A `Stop` that hears both signals while the body runs; from the main thread alone."""
    stop = Stop()
    before = {each: signal.getsignal(each) for each in SIGNALS}

    def heard(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in SIGNALS:
        signal.signal(each, heard)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
