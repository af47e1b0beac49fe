"""The route that needs no compiler: torch's own product of bfloat16 rows with 4-bit numbers.

Knows how blocks are laid out anew for that product, on first use, and kept; knows nothing of files
or layers. A weight of Q4_K or Q4_0 is `(number - 8) * scale + zero`, which is what torch takes, but
that scale and zero are rounded to bfloat16, as the rows are. Others become bfloat16; where the
processor has AVX-512, torch is quicker with two 4-bit numbers to a weight, low + 16 * high, and
they take less memory. Norms, attention and router are float32, as on the plain route.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import silu

from engine import moe, rope
from engine.attention import attention, rms_norm, split_heads
from engine.cache import KVCache
from engine.quant import grid
from engine.route import Heads
from engine.weights import Blocks, Bytes, Weight, require_data, require_finite

GROUP = 32  # columns that share a scale and a zero
TILE = 64  # rows that torch lays out together, at most
MULTIPLE = 16  # of rows, that torch takes
PIECE = 1 << 22  # numbers laid out at once: 16 MiB as int32
FEW = 4  # rows up to which torch multiplies by bfloat16 faster than it makes float32 of it
# What is taken from a number so that 4 signed bits, or 16 * 4 + 4, hold it.
OFFSETS = {"Q4_K": 8, "Q4_0": 0, "Q5_K": 16, "Q6_K": 0, "Q8_0": 8}
ONE_NUMBER = ("Q4_K", "Q4_0")

Product = Callable[[Tensor], Tensor]  # [T, in] -> [T, out], bfloat16 or float32


class Int4:
    """The route `engine.route.Route` in torch alone, on the CPU.

    `pairs` says whether weights of more than 4 bits become two 4-bit numbers or bfloat16; None
    takes what is faster here. What a weight became lives as long as the weight.
    """

    def __init__(self, pairs: bool | None = None) -> None:
        self._cpu = torch.backends.cpu.get_cpu_capability()
        self._pairs = self._cpu.startswith("AVX512") if pairs is None else pairs
        self._matrices: WeakKeyDictionary[Weight, Product] = WeakKeyDictionary()
        self._stacks: WeakKeyDictionary[Weight, dict[int, Product]] = WeakKeyDictionary()
        self._floats: WeakKeyDictionary[Weight, Tensor] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """What runs, for a person to read."""
        return f"torch alone in bfloat16, {self._cpu}, {torch.get_num_threads()} threads"

    def linear(self, x: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
        """x [T, in] times each weight [out, in] transposed: [T, out] each."""
        return [self._matrix(weight)(x).float() for weight in weights]

    def norm(
        self, x: Tensor, delta: Tensor | None, gain: Weight, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        """x + delta, [T, H], and its RMSNorm by `gain` [H]."""
        x = x if delta is None else x + delta
        return x, rms_norm(x, self._float(gain), epsilon)

    def attend(
        self,
        projected: Sequence[Tensor],
        heads: Heads,
        angles: tuple[Tensor, Tensor],
        cache: KVCache,
    ) -> Tensor:
        """Queries, keys and values [T, heads * D] through the cache: [T, heads * D]."""
        q, k, v = (split_heads(each, heads.size) for each in projected)  # [heads, T, D]
        if heads.q_gain is not None and heads.k_gain is not None:
            q = rms_norm(q, self._float(heads.q_gain), heads.epsilon)
            k = rms_norm(k, self._float(heads.k_gain), heads.epsilon)
        q, k = rope.rotate(q, *angles), rope.rotate(k, *angles)
        k, v = cache.append(heads.layer, k, v)
        if q.shape[1] == 1:
            return _attend_once(q, k[:, -heads.window :], v[:, -heads.window :])
        return attention(q, k, v, heads.window).transpose(0, 1).flatten(1)

    def experts(
        self, x: Tensor, router: Weight, gate: Weight, up: Weight, down: Weight, k: int
    ) -> Tensor:
        """x [T, H] through the `k` experts of each token, as `engine.moe.moe_feed_forward`."""
        weights, chosen = moe.route(functional.linear(x, self._float(router)), k)  # [T, K]
        if len(x) == 1:
            return weights @ self._of_one(x, chosen[0].tolist(), gate, up, down)
        out = torch.zeros_like(x)
        for expert in torch.unique(chosen).tolist():
            token, rank = torch.where(chosen == expert)
            parts = (self._of_stack(stack, expert) for stack in (gate, up, down))
            made = _swiglu(x[token], *parts)
            out.index_add_(0, token, made * weights[token, rank, None])
        return out

    def _of_one(
        self, x: Tensor, chosen: list[int], gate: Weight, up: Weight, down: Weight
    ) -> Tensor:
        """What each of its experts makes of one token [1, H], float32 [K, H].

        Steps are few, as a token has hundreds of products, and each is brief.
        """
        g, u = (torch.cat([self._of_stack(s, e)(x) for e in chosen]).float() for s in (gate, up))
        rows = torch.split(silu(g) * u, 1)  # [1, F] each
        made = [self._of_stack(down, e)(h) for e, h in zip(chosen, rows, strict=True)]
        return torch.cat(made).float()

    def swiglu(self, x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
        """x [T, H] through one dense SwiGLU: [T, H]."""
        return _swiglu(x, *map(self._matrix, (gate, up, down)))

    def _float(self, weight: Weight) -> Tensor:
        if weight not in self._floats:
            self._floats[weight] = weight.dequantise()
        return self._floats[weight]

    def _matrix(self, weight: Weight) -> Product:
        if weight not in self._matrices:
            self._matrices[weight] = product(weight, self._pairs)
        return self._matrices[weight]

    def _of_stack(self, stack: Weight, index: int) -> Product:
        made = self._stacks.setdefault(stack, {})
        if index not in made:
            made[index] = product(stack[index], self._pairs)
        return made[index]


def _attend_once(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query [heads, 1, D] over all of k and v [kv heads, S, D], none of which is copied."""
    q = q.reshape(k.shape[0], -1, k.shape[2])  # [kv heads, group, D]
    scores = q @ k.transpose(1, 2) / sqrt(k.shape[2])  # [kv heads, group, S]
    return (torch.softmax(scores, dim=-1) @ v).reshape(1, -1)


def _swiglu(x: Tensor, gate: Product, up: Product, down: Product) -> Tensor:
    return down(silu(gate(x).float()) * up(x).float()).float()


def product(weight: Weight, pairs: bool) -> Product:
    """How to multiply by the matrix `weight` [out, in]."""
    if not isinstance(weight, Blocks) or weight.type == "F32":
        return Cast(weight.dequantise())
    if weight.type in ONE_NUMBER or (pairs and weight.type in OFFSETS):
        return _packed(weight)
    return Cast(torch.cat([piece.bfloat16() for piece in weight.pieces()]))


@dataclass(frozen=True)
class Cast:
    """A matrix in bfloat16 or float32."""

    matrix: Tensor  # [out, in]

    def __call__(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]; many rows in float32, which torch has faster products for."""
        if len(x) <= FEW:
            return functional.linear(x.to(self.matrix.dtype), self.matrix)
        rows = max(1, PIECE // self.matrix.shape[1])
        parts = torch.split(self.matrix, rows)
        return torch.cat([functional.linear(x, part.float()) for part in parts], dim=-1)


@dataclass(frozen=True)
class Packed:
    """A matrix in 4-bit numbers as torch lays them out, one or two to a weight.

    Where `paired` is not 0, columns come in turns of so many low and so many high numbers, and the
    high ones meet 16 times the row's numbers.
    """

    rows: int  # out; the numbers have up to 15 more
    numbers: Tensor  # uint8
    scales: Tensor  # bfloat16 [columns / GROUP, rows, 2]: scale and zero
    paired: int

    def __call__(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]"""
        x = x.bfloat16()
        if self.paired:
            turns = x.reshape(len(x), -1, self.paired)
            x = torch.cat([turns, 16 * turns], dim=-1).flatten(1)
        product = torch.ops.aten._weight_int4pack_mm_for_cpu
        y: Tensor = product(x, self.numbers, GROUP, self.scales)
        return y if y.shape[1] == self.rows else y[:, : self.rows]


def _packed(weight: Blocks) -> Packed:
    """The blocks of `weight`, some rows at a time. Raises `TensorError` as decoding them does."""
    require_data(weight)
    rows, length = weight.shape
    raw, step = weight.parts[0].reshape(rows, -1), max(1, PIECE // length // TILE) * TILE
    starts = range(0, rows, step)
    numbers, scales, paired = zip(
        *(_laid_out(weight, raw[start : start + step]) for start in starts), strict=True
    )
    return Packed(rows, torch.cat(numbers), torch.cat(scales, dim=1), paired[0])


def _laid_out(weight: Blocks, raw: Bytes) -> tuple[Tensor, Tensor, int]:
    """`Packed`'s numbers, scales and turns for some rows uint8 [rows, bytes]."""
    blocks = grid(raw, weight.type, weight.name)
    size, offset = blocks.numbers.shape[-1], OFFSETS[weight.type]
    numbers, scale = blocks.numbers.short() - offset, blocks.scale  # [N, groups, size or 1]
    zero = scale * offset if blocks.minimum is None else scale * offset - blocks.minimum
    require_finite(weight, scale)
    require_finite(weight, zero)
    if weight.type in ONE_NUMBER:
        size = 0
    else:
        high = (numbers + 8) >> 4
        numbers = torch.cat([numbers - 16 * high, high], dim=-1)
        if size == GROUP:  # a group of low numbers, then one of high; of 16 each they share one
            scale = torch.cat([scale, scale], dim=-1)
            zero = torch.cat([zero, torch.zeros_like(zero)], dim=-1)
    scales = torch.stack([each.reshape(len(raw), -1) for each in (scale, zero)], dim=-1)
    numbers, scales = _filled(numbers.reshape(len(raw), -1) + 8), _filled(scales)
    laid_out = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers.int(), 1)
    return laid_out, scales.transpose(0, 1).bfloat16().contiguous(), size


def _filled(rows: Tensor) -> Tensor:
    """With zeros up to a number of rows that torch takes."""
    missing = -len(rows) % MULTIPLE
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows
