"""The bytes that a decoded token must read, and how many bytes this machine reads in a second.

Knows tensors by name and a clock; knows nothing of how a route multiplies. The first is counted
from the file's own tensors, whatever a route makes of them: every matrix and gain once, of the
experts those that a token goes to, one row of the embedding, and the keys and values before it.
What is written and the activations, which stay in the processor's caches, are not counted.

The second is torch's sum of float32 numbers over memory that no cache holds, on as many threads as
the model has. On a processor nothing tried was quicker: neither a loop of AVX2 loads in C, with and
without prefetching, nor the same sum over a mapped file; maxima and matrix-vector products are
slower.
"""

import mmap
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

import torch

from engine.config import ModelConfig
from engine.gguf import RawTensor
from engine.memory import in_large_pages

READ = 1 << 30  # bytes
Clock = Callable[[], float]


def weight_bytes(config: ModelConfig, tensors: Mapping[str, RawTensor]) -> int:
    """Bytes of the weights that one token reads."""
    tied = "output.weight" not in tensors
    total = 0
    for name, tensor in tensors.items():
        if name == "token_embd.weight":
            total += tensor.bytes // tensor.shape[0] + (tensor.bytes if tied else 0)
        elif "_exps." in name:
            total += tensor.bytes // tensor.shape[0] * config.expert_used_count
        else:
            total += tensor.bytes
    return total


def cache_bytes(config: ModelConfig, positions: int, number: int) -> int:
    """Bytes of the keys and values that a token reads which sees `positions`, its own included.

    `number` is the bytes of one number in the cache.
    """
    windows = [config.window(layer) for layer in range(config.block_count)]
    seen = sum(min(positions, window) if window else positions for window in windows)
    return seen * 2 * config.head_count_kv * config.key_length * number


def token_bytes(
    config: ModelConfig, tensors: Mapping[str, RawTensor], positions: Sequence[int], number: int
) -> float:
    """Bytes that a decoded token reads, the mean over tokens that see so many `positions`."""
    cached = mean(cache_bytes(config, each, number) for each in positions)
    return weight_bytes(config, tensors) + cached


class Reader:
    """Reads `bytes` of the device's memory that it holds from the start.

    `held` of them are this process's own, to be taken off what the model needs.
    """

    def __init__(
        self, device: torch.device | str = "cpu", clock: Clock = time.perf_counter
    ) -> None:
        self._numbers = _ones(torch.device(device))
        self._clock = clock
        self.bytes = self._numbers.nbytes
        self.held = self.bytes if self._numbers.device.type == "cpu" else 0

    def seconds(self) -> float:
        """How long it takes to read them once."""
        began = self._clock()
        self._numbers.sum().item()  # waits for the device
        return self._clock() - began


def _ones(device: torch.device) -> torch.Tensor:
    """READ bytes of float32, written and so really there.

    In large pages where the system has them: in small ones a sum can be bound by their look-up, and
    a share of its bandwidth then flatters whoever reads a mapped file.
    """
    if device.type != "cpu":
        return torch.ones(READ // 4, device=device)
    memory = in_large_pages(mmap.mmap(-1, READ))
    return torch.frombuffer(memory, dtype=torch.float32).fill_(1)
