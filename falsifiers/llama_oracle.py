"""An independent engine: llama.cpp on the same file, one thread, keys and values in float32.

It multiplies quantised weights by activations that it has quantised to 8 bits, so on such files it
is near, not equal; on float32 weights it is equal but for rounding. Knows nothing of the engine.
"""

import atexit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import llama_cpp
import numpy as np
import torch
from llama_cpp import GGML_TYPE_F32, Llama
from torch import Tensor

# The package opens the null device and leaves it open, of which Python warns at the end.
for _file in (llama_cpp._utils.outnull_file, llama_cpp._utils.errnull_file):
    atexit.register(_file.close)


def _plain_params() -> Any:
    """Weights stay as they are in the file: repacked for matrix units (AMX) that a virtual machine
    announces and does not have, they end the process."""
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False
    return params


_LOOKED_UP = SimpleNamespace(**{**vars(llama_cpp), "llama_model_default_params": _plain_params})


@contextmanager
def opened(path: Path) -> Iterator[Llama]:
    """llama.cpp holding the GGUF at `path`; logits of every position are kept."""
    with patch("llama_cpp.llama.llama_cpp", _LOOKED_UP):
        model = _load(path)
    try:
        yield model
    finally:
        model.close()


def _load(path: Path) -> Llama:
    return Llama(
        str(path),
        n_ctx=256,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        type_k=GGML_TYPE_F32,
        type_v=GGML_TYPE_F32,
        flash_attn=False,
        verbose=False,
    )


def llama_logits(model: Llama, ids: Sequence[int]) -> Tensor:
    """Float32 logits [T, V] of `ids` at every position."""
    model.reset()
    model.eval(list(ids))
    return torch.from_numpy(np.array(model.scores[: len(ids)]))


def llama_greedy(model: Llama, ids: Sequence[int], count: int) -> list[int]:
    """The `count` tokens that greedily follow `ids`, each evaluated alone through its cache."""
    logits, made = llama_logits(model, ids), []
    for _ in range(count):
        made.append(int(logits[-1].argmax()))
        model.eval(made[-1:])
        logits = torch.from_numpy(np.array(model.scores[model.n_tokens - 1 : model.n_tokens]))
    return made
