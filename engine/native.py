"""The compiled route: every product on the CPU by the blocks of the file, in 8-bit activations.

Knows which C kernel serves which part of a pass; knows nothing of layers or architectures. A
weight that is not in blocks (F32, F16, BF16) is decoded once where it is small, and else as the
plain route does it.
"""

from collections.abc import Sequence
from ctypes import Array
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as attention

from engine import kernels
from engine.cache import KVCache
from engine.kernels import Attention, Kernels, Matrix
from engine.moe import moe_feed_forward, swiglu
from engine.route import Angles, Heads, Layer
from engine.weights import Blocks, Weight, linear

SMALL = 1 << 22  # numbers of a weight that is kept decoded: 16 MiB


class Native:
    """A `Route` through the kernels of one instruction path; None takes the fastest there is."""

    def __init__(self, path: str | None = None) -> None:
        self.kernels = Kernels(path or kernels.paths()[-1])
        self._matrices: WeakKeyDictionary[Weight, Matrix] = WeakKeyDictionary()
        self._decoded: WeakKeyDictionary[Weight, Tensor] = WeakKeyDictionary()
        self._packed: tuple[Sequence[Layer], Array[kernels.Layer] | None] | None = None

    @property
    def name(self) -> str:
        return f"compiled kernels, {self.kernels.path}, {torch.get_num_threads()} threads"

    def rows(self, weight: Weight, ids: Sequence[int]) -> Tensor:
        if not kernels.encoded(weight):
            return weight.rows(ids)
        return self.kernels.rows(self._matrix(weight), ids)

    def layers(
        self,
        layers: Sequence[Layer],
        x: Tensor,
        angles: Angles,
        cache: KVCache,
    ) -> tuple[Tensor, Tensor] | None:
        if self._packed is None or self._packed[0] is not layers:
            whole = all(map(self._whole, layers))
            self._packed = (layers, self._pack(layers) if whole else None)
        packed = self._packed[1]
        if packed is None or len(x) > 1:
            return None
        cache.require_room(1)
        cache.reserve(cache.length + 1)
        return self.kernels.layers(packed, x, angles, cache.keys, cache.values, cache.length)

    def _pack(self, layers: Sequence[Layer]) -> "Array[kernels.Layer]":
        packed = (kernels.Layer * len(layers))()
        for to, layer in zip(packed, layers, strict=True):
            to.attn_norm, to.ffn_norm = map(self._pointer, (layer.attn_norm, layer.ffn_norm))
            to.bias[:] = [self._pointer(bias) for bias in layer.biases or (None,) * 3]
            to.router = self._pointer(layer.router)
            to.projection[:] = [self._matrix(weight) for weight in layer.projections]
            to.output = self._matrix(layer.attn_output)
            to.gate, to.up, to.down = map(self._matrix, (layer.gate, layer.up, layer.down))
            to.attention = self._attention(layer.heads)
            to.experts = layer.router.shape[0] if layer.router is not None else 1
            to.used = layer.used
        return packed

    def _attention(self, heads: Heads, length: int = 0, stride: int = 0) -> Attention:
        sizes = (heads.count, heads.kv_count, heads.size, heads.window, length, stride)
        gains = map(self._pointer, (heads.q_gain, heads.k_gain))
        return Attention(*sizes, *gains, heads.epsilon)

    def _pointer(self, weight: Weight | None) -> int | None:
        return None if weight is None else self._floats(weight).data_ptr()

    def _whole(self, layer: Layer) -> bool:
        """Whether C can take the layer: all its matrices, and those of one input in one call."""
        others = (layer.attn_output, layer.down)
        return (
            self._alike(layer.projections)
            and self._alike((layer.gate, layer.up))
            and all(map(kernels.encoded, others))
        )

    def _alike(self, weights: Sequence[Weight]) -> bool:
        """Whether one rounding of the activations serves all: their blocks are of one size."""
        if not all(map(kernels.encoded, weights)):
            return False
        return len({self._matrix(weight).block for weight in weights}) == 1

    def linear(self, x: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
        if self._alike(weights):
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
        angles: Angles,
        cache: KVCache,
    ) -> Tensor:
        count, size = len(projected[0]), heads.size
        cache.require_room(count)
        cache.reserve(cache.length + count)
        keys, values = cache.keys[heads.layer], cache.values[heads.layer]  # [kv heads, S, D]
        layout = self._attention(heads, cache.length, keys.stride(0))
        made = self.kernels.attend(layout, projected, angles, keys, values)
        if count == 1:
            return made
        end = cache.length + count
        q = made.reshape(count, heads.count, size).transpose(0, 1)[None]
        k, v = keys[None, :, :end], values[None, :, :end]
        seen = None
        if cache.length or heads.window:
            seen = torch.ones(count, end, dtype=torch.bool).tril(end - count)
        if seen is not None and heads.window:
            seen &= torch.ones_like(seen).triu(end - count - heads.window + 1)
        mixed = attention(q, k, v, seen, is_causal=seen is None, enable_gqa=True)
        # Torch's kernel passes over scores that are NaN; this brings them back.
        mixed = mixed + 0 * (q.sum() + k[:, :, cache.length :].sum())
        return mixed[0].transpose(0, 1).reshape(count, -1)

    def experts(
        self, x: Tensor, router: Weight, gate: Weight, up: Weight, down: Weight, k: int
    ) -> Tensor:
        if not (self._alike((gate, up)) and kernels.encoded(down)):
            return moe_feed_forward(x, router, gate, up, down, k)
        stacks = (self._matrix(weight) for weight in (gate, up, down))
        return self.kernels.experts(x, self._floats(router), k, *stacks)

    def swiglu(self, x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
        if not (self._alike((gate, up)) and kernels.encoded(down)):
            return swiglu(x, gate, up, down)
        return self.kernels.experts(x, None, 1, *(self._matrix(w) for w in (gate, up, down)))

    def _matrix(self, weight: Weight) -> Matrix:
        """Kept as long as its weight, whose memory it points to."""
        if weight not in self._matrices and isinstance(weight, Blocks):
            self._matrices[weight] = kernels.matrix(weight)
        return self._matrices[weight]

    def _floats(self, weight: Weight) -> Tensor:
        """Kept as long as its weight, whose memory it may be."""
        if weight not in self._decoded:
            found = kernels.floats(weight)
            self._decoded[weight] = weight.dequantise().contiguous() if found is None else found
        return self._decoded[weight]

    def _plain(self, x: Tensor, weight: Weight) -> Tensor:
        rows, columns = weight.shape[-2:] if len(weight.shape) > 1 else (0, 0)
        if 0 < rows * columns <= SMALL:
            return torch.nn.functional.linear(x, self._floats(weight))
        return linear(x, weight)
