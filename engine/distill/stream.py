"""Tokens on disk: `.bin` shards of unsigned 32-bit little-endian ids, read as one stream.

Knows files; knows nothing of windows, batches or models. The shards of a folder follow each other
in the order of their names, and the first token of one is what comes after the last token of the
one before. They are mapped: nothing is copied until it is used.
"""

import hashlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.errors import FormatError

TOKEN = np.dtype("<u4")
PIECE = 1 << 22  # tokens looked at together
Tokens = npt.NDArray[np.int64]


class Stream:
    """The tokens of all `*.bin` files in a folder. `len` counts them.

    Every token is looked at once, here: a `FormatError` names the file, and the place of a token
    that is not below `vocabulary_size`. `digest` is of the tokens in their order, however they are
    cut into files.
    """

    def __init__(self, folder: str | Path, vocabulary_size: int) -> None:
        self.folder = Path(folder)
        self.files = sorted(path for path in self.folder.glob("*.bin") if path.is_file())
        if not self.files:
            raise FormatError(
                f"{folder}: found no *.bin file, expected shards, as python -m engine corpus makes"
            )
        self._shards = [_open(path) for path in self.files]
        self._ends = list(accumulate(len(shard) for shard in self._shards))
        digest = hashlib.sha256()
        for path, shard in zip(self.files, self._shards, strict=True):
            for start in range(0, len(shard), PIECE):
                piece = shard[start : start + PIECE]
                _check(path, start, piece, vocabulary_size)
                digest.update(piece.tobytes())
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, start: int, count: int) -> Tokens:
        """`count` tokens from place `start` on, across the ends of shards."""
        parts, place = [], bisect_right(self._ends, start)
        while count:
            shard = self._shards[place]
            first = start - (self._ends[place] - len(shard))
            parts.append(shard[first : first + count])
            start, count = start + len(parts[-1]), count - len(parts[-1])
            place += 1
        return np.concatenate(parts).astype(np.int64)


def _open(path: Path) -> npt.NDArray[np.uint32]:
    try:
        size = path.stat().st_size
        if size % TOKEN.itemsize:
            raise FormatError(f"{path}: found {size} bytes, expected a multiple of 4, for u32 ids")
        return np.memmap(path, TOKEN, "r") if size else np.empty(0, TOKEN)
    except OSError as error:
        raise FormatError(f"{path}: found {error.strerror}, expected to read it") from error


def _check(path: Path, start: int, piece: npt.NDArray[np.uint32], vocabulary_size: int) -> None:
    if piece.max() >= vocabulary_size:
        at = int(np.argmax(piece >= vocabulary_size))
        raise FormatError(
            f"{path}: found token {piece[at]} at position {start + at}, "
            f"expected 0 to {vocabulary_size - 1}"
        )
