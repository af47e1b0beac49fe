"""The compiled route: every product on the CPU by the blocks of the file, in 8-bit activations.

Knows which C kernel serves which part of a pass; knows nothing of layers or architectures. A
weight that is not in blocks (F32, F16, BF16) is decoded once where it is small, and else as the
plain route does it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from engine import kernels
from engine.cache import KVCache
from engine.kernels import Attention, Kernels, Matrix
from engine.moe import moe_feed_forward, swiglu
from engine.route import Heads
from engine.weights import Weight, linear

SMALL = 1 << 22  # numbers of a weight that is kept decoded: 16 MiB


class Native:
    """A `Route` through the kernels of one instruction path; None takes the fastest there is."""

    def __init__(self, path: str | None = None) -> None:
        self.kernels = Kernels(path or kernels.paths()[-1])
        self._matrices: dict[Weight, Matrix] = {}
        self._decoded: dict[Weight, Tensor] = {}

    @property
    def name(self) -> str:
        return f"compiled kernels, {self.kernels.path}, {torch.get_num_threads()} threads"

    def linear(self, x: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
        if all(map(kernels.encoded, weights)):
            return self.kernels.linear(x, [self._matrix(weight) for weight in weights])
        return [
            self.linear(x, [weight])[0] if kernels.encoded(weight) else self._plain(x, weight)
            for weight in weights
        ]

    def norm(
        self, x: Tensor, delta: Tensor | None, gain: Weight, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        return self.kernels.norm(x, delta, self._floats(gain), epsilon)

    def attend(
        self,
        projected: Sequence[Tensor],
        heads: Heads,
        angles: tuple[Tensor, Tensor],
        cache: KVCache,
    ) -> Tensor:
        count, size = len(projected[0]), heads.size
        keys, values = cache.reserve(heads.layer, count)  # [kv heads, S, D]
        gains = [None if g is None else self._floats(g) for g in (heads.q_gain, heads.k_gain)]
        layout = Attention(
            *(heads.count, heads.kv_count, size, heads.window, cache.length, keys.stride(0)),
            *(None if gain is None else gain.data_ptr() for gain in gains),
            heads.epsilon,
        )
        made = self.kernels.attend(layout, projected, angles, keys, values)
        if count == 1:
            return made
        end = cache.length + count
        seen = torch.ones(count, end, dtype=torch.bool).tril(end - count)
        if heads.window:
            seen &= torch.ones_like(seen).triu(end - count - heads.window + 1)
        q = made.reshape(count, heads.count, size).transpose(0, 1)[None]
        k, v = keys[None, :, :end], values[None, :, :end]
        mixed = scaled_dot_product_attention(q, k, v, seen, enable_gqa=True)
        return mixed[0].transpose(0, 1).reshape(count, -1)

    def experts(
        self, x: Tensor, router: Weight, gate: Weight, up: Weight, down: Weight, k: int
    ) -> Tensor:
        if not all(map(kernels.encoded, (gate, up, down))):
            return moe_feed_forward(x, router, gate, up, down, k)
        stacks = (self._matrix(weight) for weight in (gate, up, down))
        return self.kernels.experts(x, self._floats(router), k, *stacks)

    def swiglu(self, x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
        if not all(map(kernels.encoded, (gate, up, down))):
            return swiglu(x, gate, up, down)
        return self.kernels.experts(x, None, 1, *(self._matrix(w) for w in (gate, up, down)))

    def _matrix(self, weight: Weight) -> Matrix:
        """Kept together with its weight, so that the memory which it points to stays."""
        if weight not in self._matrices:
            self._matrices[weight] = kernels.matrix(weight)
        return self._matrices[weight]

    def _floats(self, weight: Weight) -> Tensor:
        if weight not in self._decoded:
            self._decoded[weight] = weight.dequantise().contiguous()
        return self._decoded[weight]

    def _plain(self, x: Tensor, weight: Weight) -> Tensor:
        rows, columns = weight.shape[-2:] if len(weight.shape) > 1 else (0, 0)
        if 0 < rows * columns <= SMALL:
            return torch.nn.functional.linear(x, self._floats(weight))
        return linear(x, weight)
