"""Copies of a GGUF in which one thing is wrong; reads and writes with the `gguf` package alone."""

from collections.abc import Collection
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter


def write_altered(
    source: Path,
    target: Path,
    *,
    without: Collection[str] = (),
    shortened: Collection[str] = (),
    architecture: str | None = None,
) -> Path:
    """Copy `source` without some keys or tensors, with tensors that lack their last row (or
    expert, or number), or labelled as another architecture."""
    reader = GGUFReader(source)
    old = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(target, architecture or old)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture" or key in without:
            continue
        if key.startswith(f"{old}."):
            key = key.replace(old, architecture or old, 1)
        inner = field.types[-1] if field.types[0] is GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        if tensor.name not in without:
            data = tensor.data[:-1] if tensor.name in shortened else tensor.data
            writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
