"""Opens a GGUF file by memory map: metadata as plain Python values, tensors as raw bytes.

Knows the container; knows nothing of what the tensors mean or how their blocks decode. No byte
of a tensor is read until somebody uses it. Parsing is the `gguf` package's `GGUFReader`.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, ReaderTensor

from engine.errors import FormatError

# What GGUFReader lets escape when bytes are missing, hostile or not there at all.
READ_FAILURES = (OSError, ValueError, IndexError, KeyError, OverflowError, TypeError, MemoryError)


class RawTensor(NamedTuple):
    """A tensor as the file holds it: flat uint8 view, type name, row-major shape ([out, in])."""

    raw: npt.NDArray[np.uint8]
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GGUFFile:
    """An open file: `metadata` by key, `tensors` by name."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, RawTensor]


def open_gguf(path: str | Path) -> GGUFFile:
    """Map the file at `path`; a bad one gives a `FormatError` that names it."""
    path = Path(path)
    try:
        reader = GGUFReader(path)
        metadata = read_metadata(reader)
        tensors = {tensor.name: _raw(tensor) for tensor in reader.tensors}
    except READ_FAILURES as error:
        raise FormatError(f"{path}: found {_found(path, error)}; expected a GGUF file") from error
    if reader.byte_order == "S":
        raise FormatError(f"{path}: found big-endian data; expected little-endian")
    return GGUFFile(path, metadata, tensors)


def read_metadata(reader: GGUFReader) -> dict[str, Any]:
    """The file's own keys, without those that the reader adds about the container."""
    fields = reader.fields.items()
    return {key: field.contents() for key, field in fields if not key.startswith("GGUF.")}


def _raw(tensor: ReaderTensor) -> RawTensor:
    shape = tuple(int(size) for size in reversed(tensor.shape))  # GGUF lists the row length first
    return RawTensor(tensor.data.reshape(-1).view(np.uint8), tensor.tensor_type.name, shape)


def _found(path: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{path.stat().st_size} bytes that end early or do not parse ({error})"
