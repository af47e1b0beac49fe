"""Follows a run wherever it is: each line of its metrics once, across cuts of the connection.

Knows offsets and patience; knows nothing of terminals or of what the rows mean.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from engine.dispatch.host import Cut, Host
from engine.errors import EngineError, FormatError

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds
Tell = Callable[[str], None]
Row = dict[str, Any]


class Lost(EngineError):
    """A host that was there cannot be reached any more."""


@dataclass
class Patience:
    """Waits longer each time a connection is cut, and for `seconds` in all until it is made."""

    seconds: float
    tell: Tell
    since: float = 0.0
    pause: float = FIRST_PAUSE

    def renew(self) -> None:
        """The connection is there."""
        self.since, self.pause = 0.0, FIRST_PAUSE

    def wait(self, error: Cut) -> None:
        """Raises `Lost` where it was waited for long enough."""
        self.since = self.since or time.monotonic()
        away = time.monotonic() - self.since
        if away + self.pause > self.seconds:
            raise Lost(f"{error}; gave up after {away:.0f} s") from error
        self.tell(f"connection lost: {error}")
        self.tell(f"the run goes on without it; trying again in {self.pause:.0f} s")
        time.sleep(self.pause)
        self.pause = min(2 * self.pause, LONGEST_PAUSE)


@dataclass
class Follower:
    """`seen` is what came so far of `metrics.jsonl`, byte by byte; `state` how the job stands."""

    host: Host
    run: str
    patience: Patience
    tell: Tell
    seen: bytearray = field(default_factory=bytearray)
    state: dict[str, Any] = field(default_factory=dict)
    steps: int | None = None

    def rows(self) -> Iterator[Row]:
        """Each row as it comes, until the job is over; then `state` says how it ended.

        After a run went on from a checkpoint its rows begin again. Raises `Cut` where the host
        cannot be reached at first, `Lost` where not for too long afterwards.
        """
        while True:
            try:
                for rows in self._connection():
                    self.patience.renew()
                    yield from rows
                return
            except Cut as error:
                if not self.state:
                    raise
                self.patience.wait(error)

    def _connection(self) -> Iterator[list[Row]]:
        """What comes over one connection; a sign of life is an empty list."""
        again = bool(self.state)
        with self.host.talk("follow", run=self.run, **position(self.seen)) as talk:
            for frame in talk.frames():
                if again:
                    self.tell(f"connected again, after {len(self.seen):,} bytes of metrics")
                    again = False
                self._note(frame)
                yield self._take(frame["at"], frame["data"]) if "data" in frame else []
            self.state = talk.answer

    def _note(self, frame: dict[str, Any]) -> None:
        """How the job stands, told where it changed."""
        now = frame.get("state", self.state)
        if now.get("state") != self.state.get("state") and now["state"] != "none":
            self.tell(f"the job is {now['state']}")
        self.state, self.steps = now, frame.get("steps", self.steps)

    def _take(self, at: int, data: str) -> list[Row]:
        if at not in (0, len(self.seen)):
            raise FormatError(f"{self.run}: found a line at byte {at}, expected {len(self.seen)}")
        del self.seen[at:]
        self.seen += data.encode()
        try:
            return [json.loads(line) for line in data.splitlines()]
        except ValueError as error:
            raise FormatError(
                f"{self.host}: {self.run}: found {error}, expected a row of metrics"
            ) from error


def position(seen: bytearray) -> dict[str, Any]:
    """Where to go on, and the digest of what came before, as a run may have begun again."""
    return {"offset": len(seen), "digest": hashlib.sha256(seen).hexdigest()}
