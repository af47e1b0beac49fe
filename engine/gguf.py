"""Opens a GGUF file by memory map: metadata as plain Python values, tensors as raw bytes.

Knows the container; knows nothing of what the tensors mean or how their blocks decode. No byte
of a tensor is read until somebody uses it. Nothing in the file is believed: every count, length
and offset is compared with the bytes that are there before anything is made of it. It is its own
reader because the `gguf` package's takes eight seconds for a vocabulary of 152,000 tokens and
trusts what it reads; that package is the oracle of the falsifiers. A file that somebody shortens
while it is mapped is beyond help: the system ends the process (SIGBUS).
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from reprlib import repr as shown  # short, however long the value is
from stat import S_ISREG
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from engine.cursor import Cursor
from engine.errors import FormatError, TensorError, naming
from engine.memory import in_large_pages

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_DIMENSIONS = 4
MOST_BYTES = 1 << 26  # of a header; the largest vocabularies need a tenth of it
MOST_ENTRIES = 1 << 16  # of metadata, and tensors
MOST_KEY, MOST_NAME = (1 << 16) - 1, 64  # bytes, by the format
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
    with naming(path):
        metadata, tensors = _read(_map(path))
    return Checkpoint(path, metadata, tensors)


def _map(path: Path) -> mmap.mmap:
    try:
        if not S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
            raise FormatError("found a folder or a device, expected a GGUF file")
        with path.open("rb") as file:
            return in_large_pages(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError as error:  # no bytes to map, or a null byte in the path
        raise FormatError(f"found nothing ({error}), expected a GGUF file") from error
    except OSError as error:
        raise FormatError(f"found {error.strerror}, expected a GGUF file") from error


def _read(data: mmap.mmap) -> tuple[dict[str, Any], dict[str, RawTensor]]:
    header = Cursor(data, min(len(data), MOST_BYTES))
    tensors, entries = _start(header)
    metadata = _metadata(header, entries)
    infos = _infos(header, tensors)
    return metadata, _tensors(data, infos, header.at, _alignment(metadata))


def _start(header: Cursor) -> tuple[int, int]:
    """Magic, version, and how many tensors and metadata entries are to come."""
    magic = header.take(4, "the magic")
    if magic != MAGIC:
        raise FormatError(f"found magic {magic!r}, expected {MAGIC!r}, a GGUF file")
    version = header.number("<I", "the version")
    if version not in VERSIONS:
        big = version.to_bytes(4, "little")[::-1] in {v.to_bytes(4, "little") for v in VERSIONS}
        found = "big-endian data" if big else f"version {version}"
        raise FormatError(f"found {found}, expected little-endian version 2 or 3")
    return (
        header.count("tensors", SMALLEST_TENSOR, MOST_ENTRIES),
        header.count("metadata entries", SMALLEST_ENTRY, MOST_ENTRIES),
    )


def _metadata(header: Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for place in range(count):
        key = header.name(f"the key of metadata entry {place}", MOST_KEY)
        where = f"metadata key {key:.80}"
        if key in metadata:
            raise FormatError(f"{where}: found it twice, expected it once")
        metadata[key] = _value(header, header.number("<I", where), where)
    return metadata


def _value(header: Cursor, kind: int, where: str) -> Any:
    if kind == STRING:
        return header.string(where)
    if kind == ARRAY:
        return _array(header, where)
    return header.numbers(_dtype(kind, where), 1, where)[0]


def _array(header: Cursor, where: str) -> list[Any]:
    kind = header.number("<I", where)
    if kind == STRING:
        return header.strings(header.count(f"strings in {where}", 8), where)
    if kind == ARRAY:
        raise FormatError(f"{where}: found an array of arrays, expected numbers or strings")
    dtype = _dtype(kind, where)
    count = header.count(f"values in {where}", dtype.itemsize)
    return header.numbers(dtype, count, where)


def _dtype(kind: int, where: str) -> np.dtype[Any]:
    if kind not in NUMBERS:
        raise FormatError(f"{where}: found value type {kind}, expected 0 to 12")
    return np.dtype(NUMBERS[kind])


def _infos(header: Cursor, count: int) -> "dict[str, _Info]":
    infos: dict[str, _Info] = {}
    for place in range(count):
        name = header.name(f"the name of tensor {place}", MOST_NAME)
        if name in infos:
            raise TensorError(f"{name}: found it twice, expected it once")
        rank = header.number("<I", name)
        if not 1 <= rank <= MOST_DIMENSIONS:
            raise TensorError(f"{name}: found {rank} dimensions, expected 1 to 4")
        sizes = [header.number("<Q", name) for _ in range(rank)]
        if 0 in sizes:
            raise TensorError(f"{name}: found sizes {sizes}, expected at least 1 each")
        kind, offset = header.number("<I", name), header.number("<Q", name)
        infos[name] = _Info(tuple(reversed(sizes)), kind, offset)  # row length comes first
    return infos


def _tensors(
    data: mmap.mmap, infos: "Mapping[str, _Info]", header: int, alignment: int
) -> dict[str, RawTensor]:
    """Views of the tensors' bytes, which follow the header and each other without gaps."""
    buffer = np.frombuffer(data, np.uint8)
    base, offset = _aligned(header, alignment), 0  # offsets count from base
    tensors: dict[str, RawTensor] = {}
    for name, info in infos.items():
        if info.offset != offset:  # another tensor's bytes would pass for this one's
            raise TensorError(f"{name}: found offset {info.offset}, expected {offset}")
        tensors[name] = info.tensor(name, buffer[base + offset :])
        offset += _aligned(tensors[name].bytes, alignment)
    if buffer.size > base + offset:  # a tensor that nobody names, or counts that are wrong
        raise FormatError(
            f"found {buffer.size} bytes, expected {base + offset}, where the last tensor ends"
        )
    return tensors


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
        if size > rest.size:
            raise TensorError(
                f"{name}: found {rest.size} bytes left in the file, "
                f"expected {size} for shape {list(self.shape)} of {kind.name}"
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
            f"metadata key general.alignment: found {shown(found)}, expected a power of two from 8"
        )
    return found


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
