"""GGUF files made byte by byte, so that anything in them can be wrong; and what loading them gave.

A writer of its own, because the `gguf` package's refuses to write a bad file and the engine must
not be its own judge. It remembers where every count, length, size, type and offset went.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import engine

U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10  # value types
NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
FLOATS, Q8_0 = 0, 8  # tensor types
ARCHITECTURE = "qwen3moe"


@dataclass(frozen=True)
class Part:
    """A tensor to be written; its offset is the right one unless it is given.

    A range stands for so many bytes where only the header is written.
    """

    name: str
    shape: tuple[int, ...]  # row-major
    type: int
    data: bytes | range
    offset: int | None = None


@dataclass(frozen=True)
class Parts:
    """What a file is made of; `metadata` is (key, value type, value), an array's value is (value
    type, list)."""

    metadata: tuple[tuple[str, int, Any], ...]
    tensors: tuple[Part, ...]
    magic: bytes = b"GGUF"
    version: int = 3
    alignment: int = 32
    counts: tuple[int, int] | None = None
    tail: bytes = b""

    def without(self, *names: str) -> "Parts":
        """The same file without some keys or tensors."""
        return replace(
            self,
            metadata=tuple(entry for entry in self.metadata if entry[0] not in names),
            tensors=tuple(part for part in self.tensors if part.name not in names),
        )

    def saying(self, key: str, kind: int, value: Any) -> "Parts":
        """The same file with another value of a key."""
        rest = self.without(key)
        return replace(rest, metadata=(*rest.metadata, (key, kind, value)))

    def changing(self, name: str, **what: Any) -> "Parts":
        """The same file with something else in a tensor's entry."""
        tensors = (replace(part, **what) if part.name == name else part for part in self.tensors)
        return replace(self, tensors=tuple(tensors))

    def tensor(self, name: str) -> Part:
        """The tensor of that name."""
        return next(part for part in self.tensors if part.name == name)

    def header(self) -> "Packed":
        """All that comes before the first tensor's bytes."""
        out = Packed()
        out.raw(self.magic + struct.pack("<I", self.version))
        tensors, entries = self.counts or (len(self.tensors), len(self.metadata))
        out.number("Q", tensors)
        out.number("Q", entries)
        for key, kind, value in self.metadata:
            out.string(key)
            out.value(kind, value)
        offset = 0
        for part in self.tensors:
            out.entry(part, offset)
            offset += -(-len(part.data) // self.alignment) * self.alignment
        out.pad(self.alignment)
        return out

    def pack(self) -> "Packed":
        """The whole file."""
        out = self.header()
        out.header = len(out.data)
        for part in self.tensors:
            out.raw(bytes(part.data))
            out.pad(self.alignment)
        out.raw(self.tail)
        return out


@dataclass
class Packed:
    """Bytes, where the header ends, and the places (start, size) of its numbers."""

    data: bytearray = field(default_factory=bytearray)
    header: int = 0
    fields: list[tuple[int, int]] = field(default_factory=list)

    def raw(self, data: bytes) -> None:
        self.data += data

    def number(self, form: str, value: Any) -> None:
        packed = struct.pack(f"<{form}", value)
        self.fields.append((len(self.data), len(packed)))
        self.raw(packed)

    def string(self, text: str) -> None:
        self.number("Q", len(text.encode()))
        self.raw(text.encode())

    def value(self, kind: int, value: Any) -> None:
        self.number("I", kind)
        if kind != ARRAY:
            return self._one(kind, value)
        inner, values = value
        self.number("I", inner)
        self.number("Q", len(values))
        for each in values:
            self._one(inner, each)

    def _one(self, kind: int, value: Any) -> None:
        if kind == STRING:
            self.string(value)
        else:
            self.raw(struct.pack(f"<{NUMBERS.get(kind, 'I')}", value))

    def entry(self, part: Part, offset: int) -> None:
        self.string(part.name)
        self.number("I", len(part.shape))
        for size in reversed(part.shape):
            self.number("Q", size)
        self.number("I", part.type)
        self.number("Q", offset if part.offset is None else part.offset)

    def pad(self, alignment: int) -> None:
        self.data += bytes(-len(self.data) % alignment)


def small_parts(seed: int = 0) -> Parts:
    """A qwen3moe model of 12 kB: one layer, two experts, four tokens, Q8_0 and F32."""
    tensors, random = [], np.random.default_rng(seed)
    for name, shape in SMALL_SHAPES.items():
        numbers = random.standard_normal(shape).astype(np.float32)
        if len(shape) == 1 or name == "blk.0.ffn_gate_inp.weight":
            tensors.append(Part(name, shape, FLOATS, numbers.tobytes()))
        else:
            tensors.append(Part(name, shape, Q8_0, _q8_0(numbers)))
    tokens = (STRING, [f"<{i}>" for i in range(4)])
    metadata = (
        ("general.architecture", STRING, ARCHITECTURE),
        *((f"{ARCHITECTURE}.{key}", kind, value) for key, (kind, value) in SMALL_KEYS.items()),
        ("tokenizer.ggml.tokens", ARRAY, tokens),
        ("tokenizer.ggml.scores", ARRAY, (F32, [0.5] * 4)),
    )
    return Parts(metadata, tuple(tensors))


SMALL_KEYS = {
    "context_length": (U32, 64),
    "block_count": (U32, 1),
    "embedding_length": (U32, 32),
    "attention.head_count": (U32, 2),
    "attention.head_count_kv": (U32, 1),
    "attention.key_length": (U32, 16),
    "attention.layer_norm_rms_epsilon": (F32, 2**-20),
    "rope.freq_base": (F32, 1e6),
    "expert_count": (U32, 2),
    "expert_used_count": (U32, 1),
    "expert_feed_forward_length": (U32, 32),
}
SMALL_SHAPES = {
    "token_embd.weight": (4, 32),
    "blk.0.attn_norm.weight": (32,),
    "blk.0.attn_q.weight": (32, 32),
    "blk.0.attn_k.weight": (16, 32),
    "blk.0.attn_v.weight": (16, 32),
    "blk.0.attn_q_norm.weight": (16,),
    "blk.0.attn_k_norm.weight": (16,),
    "blk.0.attn_output.weight": (32, 32),
    "blk.0.ffn_norm.weight": (32,),
    "blk.0.ffn_gate_inp.weight": (2, 32),
    "blk.0.ffn_gate_exps.weight": (2, 32, 32),
    "blk.0.ffn_up_exps.weight": (2, 32, 32),
    "blk.0.ffn_down_exps.weight": (2, 32, 32),
    "output_norm.weight": (32,),
    "output.weight": (4, 32),
}


def _q8_0(numbers: np.ndarray) -> bytes:
    blocks = numbers.reshape(-1, 32)
    scales = (np.abs(blocks).max(axis=1, keepdims=True) / 127).astype(np.float16)
    rounded = np.rint(blocks / scales.astype(np.float32)).clip(-127, 127).astype(np.int8)
    return np.concatenate([scales.view(np.uint8), rounded.view(np.uint8)], axis=1).tobytes()


def write(path: Path, data: bytes) -> Path:
    """A new file in place of the old one, which somebody may still have mapped."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path


def outcome(path: Path) -> "engine.Model | Exception":
    """The model that loading gave, or the exception, whatever it was."""
    try:
        return engine.load(path)
    except Exception as error:
        return error


def is_clear(error: object, words: Iterable[str] = ()) -> bool:
    """Whether it is one of the two typed errors and says what was found and expected, and where."""
    typed = isinstance(error, engine.FormatError | engine.TensorError)
    return typed and all(word in str(error) for word in ("found", "expected", *words))


def resident() -> float:
    """MiB of this process that are in memory, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
