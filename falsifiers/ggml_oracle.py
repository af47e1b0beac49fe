"""llama.cpp's own quantiser: of rows of numbers, and of whole files. Knows no engine."""

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader, LlamaFileType

_LIBRARY = next((Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base.*"))
_quantize = ctypes.CDLL(str(_LIBRARY)).ggml_quantize_chunk
_quantize.restype = ctypes.c_size_t
_quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
_quantize.argtypes += [ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]


def ggml_quantize(rows: np.ndarray, kind: str) -> np.ndarray:
    """Float32 [N, in] as uint8 [N, bytes per row], without an importance matrix."""
    rows = np.ascontiguousarray(rows, np.float32)
    size, width = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    encoded = np.empty((len(rows), rows.shape[1] // size * width), np.uint8)
    kind = GGMLQuantizationType[kind]
    _quantize(kind, rows.ctypes.data, encoded.ctypes.data, 0, *rows.shape, None)
    return encoded


def llama_types(source: Path, mix: str, to: Path) -> dict[str, str]:
    """The type of each tensor in the file that llama.cpp makes of the GGUF at `source`."""
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = LlamaFileType[f"MOSTLY_{mix}"]
    options.nthread = 1
    llama_cpp._logger.set_verbose(verbose=False)
    failed = llama_cpp.llama_model_quantize(
        str(source).encode(), str(to).encode(), ctypes.byref(options)
    )
    assert not failed, f"llama.cpp does not quantise {source}"
    return {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(to).tensors}
