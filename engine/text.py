"""Tokens to text as it comes: whole characters only, and nothing from a stop string on.

Knows stop strings, which may begin in one token and end in another; knows nothing of how tokens
are chosen or where the text goes.
"""

from collections.abc import Sequence

from engine.errors import EngineError
from engine.tokenizer import Tokenizer


class TextStream:
    """The text of one answer; what `feed` and `flush` return adds up to it.

    Text that may yet turn out to begin a stop string, or a character, is held back until that is
    decided. `decoded` and `released` count characters: all so far, and those returned. `stopped`
    says that a stop string was found; nothing is to be fed after that. Raises `EngineError` for a
    stop string that is empty.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        if "" in stops:
            raise EngineError("stop: found an empty text, expected at least one character")
        self.decoded = 0
        self.released = 0
        self.stopped = False
        self._decoder = tokenizer.stream()
        self._stops = stops
        self._held = ""

    def feed(self, token: int) -> str:
        """The text that is final after this token; may be empty."""
        return self._release(self._decoder.feed(token))

    def flush(self) -> str:
        """What is left at the end: a stop string's beginning, an unfinished character (U+FFFD)."""
        if self.stopped:
            return ""
        ready = self._release(self._decoder.flush())
        rest = "" if self.stopped else self._held
        self.released += len(rest)
        return ready + rest

    def _release(self, text: str) -> str:
        self.decoded += len(text)
        self._held += text
        stop = find_stop(self._held, self._stops)
        self.stopped = stop is not None
        end = len(self._held) - overlap(self._held, self._stops) if stop is None else stop
        ready, self._held = self._held[:end], self._held[end:]
        self.released += len(ready)
        return ready


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop string in `text` starts that is the first to be complete.

    Not the first to start: that would make the answer depend on how its text is cut into tokens.
    """
    found = [(place + len(stop), place) for stop in stops if (place := text.find(stop)) >= 0]
    return min(found)[1] if found else None


def overlap(text: str, stops: Sequence[str]) -> int:
    """The length of the longest end of `text` that a stop string begins with."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0
