"""Opens a GGUF file by memory map: metadata as plain Python values, tensors as raw bytes.

Knows the container; knows nothing of what the tensors mean or how their blocks decode. No byte
of a tensor is read until somebody uses it. Nothing in the file is believed: every count, length
and offset is compared with the bytes that are there before anything is made of it. It is its own
reader because the `gguf` package's takes eight seconds for a vocabulary of 152,000 tokens and
trusts what it reads; that package is the oracle of the falsifiers.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from engine.errors import EngineError, FormatError, TensorError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 4
STRING, ARRAY = 8, 9  # value types
# value type -> little-endian number
NUMBERS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
SMALLEST_ENTRY = 8 + 4 + 1  # bytes of a key's length, a value's type and a value
SMALLEST_TENSOR = 8 + 4 + 8 + 4 + 8  # bytes of a name's length, rank, one size, type and offset

Bytes = npt.NDArray[np.uint8]


class RawTensor(NamedTuple):
    """A tensor as the file holds it: type name, row-major shape ([out, in]), and its bytes.

    The bytes are flat views: one, or one for each entry of the first dimension where those (the
    experts) are stored apart.
    """

    parts: tuple[Bytes, ...]
    type: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """The size of the encoded tensor."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Checkpoint:
    """An open model: `metadata` by GGUF key, `tensors` by GGUF name, whatever the container."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, RawTensor]


def open_gguf(path: str | Path) -> Checkpoint:
    """Map the file at `path`. A bad one gives a `FormatError`, or a `TensorError` that names the
    tensor; both name the file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:  # a map of nothing
        raise FormatError(f"{path}: found 0 bytes, expected a GGUF file") from error
    except OSError as error:
        raise FormatError(f"{path}: found {error.strerror}, expected a GGUF file") from error
    try:
        metadata, tensors = _Reader(data).read()
    except EngineError as error:
        raise type(error)(f"{path}: {error}") from error
    return Checkpoint(path, metadata, tensors)


@dataclass
class _Reader:
    """A cursor over the header of the file."""

    data: mmap.mmap
    at: int = 0

    def read(self) -> tuple[dict[str, Any], dict[str, RawTensor]]:
        tensors, entries = self._start()
        metadata = self._metadata(entries)
        infos = self._infos(tensors)
        return metadata, self._tensors(infos, _alignment(metadata))

    def _tensors(self, infos: "dict[str, _Info]", alignment: int) -> dict[str, RawTensor]:
        """Views of the tensors' bytes, which follow the header and each other without gaps."""
        buffer = np.frombuffer(self.data, np.uint8)
        base, offset = _aligned(self.at, alignment), 0
        tensors: dict[str, RawTensor] = {}
        for name, info in infos.items():
            if info.offset != offset:  # another tensor's bytes would pass for this one's
                raise TensorError(f"{name}: found offset {info.offset}, expected {offset}")
            tensors[name] = info.tensor(name, buffer[base + offset :])
            offset += _aligned(tensors[name].bytes, alignment)
        return tensors

    def _start(self) -> tuple[int, int]:
        """Magic, version, and how many tensors and metadata entries are to come."""
        magic, version = self._take(4, "the magic"), self._number("<I", "the version")
        if magic != MAGIC:
            raise FormatError(f"found magic {magic!r}, expected {MAGIC!r}, a GGUF file")
        if version not in VERSIONS:
            big = version.to_bytes(4, "little")[::-1] in {v.to_bytes(4, "little") for v in VERSIONS}
            found = "big-endian data" if big else f"version {version}"
            raise FormatError(f"found {found}, expected little-endian version 2 or 3")
        return (
            self._count("tensors", SMALLEST_TENSOR),
            self._count("metadata entries", SMALLEST_ENTRY),
        )

    def _metadata(self, count: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for place in range(count):
            key = self._string(f"the name of metadata entry {place}")
            if key in metadata:
                raise FormatError(f"metadata key {key!r:.80}: found it twice, expected it once")
            where = f"metadata key {key!r:.80}"
            metadata[key] = self._value(self._number("<I", where), where)
        return metadata

    def _infos(self, count: int) -> dict[str, "_Info"]:
        infos: dict[str, _Info] = {}
        for place in range(count):
            name = self._string(f"the name of tensor {place}")
            if name in infos:
                raise TensorError(f"{name!r:.80}: found it twice, expected it once")
            rank = self._number("<I", f"tensor {name!r:.80}")
            if not 1 <= rank <= MOST_DIMENSIONS:
                raise TensorError(f"{name!r:.80}: found {rank} dimensions, expected 1 to 4")
            sizes = [self._number("<Q", f"tensor {name!r:.80}") for _ in range(rank)]
            kind = self._number("<I", f"tensor {name!r:.80}")
            offset = self._number("<Q", f"tensor {name!r:.80}")
            infos[name] = _Info(tuple(reversed(sizes)), kind, offset)  # row length comes first
        return infos

    def _value(self, kind: int, where: str) -> Any:
        if kind == STRING:
            return self._string(where)
        if kind == ARRAY:
            return self._array(where)
        return self._numbers(kind, 1, where)[0]

    def _array(self, where: str) -> list[Any]:
        kind = self._number("<I", where)
        if kind == STRING:
            return self._strings(self._count(f"strings in {where}", 8), where)
        if kind == ARRAY:
            raise FormatError(f"{where}: found an array of arrays, expected numbers or strings")
        return self._numbers(kind, self._count(f"values in {where}", 1), where)

    def _numbers(self, kind: int, count: int, where: str) -> list[Any]:
        if kind not in NUMBERS:
            raise FormatError(f"{where}: found value type {kind}, expected 0 to 12")
        dtype = np.dtype(NUMBERS[kind])
        values: list[Any] = np.frombuffer(self._take(count * dtype.itemsize, where), dtype).tolist()
        return values

    def _strings(self, count: int, where: str) -> list[str]:
        """Many strings at once; this loop is most of the time that a vocabulary takes."""
        data, at, size_at, texts = self.data, self.at, struct.Struct("<Q").unpack_from, []
        try:
            for _ in range(count):
                start = at + 8
                at = start + size_at(data, at)[0]
                texts.append(data[start:at].decode())
        except (struct.error, OverflowError, ValueError) as error:
            raise FormatError(f"{where}: found {error}, expected UTF-8 strings") from error
        if at > len(data):
            raise self._ends_early(where, at - self.at)
        self.at = at
        return texts

    def _string(self, where: str) -> str:
        data = self._take(self._count(f"bytes in {where}", 1), where)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{where}: found {error}, expected UTF-8") from error

    def _count(self, what: str, size: int) -> int:
        """A count of things that take at least `size` bytes each, so that it cannot be absurd."""
        count = self._number("<Q", f"the number of {what}")
        if count * size > len(self.data) - self.at:
            raise FormatError(
                f"found {count} {what}, expected at most "
                f"{(len(self.data) - self.at) // size}, which is what the file has room for"
            )
        return count

    def _number(self, form: str, where: str) -> int:
        number: int = struct.unpack(form, self._take(struct.calcsize(form), where))[0]
        return number

    def _take(self, size: int, where: str) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise self._ends_early(where, size)
        taken, self.at = self.data[self.at : end], end
        return taken

    def _ends_early(self, where: str, size: int) -> FormatError:
        left = len(self.data) - self.at
        return FormatError(f"{where}: found {left} bytes before the file ends, expected {size}")


class _Info(NamedTuple):
    """What the header says of a tensor."""

    shape: tuple[int, ...]
    kind: int
    offset: int

    def tensor(self, name: str, rest: Bytes) -> RawTensor:
        """The view of its bytes at the start of `rest`, if all of them are there."""
        kind = _type(name, self.kind)
        per_block, block_bytes = GGML_QUANT_SIZES[kind]
        if self.shape[-1] % per_block:
            raise TensorError(
                f"{name}: found rows of {self.shape[-1]}, "
                f"expected a multiple of {per_block} for {kind.name}"
            )
        size = prod(self.shape) // per_block * block_bytes  # Python's integers do not overflow
        if not 0 < size <= rest.size:
            raise TensorError(
                f"{name}: found shape {list(self.shape)} of {kind.name}, which is {size} bytes, "
                f"expected 1 to {rest.size}, which are left in the file"
            )
        return RawTensor((rest[:size],), kind.name, self.shape)


def _type(name: str, kind: int) -> GGMLQuantizationType:
    try:
        return GGMLQuantizationType(kind)
    except ValueError as error:
        raise TensorError(f"{name}: found tensor type {kind}, expected one of ggml's") from error


def _alignment(metadata: Mapping[str, Any]) -> int:
    found = metadata.get("general.alignment", 32)
    if not isinstance(found, int) or found < 8 or found & (found - 1):
        raise FormatError(
            f"metadata key general.alignment: found {found!r:.60}, expected a power of two from 8"
        )
    return found


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
