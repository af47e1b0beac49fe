"""An independent engine: llama.cpp on the same file, one thread, keys and values in float32.

It multiplies quantised weights by activations that it has quantised to 8 bits, so on such files it
is near, not equal; on float32 weights it is equal but for rounding. Knows nothing of the engine.
"""

import atexit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import llama_cpp
import numpy as np
import torch
from llama_cpp import GGML_TYPE_F32, Llama
from torch import Tensor

# The package opens the null device and leaves it open, of which Python warns at the end.
for _file in (llama_cpp._utils.outnull_file, llama_cpp._utils.errnull_file):
    atexit.register(_file.close)


@contextmanager
def opened(path: Path) -> Iterator[Llama]:
    """llama.cpp holding the GGUF at `path`; logits of every position are kept."""
    model = Llama(
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
    try:
        yield model
    finally:
        model.close()


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
