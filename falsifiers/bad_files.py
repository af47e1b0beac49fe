"""GGUF files in which one thing is wrong, and the words that the error for it must hold."""

from collections.abc import Iterator
from dataclasses import replace
from math import inf, nan

from falsifiers.damage import (
    ARCHITECTURE,
    ARRAY,
    BOOL,
    F32,
    FLOATS,
    I32,
    SMALL_KEYS,
    STRING,
    U32,
    U64,
    Part,
    Parts,
    small_parts,
)

I8, F64, UNKNOWN = 24, 28, 99  # tensor types
LARGEST = 2**64 - 1
# What no hyperparameter may be.
WRONG_VALUES = {
    "a string": (STRING, "32"),
    "negative": (I32, -1),
    "zero": (U32, 0),
    "huge": (U64, LARGEST),
    "a boolean": (BOOL, True),
    "NaN": (F32, nan),
    "infinite": (F32, inf),
    "an array": (ARRAY, (U32, [32])),
}
# Values that are wrong for one key only.
WRONG = [
    ("general.architecture", STRING, "llama"),
    ("general.architecture", U32, 3),
    ("general.architecture", ARRAY, (STRING, ["qwen3moe"])),
    ("general.alignment", U32, 0),
    ("general.alignment", U32, 24),
    ("general.alignment", STRING, "32"),
    ("general.alignment", I32, -32),
    ("tokenizer.ggml.tokens", STRING, "<0>"),
    ("tokenizer.ggml.tokens", ARRAY, (STRING, [])),
    (f"{ARCHITECTURE}.attention.head_count_kv", U32, 3),
    (f"{ARCHITECTURE}.attention.key_length", U32, 15),
    (f"{ARCHITECTURE}.attention.value_length", U32, 8),
    (f"{ARCHITECTURE}.rope.dimension_count", U32, 8),
    (f"{ARCHITECTURE}.rope.freq_base", F32, 1.0),
    (f"{ARCHITECTURE}.rope.scaling.type", STRING, "ntk"),
    (f"{ARCHITECTURE}.rope.scaling.type", STRING, ""),
    (f"{ARCHITECTURE}.rope.scaling.type", U32, 0),
    (f"{ARCHITECTURE}.attention.sliding_window", STRING, "64"),
    (f"{ARCHITECTURE}.attention.sliding_window", I32, -1),
    (f"{ARCHITECTURE}.expert_used_count", U32, 3),
    (f"{ARCHITECTURE}.expert_gating_func", U32, 2),
    (f"{ARCHITECTURE}.expert_weights_norm", BOOL, False),
]


def bad_metadata() -> Iterator[tuple[Parts, list[str]]]:
    """Every hyperparameter missing and wrong in every way; and what is wrong for one of them."""
    good = small_parts()
    for key in SMALL_KEYS:
        yield good.without(f"{ARCHITECTURE}.{key}"), [f"{ARCHITECTURE}.{key}"]
        for kind, value in WRONG_VALUES.values():
            yield good.saying(f"{ARCHITECTURE}.{key}", kind, value), [f"{ARCHITECTURE}.{key}"]
    yield good.without("general.architecture"), ["general.architecture"]
    yield good.without("tokenizer.ggml.tokens"), [f"{ARCHITECTURE}.vocab_size"]
    for key, kind, value in WRONG:
        yield good.saying(key, kind, value), [key]
    windowed = good.saying(f"{ARCHITECTURE}.attention.sliding_window", U32, 8)
    for pattern in ((BOOL, [True, False]), (U32, [1]), (STRING, ["x"])):
        key = f"{ARCHITECTURE}.attention.sliding_window_pattern"
        yield windowed.saying(key, ARRAY, pattern), [key]
    key = f"{ARCHITECTURE}.block_count"  # would be a list of so many booleans
    yield windowed.saying(key, U64, 2**22), [key]


def bad_tensors() -> Iterator[tuple[Parts, list[str]]]:
    """Every tensor missing, misshapen, of a type that is none or not supported, out of place."""
    good = small_parts()
    for part in good.tensors:
        name = part.name
        if name != "output.weight":  # without it the output is tied
            yield good.without(name), [name]
        bigger = (part.shape[0] + 1, *part.shape[1:])
        row = len(part.data) // part.shape[0]
        yield good.changing(name, shape=bigger, data=part.data + part.data[:row]), [name]
        yield good.changing(name, shape=part.shape[:-1] + (0,)), [name]
        yield good.changing(name, shape=(*part.shape[:-1], 2**62)), [name]
        yield good.changing(name, type=UNKNOWN), [name]
        yield good.changing(name, type=F64, data=bytes(8 * 12288), shape=(12288,)), [name]
        yield good.changing(name, offset=LARGEST), [name]
        yield good.changing(name, offset=1), [name]
        yield replace(good, tensors=(*good.tensors, part)), [name, "twice"]
    yield good.changing("output.weight", type=I8, data=bytes(128)), ["output.weight", "I8"]
    yield good.changing("output.weight", shape=(1, 1, 1, 4, 32)), ["output.weight"]
    yield good.changing("output.weight", shape=()), ["output.weight"]
    for extra in (
        "output.bias",
        "blk.1.attn_q.weight",
        "blk.0.attn_q.bias",
        "blk.00.attn_q.weight",
    ):
        part = Part(extra, (32,), FLOATS, bytes(128))
        yield replace(good, tensors=(*good.tensors, part)), [extra]
    for bad in ("a" * 65, "new\nline"):
        part = Part(bad, (32,), FLOATS, bytes(128))
        yield replace(good, tensors=(*good.tensors, part)), ["tensor 15"]


def bad_containers() -> Iterator[tuple[Parts, list[str]]]:
    """What is wrong with the file as a whole."""
    good = small_parts()
    yield replace(good, magic=b"GGML"), ["GGML"]
    yield replace(good, version=1), ["version 1"]
    yield replace(good, version=4), ["version 4"]
    yield replace(good, version=3 << 24), ["big-endian"]
    yield replace(good, metadata=(*good.metadata, good.metadata[3])), [good.metadata[3][0], "twice"]
    yield replace(good, tail=bytes(32)), ["last tensor"]
    yield replace(good, alignment=64), ["offset"]
    # The last tensor, of which the header then says nothing, is the one that may be missing.
    yield replace(good, counts=(len(good.tensors) - 1, len(good.metadata))), ["last tensor"]
    for kind in (11 + 2, 255):
        yield good.saying("x", kind, 0), ["x", "value type"]
        yield good.saying("x", ARRAY, (kind, [])), ["x", "value type"]
    yield good.saying("x", ARRAY, (ARRAY, [])), ["x", "array of arrays"]
