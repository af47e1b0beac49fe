"""A GGUF file as two readers read it: the engine's, and the `gguf` package's."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, GGUFWriter

import engine

# All that a reader says of a file: metadata, and the type, shape and bytes of every tensor.
Reading = tuple[dict[str, Any], dict[str, tuple[str, tuple[int, ...], bytes]]]


def engines(path: Path) -> Reading:
    """What the engine reads."""
    checkpoint = engine.open_checkpoint(path)
    tensors = {
        name: (tensor.type, tensor.shape, b"".join(part.tobytes() for part in tensor.parts))
        for name, tensor in checkpoint.tensors.items()
    }
    return dict(checkpoint.metadata), tensors


def packages(path: Path) -> Reading | str:
    """What the `gguf` package reads, or what it says of a file that it cannot read."""
    try:
        reader = GGUFReader(path)
        fields = {key: field.contents() for key, field in reader.fields.items()}
    except Exception as error:
        return repr(error)
    tensors = {
        t.name: (t.tensor_type.name, tuple(reversed(t.shape.tolist())), t.data.tobytes())
        for t in reader.tensors
    }
    return {key: value for key, value in fields.items() if not key.startswith("GGUF.")}, tensors


def are_same(one: Reading, other: Reading | str) -> bool:
    """Equal, types included; NaN equals NaN."""
    return repr(one) == repr(other)


def write_every_value(path: Path) -> Path:
    """A GGUF of every type of value, alone and in an array, with tensors of 1 to 4 dimensions
    and an alignment that is not the usual."""
    writer = GGUFWriter(path, "qwen3")
    writer.add_custom_alignment(128)
    for bits in (8, 16, 32, 64):
        for sign, least in (("u", 0), ("", -(2 ** (bits - 1)))):
            most = 2**bits - 1 + least
            getattr(writer, f"add_{sign}int{bits}")(f"{sign}{bits}.least", least)
            getattr(writer, f"add_{sign}int{bits}")(f"{sign}{bits}.most", most)
    writer.add_float32("f32", 0.1)
    writer.add_float64("f64", 0.1)
    writer.add_float32("nan", float("nan"))
    writer.add_bool("true", True)
    writer.add_bool("false", False)
    writer.add_string("text", "naïve 日本語 🦢\n\x00")
    writer.add_string("empty", "")
    for values in ([1, -2], [0.5], [True, False], ["a", "", "日本"]):
        writer.add_array(f"array.{type(values[0]).__name__}", values)
    for rank in range(1, 5):
        shape = (5, 2, 3, 4)[-rank:]
        writer.add_tensor(f"rank{rank}", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
