"""The metadata of a GGUF, read with `struct` alone: an oracle, and quick with long lists.

Knows no tensors; trusts the file.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from io import BytesIO
from pathlib import Path
from typing import Any

SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
TEXT, LIST = 8, 9


def read_metadata(path: Path) -> dict[str, Any]:
    source = BytesIO(path.read_bytes())
    magic, _version, _tensors, keys = source.read(4), *_unpack(source, "IQQ")
    assert magic == b"GGUF", magic
    return {_text(source): _value(source, *_unpack(source, "I")) for _ in range(keys)}


def _value(source: BytesIO, kind: int) -> Any:
    if kind == TEXT:
        return _text(source)
    if kind == LIST:
        inner, count = _unpack(source, "IQ")
        if inner in SCALARS:
            return list(_unpack(source, f"{count}{SCALARS[inner]}"))
        return [_value(source, inner) for _ in range(count)]
    return _unpack(source, SCALARS[kind])[0]


def _text(source: BytesIO) -> str:
    return source.read(*_unpack(source, "Q")).decode()


def _unpack(source: BytesIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", source.read(struct.calcsize(f"<{form}")))
