"""The KV cache: keys and values of the positions seen so far, for every layer.

Knows shapes and its own capacity; knows nothing of attention, RoPE or the model.
"""

import torch
from torch import Tensor

from engine.errors import PromptError


class KVCache:
    """Keys and values [layers, kv heads, capacity, D] in float32, and how many are filled.

    A forward pass calls `append` once for each layer and then `advance` once, so that a pass
    that fails midway leaves the cache as it was.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        capacity: int,
        head_dim: int,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (layers, kv_heads, capacity, head_dim)
        self.keys = torch.zeros(shape, device=device)
        self.values = torch.zeros(shape, device=device)
        self.capacity = capacity
        self.length = 0

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write [kv heads, T, D] after the filled positions; returns all up to there."""
        end = self.length + key.shape[1]
        if end > self.capacity:
            raise PromptError(
                f"KV cache: found {self.length} + {key.shape[1]} positions, "
                f"expected at most its capacity of {self.capacity}"
            )
        self.keys[layer, :, self.length : end] = key
        self.values[layer, :, self.length : end] = value
        return self.keys[layer, :, :end], self.values[layer, :, :end]

    def advance(self, count: int) -> None:
        """Count `count` appended positions as filled."""
        self.length += count

    def clear(self) -> None:
        """Forget every position."""
        self.length = 0
