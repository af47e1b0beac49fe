"""Arguments and results as JSON, and JSON as messages through a pipe.

Knows plain values only, because one side of the pipe is hostile: what is decoded is made of the
types below and of `Other`, never of a class that the sender chose, so that nothing it sends runs
here or decides how it compares. Loaded in the sandbox too, so it imports the standard library only.
"""

import json
import os
import select
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

LARGEST = 16 << 20  # bytes of a message that is taken
HEADER = struct.Struct(">I")


class Other:
    """A value of a type that is not carried: equal to nothing but itself."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"


class Closed(Exception):
    """The other side has ended."""


class Late(Exception):
    """The other side has not answered in time."""


class Malformed(Exception):
    """The other side sent what is no message."""


def encode(value: Any) -> Any:
    """What `json.dumps` takes, and `decode` turns into an equal value.

    Subclasses become the plain type they extend; an iterator becomes one over the same items.
    """
    if value is None or isinstance(value, bool | float | str):
        return value
    if isinstance(value, int):
        return {"int": hex(value)}
    if isinstance(value, list):
        return [encode(each) for each in value]
    for kind, plain in CONTAINERS.items():
        if isinstance(value, plain):
            return {kind: [encode(each) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(each)] for key, each in value.items()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, Iterable):
        return {"iterator": [encode(each) for each in value]}
    return {"other": type(value).__name__}


def decode(found: Any) -> Any:
    """The value that was encoded; `Malformed` for anything that `encode` does not make."""
    if found is None or type(found) in (bool, float, str):
        return found
    if type(found) is list:
        return [decode(each) for each in found]
    if type(found) is not dict or len(found) != 1:
        raise Malformed(f"found {type(found).__name__}, expected an encoded value")
    [(kind, inner)] = found.items()
    try:
        return DECODERS[kind](inner)
    except (KeyError, TypeError, ValueError) as error:
        raise Malformed(f"found {kind!r:.40}, expected an encoded value") from error


def _pairs(found: Any) -> dict[Any, Any]:
    return {decode(key): decode(value) for key, value in found}


CONTAINERS: Mapping[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}
DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "tuple": lambda items: tuple(map(decode, items)),
    "set": lambda items: set(map(decode, items)),
    "frozenset": lambda items: frozenset(map(decode, items)),
    "dict": _pairs,
    "complex": lambda parts: complex(*parts),
    "bytes": bytes.fromhex,
    "iterator": lambda items: iter(list(map(decode, items))),
    "other": lambda kind: Other(str(kind)),
}


def send(descriptor: int, message: Any) -> None:
    """Write one message; `Closed` where nobody reads."""
    body = json.dumps(message).encode()
    left = memoryview(HEADER.pack(len(body)) + body)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError as error:
        raise Closed from error


def receive(descriptor: int, deadline: float | None = None) -> Any:
    """Read one message, until `deadline` on the monotonic clock."""
    size = HEADER.unpack(_read(descriptor, HEADER.size, deadline))[0]
    if size > LARGEST:
        raise Malformed(f"found a message of {size} bytes, expected at most {LARGEST}")
    try:
        return json.loads(_read(descriptor, size, deadline))
    except (ValueError, RecursionError) as error:
        raise Malformed("found no JSON") from error


def _read(descriptor: int, size: int, deadline: float | None) -> bytes:
    made = bytearray()
    while len(made) < size:
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([descriptor], [], [], left)[0]:
                raise Late
        try:
            piece = os.read(descriptor, min(size - len(made), 1 << 20))
        except OSError as error:
            raise Closed from error
        if not piece:
            raise Closed
        made += piece
    return bytes(made)
