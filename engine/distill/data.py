"""Batches of token windows to learn from: out of shards, or out of a seed.

Knows streams of tokens and random order; knows nothing of text, models or losses. A window has
T + 1 tokens: T inputs, and for each of them the token that follows it in the stream as its label.
A batch is a function of the step, the size and the seed alone, so that a run which goes on after
a stop needs no cursor. Windows that follow each other share one token, and the last one is moved
back to end with the stream: every token but the first is a label, and none is invented.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.distill.stream import Stream, Tokens
from engine.errors import EngineError, FormatError

# What `engine corpus` writes.
TRAIN, HELD_OUT, MANIFEST, KIND = "train", "heldout", "manifest.json", "engine corpus, version 1"
SUCCESSORS = 4  # tokens that may follow one in the synthetic source


@dataclass(frozen=True)
class Batch:
    """B windows. `windows` are their places in the source whose digest is `source`."""

    inputs: Tensor  # int64 [B, T]
    labels: Tensor  # int64 [B, T]
    step: int
    windows: tuple[int, ...]
    source: str


class Source(Protocol):
    """Where batches come from; `len` counts windows, `digest` is of their contents."""

    seq_len: int  # T
    vocabulary_size: int  # no token is beyond
    vocabulary: str | None  # the digest of the tokens that its ids are of, where that is known

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int: ...

    def take(self, windows: Sequence[int], step: int = 0) -> Batch:
        """Exactly these windows, in this order."""

    def batch(self, step: int, size: int) -> Batch:
        """The batch of `step`, which counts from 0; after the last window it goes on anew."""


class _Windows(ABC):
    """What sources have in common: the order of windows, and inputs with labels out of tokens."""

    seq_len: int
    vocabulary_size: int
    vocabulary: str | None = None
    seed: int | None

    @property
    @abstractmethod
    def digest(self) -> str: ...

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def tokens(self, windows: Sequence[int]) -> Tokens:
        """[B, T + 1]."""

    def batch(self, step: int, size: int) -> Batch:
        places = range(step * size, (step + 1) * size)
        return self.take([self._at(place) for place in places], step)

    def take(self, windows: Sequence[int], step: int = 0) -> Batch:
        for window in windows:
            if not 0 <= window < len(self):
                raise EngineError(f"window: found {window}, expected 0 to {len(self) - 1}")
        tokens = torch.from_numpy(self.tokens(windows))
        inputs, labels = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        return Batch(inputs, labels, step, tuple(windows), self.digest)

    def _at(self, place: int) -> int:
        """The window at `place` of an endless order: each epoch has all of them once."""
        epoch, place = divmod(place, len(self))
        return place if self.seed is None else int(_order(len(self), self.seed, epoch)[place])


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """All windows of an epoch, shuffled: by raw PCG64 output, the same in every numpy."""
    raw = np.random.PCG64([seed, epoch]).random_raw(count)
    return np.argsort(raw, kind="stable")


class Shards(_Windows):
    """Windows over the shards of a folder, or over one part of their stream.

    `seed` shuffles them anew in each epoch; None keeps the order of the stream. `part` is a
    fraction of the stream, from and to; windows of different parts share no token. Raises
    `FormatError` for a folder that is empty, a bad file, and a stream that has no whole window.
    """

    def __init__(
        self,
        folder: str | Path,
        seq_len: int,
        *,
        vocabulary_size: int,
        seed: int | None = 0,
        part: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        if seq_len < 1:
            raise EngineError(f"seq_len: found {seq_len}, expected at least 1")
        self.seq_len, self.vocabulary_size, self.seed = seq_len, vocabulary_size, seed
        self.vocabulary = _vocabulary(Path(folder))
        self._stream = Stream(folder, vocabulary_size)
        self._start, self._stop = (int(len(self._stream) * each) for each in part)
        if self._stop - self._start < seq_len + 1:
            raise FormatError(
                f"{folder}: found {self._stop - self._start} tokens"
                f"{'' if part == (0.0, 1.0) else f' in the part {part[0]:g} to {part[1]:g}'}, "
                f"expected at least {seq_len + 1}, a window of {seq_len} and the token after it"
            )

    @property
    def digest(self) -> str:
        """Of the tokens, the part and the window; not of names, seed or how files are cut."""
        text = f"{self._stream.digest} {self._start} {self._stop} {self.seq_len}"
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return -(-(self._stop - self._start - 1) // self.seq_len)

    def tokens(self, windows: Sequence[int]) -> Tokens:
        last = self._stop - self.seq_len - 1
        starts = [min(self._start + window * self.seq_len, last) for window in windows]
        return np.stack([self._stream.read(start, self.seq_len + 1) for start in starts])


def _vocabulary(folder: Path) -> str | None:
    """What a corpus says of its tokens; other folders of shards say nothing."""
    for path in (folder / MANIFEST, folder.parent / MANIFEST):
        try:
            found = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            raise FormatError(f"{path}: found {error}, expected a corpus's manifest") from error
        if isinstance(found, dict) and found.get("kind") == KIND:
            return str(found.get("vocabulary"))
    return None


class Synthetic(_Windows):
    """A language from a seed: each token is followed by one of four, all as likely.

    Whoever has learned it has a loss of log 4 and no less. The held-out windows speak the same
    language and say other things.
    """

    def __init__(
        self,
        seq_len: int,
        *,
        vocabulary_size: int,
        seed: int = 0,
        windows: int = 1024,
        held_out: bool = False,
    ) -> None:
        if min(seq_len, vocabulary_size, windows) < 1:
            raise EngineError(
                f"synthetic data: found seq_len {seq_len}, vocabulary {vocabulary_size} and "
                f"{windows} windows, expected at least 1 of each"
            )
        self.seq_len, self.vocabulary_size = seq_len, vocabulary_size
        self.seed = None if held_out else seed
        self._count, self._language, self._salt = windows, seed, int(held_out)
        raw = np.random.PCG64(seed).random_raw(vocabulary_size * SUCCESSORS)
        self._next = (raw % vocabulary_size).astype(np.int64).reshape(-1, SUCCESSORS)

    @property
    def digest(self) -> str:
        sizes = (self.seq_len, self.vocabulary_size, self._language, self._count, self._salt)
        return hashlib.sha256(f"synthetic {sizes}".encode()).hexdigest()

    def __len__(self) -> int:
        return self._count

    def tokens(self, windows: Sequence[int]) -> Tokens:
        drawn = np.stack([self._drawn(window) for window in windows])
        made = [(drawn[:, 0] % self.vocabulary_size).astype(np.int64)]
        for choice in (drawn[:, 1:] % SUCCESSORS).T:
            made.append(self._next[made[-1], choice])
        return np.stack(made, axis=1)

    def _drawn(self, window: int) -> npt.NDArray[np.uint64]:
        return np.random.PCG64([self._language, self._salt, window]).random_raw(self.seq_len + 1)


def open_data(
    folder: str | Path,
    seq_len: int,
    *,
    vocabulary_size: int,
    seed: int = 0,
    held_out: float = 0.05,
) -> tuple[Shards, Shards]:
    """What to learn from and what to judge by, which share no token.

    A corpus of `engine corpus` is cut by file, in folders of their own; of any other folder of
    shards the last `held_out` of the stream is judged by.
    """
    folder = Path(folder)
    if (folder / TRAIN).is_dir():
        parts = [(folder / TRAIN, seed, (0.0, 1.0)), (folder / HELD_OUT, None, (0.0, 1.0))]
    elif 0 < held_out < 1:
        parts = [(folder, seed, (0.0, 1 - held_out)), (folder, None, (1 - held_out, 1.0))]
    else:
        raise EngineError(f"held_out: found {held_out}, expected a fraction between 0 and 1")
    train, judge = (
        Shards(path, seq_len, vocabulary_size=vocabulary_size, seed=order, part=part)
        for path, order, part in parts
    )
    return train, judge
