"""The KV cache: keys and values of the positions seen so far, for every layer.

Knows shapes and its own capacity; knows nothing of attention, RoPE or the model.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from engine.errors import PromptError


class KVCache:
    """Keys and values [layers, kv heads, S, D] in float32, and how many positions are filled.

    `capacity` is the most positions that it takes. Memory grows with those that are used, because
    a capacity of the whole context may be tens of gigabytes. A forward pass calls `append` once
    for each layer and then `advance` once, so that a pass that fails midway leaves the cache as
    it was.
    """

    def __init__(
        self,
        layers: int,
        kv_heads: int,
        capacity: int,
        head_dim: int,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (layers, kv_heads, 0, head_dim)
        self.keys = torch.zeros(shape, device=device)
        self.values = torch.zeros(shape, device=device)
        self.capacity = capacity
        self.length = 0

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write [kv heads, T, D] after the filled positions; returns all up to there.

        Raises `PromptError` where they do not fit.
        """
        end = self.length + key.shape[1]
        if end > self.capacity:
            raise PromptError(
                f"KV cache: found {self.length} + {key.shape[1]} positions, "
                f"expected at most its capacity of {self.capacity}"
            )
        self._reserve(end)
        self.keys[layer, :, self.length : end] = key
        self.values[layer, :, self.length : end] = value
        return self.keys[layer, :, :end], self.values[layer, :, :end]

    def advance(self, count: int) -> None:
        """Count `count` appended positions as filled."""
        self.length += count

    def _reserve(self, end: int) -> None:
        """Make room for `end` positions; at least doubles, so that copying stays rare."""
        size = self.keys.shape[2]
        if end > size:
            more = min(self.capacity, max(end, 2 * size)) - size
            self.keys = pad(self.keys, (0, 0, 0, more))
            self.values = pad(self.values, (0, 0, 0, more))

    def clear(self) -> None:
        """Forget every position."""
        self.length = 0
