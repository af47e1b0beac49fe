"""The KV cache: keys and values of the positions seen so far, for every layer.

Knows shapes and its own capacity; knows nothing of attention, RoPE or the model.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from engine.errors import PromptError, TensorError


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

        Raises `PromptError` where they do not fit, and `TensorError` for those of another model.
        """
        self._check(layer, key, value)
        end = self.length + key.shape[1]
        self.require_room(key.shape[1])
        self.reserve(end)
        self.keys[layer, :, self.length : end] = key
        self.values[layer, :, self.length : end] = value
        return self.keys[layer, :, :end], self.values[layer, :, :end]

    def require_room(self, count: int) -> None:
        """Raise `PromptError` where `count` more positions do not fit."""
        if self.length + count > self.capacity:
            raise PromptError(
                f"KV cache: found {self.length} + {count} positions, "
                f"expected at most its capacity of {self.capacity}"
            )

    def advance(self, count: int) -> None:
        """Count `count` appended positions as filled."""
        self.length += count

    def bytes(self, positions: int) -> int:
        """What keys and values of so many positions take."""
        layers, heads, _, size = self.keys.shape
        return 2 * layers * heads * positions * size * self.keys.element_size()

    def reserve(self, end: int) -> None:
        """Make room for `end` positions; at least doubles, so that copying stays rare."""
        size = self.keys.shape[2]
        if end > size:
            more = min(self.capacity, max(end, 2 * size)) - size
            self.keys = pad(self.keys, (0, 0, 0, more))
            self.values = pad(self.values, (0, 0, 0, more))

    def truncate(self, length: int = 0) -> None:
        """Forget all but the first `length` positions, so that another text may follow them."""
        if not 0 <= length <= self.length:
            raise PromptError(
                f"KV cache: found length {length} to keep, expected 0 to {self.length}"
            )
        self.length = length

    def _check(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Refuse what would otherwise be broadcast into place, or written to another layer."""
        layers, heads, _, size = self.keys.shape
        fits = key.dim() == 3 and (key.shape[0], key.shape[2]) == (heads, size)
        if not (fits and value.shape == key.shape and 0 <= layer < layers):
            raise TensorError(
                f"KV cache: found layer {layer} with keys {list(key.shape)} and values "
                f"{list(value.shape)}, expected layers 0 to {layers - 1} with [{heads}, T, {size}]"
            )
