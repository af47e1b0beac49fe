"""Writes a GGUF file, a tensor at a time; knows the container, through the `gguf` package's writer.

Knows nothing of where tensors come from: somebody plans them and hands their blocks out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from engine.gguf import Bytes
from engine.mixes import Planned

Progress = Callable[[int, int], None]  # bytes written so far, and of all
Tensor = TypeVar("Tensor", bound=Planned)


def write_gguf(
    path: Path,
    architecture: str,
    add_metadata: Callable[[GGUFWriter], None],
    tensors: Sequence[Tensor],
    blocks: Callable[[Tensor], Bytes],
    progress: Progress = lambda done, total: None,
) -> None:
    """Write the tensors in this order; `blocks` gives the bytes of one, of its `raw_shape`."""
    writer = GGUFWriter(path, architecture)
    try:
        add_metadata(writer)
        for tensor in tensors:
            kind = GGMLQuantizationType[tensor.type]
            writer.add_tensor_info(
                tensor.name, tensor.raw_shape, np.dtype(np.uint8), tensor.bytes, raw_dtype=kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done, total = 0, sum(tensor.bytes for tensor in tensors)
        for tensor in tensors:
            writer.write_tensor_data(blocks(tensor))
            done += tensor.bytes
            progress(done, total)
    finally:
        writer.close()
