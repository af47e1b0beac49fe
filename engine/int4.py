"""The route that needs no compiler: torch's own products with 4-bit numbers and with float16.

Knows how blocks are laid out anew for those products, on first use, and kept; knows nothing of
files or layers. A weight of Q4_K or Q4_0 is `(number - 8) * scale + zero`, which is what torch
takes, but that scale, zero and the row are rounded to bfloat16. Others become float16 for FBGEMM,
whose rows stay float32; where torch has no FBGEMM, bfloat16. Norms, attention, router and F32
matrices are float32, as on the plain route.
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
from engine.route import Angles, Heads, Layer
from engine.weights import Blocks, Bytes, Weight, require_data, require_finite

GROUP = 32  # columns that share a scale and a zero
TILE = 64  # rows that torch lays out together, at most
MULTIPLE = 16  # of rows, that torch takes
PIECE = 1 << 22  # numbers laid out at once: 16 MiB as int32
FEW = 4  # rows up to which torch multiplies by bfloat16 faster than it makes float32 of it
OFFSETS = {"Q4_K": 8, "Q4_0": 0}  # what makes a number of the file a signed one
HALF = (2.0**-8, 65504.0)  # the largest of a piece, that float16 takes with room below and above

Product = Callable[[Tensor], Tensor]  # [T, in] -> [T, out], bfloat16 or float32


class Int4:
    """The route `engine.route.Route` in torch alone, on the CPU.

    `half` says whether weights of more than 4 bits become float16 or bfloat16; None takes float16
    where torch has FBGEMM. What a weight became lives as long as the weight.
    """

    def __init__(self, half: bool | None = None) -> None:
        self._half = (
            "fbgemm" in torch.backends.quantized.supported_engines if half is None else half
        )
        self._matrices: WeakKeyDictionary[Weight, Product] = WeakKeyDictionary()
        self._stacks: WeakKeyDictionary[Weight, dict[int, Product]] = WeakKeyDictionary()
        self._floats: WeakKeyDictionary[Weight, Tensor] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """What runs, for a person to read."""
        cpu, kind = torch.backends.cpu.get_cpu_capability(), "float" if self._half else "bfloat"
        return f"torch in 4 bits and {kind}16, {cpu}, {torch.get_num_threads()} threads"

    def rows(self, weight: Weight, ids: Sequence[int]) -> Tensor:
        """The rows `ids` of a matrix [n, H]: [len(ids), H]."""
        return weight.rows(ids)

    def layers(
        self,
        layers: Sequence[Layer],
        x: Tensor,
        angles: Angles,
        cache: KVCache,
    ) -> None:
        """None: this route takes them one operation at a time."""

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
        angles: Angles,
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
            self._matrices[weight] = product(weight, self._half)
        return self._matrices[weight]

    def _of_stack(self, stack: Weight, index: int) -> Product:
        made = self._stacks.setdefault(stack, {})
        if index not in made:
            made[index] = product(stack[index], self._half)
        return made[index]


def _attend_once(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One query [heads, 1, D] over all of k and v [kv heads, S, D], none of which is copied."""
    q = q.reshape(k.shape[0], -1, k.shape[2])  # [kv heads, group, D]
    scores = q @ k.transpose(1, 2) / sqrt(k.shape[2])  # [kv heads, group, S]
    return (torch.softmax(scores, dim=-1) @ v).reshape(1, -1)


def _swiglu(x: Tensor, gate: Product, up: Product, down: Product) -> Tensor:
    return down(silu(gate(x).float()) * up(x).float()).float()


def product(weight: Weight, half: bool) -> Product:
    """How to multiply by the matrix `weight` [out, in]."""
    if not isinstance(weight, Blocks) or weight.type == "F32":
        return Cast(weight.dequantise())
    if weight.type in OFFSETS:
        return _packed(weight)
    parts = [_sixteen_bits(piece, half) for piece in weight.pieces()]
    return parts[0] if len(parts) == 1 else Parts(parts)


def _sixteen_bits(matrix: Tensor, half: bool) -> Product:
    least, most = HALF
    if half and least <= float(matrix.abs().max()) <= most:
        return Half(torch.ops.quantized.linear_prepack_fp16(matrix, None))
    return Cast(matrix.bfloat16())


@dataclass(frozen=True)
class Parts:
    """The rows of a large matrix, some at a time."""

    parts: Sequence[Product]

    def __call__(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]"""
        return torch.cat([part(x) for part in self.parts], dim=-1)


@dataclass(frozen=True)
class Half:
    """A matrix in float16, as FBGEMM lays it out; it multiplies in float32."""

    matrix: torch.ScriptObject

    def __call__(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]"""
        y: Tensor = torch.ops.quantized.linear_dynamic_fp16(x.float(), self.matrix)
        return y


@dataclass(frozen=True)
class Cast:
    """A matrix in bfloat16 or float32."""

    matrix: Tensor  # [out, in]

    def __call__(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]; many rows in float32, which torch has faster products for."""
        matrix = self.matrix if len(x) <= FEW else self.matrix.float()
        return functional.linear(x.to(matrix.dtype), matrix)


@dataclass(frozen=True)
class Packed:
    """A matrix in 4-bit numbers, as torch lays them out."""

    rows: int  # out; the numbers have up to 15 more
    numbers: Tensor  # uint8
    scales: Tensor  # bfloat16 [in / GROUP, rows, 2]: scale and zero

    def __call__(self, x: Tensor) -> Tensor:
        """[T, in] -> [T, out]"""
        product = torch.ops.aten._weight_int4pack_mm_for_cpu
        y: Tensor = product(x.bfloat16(), self.numbers, GROUP, self.scales)
        return y if y.shape[1] == self.rows else y[:, : self.rows]


def _packed(weight: Blocks) -> Packed:
    """The blocks of `weight`, some rows at a time. Raises `TensorError` as decoding them does."""
    require_data(weight)
    rows, length = weight.shape
    raw, step = weight.parts[0].reshape(rows, -1), max(1, PIECE // length // TILE) * TILE
    parts = [_laid_out(weight, raw[start : start + step]) for start in range(0, rows, step)]
    numbers, scales = zip(*parts, strict=True)
    return Packed(rows, torch.cat(numbers), torch.cat(scales, dim=1))


def _laid_out(weight: Blocks, raw: Bytes) -> tuple[Tensor, Tensor]:
    """`Packed`'s numbers and scales of some rows, uint8 [rows, bytes]."""
    blocks, offset = grid(raw, weight.type, weight.name), OFFSETS[weight.type]
    scale = blocks.scale  # [N, groups, 1]
    zero = scale * offset if blocks.minimum is None else scale * offset - blocks.minimum
    require_finite(weight, scale)
    require_finite(weight, zero)
    numbers = _filled((blocks.numbers.int() + (8 - offset)).reshape(len(raw), -1))
    scales = _filled(torch.cat([scale, zero], dim=-1).reshape(len(raw), -1, 2))
    laid_out = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
    return laid_out, scales.transpose(0, 1).bfloat16().contiguous()


def _filled(rows: Tensor) -> Tensor:
    """With zeros up to a number of rows that torch takes."""
    missing = -len(rows) % MULTIPLE
    return torch.cat([rows, rows.new_zeros(missing, *rows.shape[1:])]) if missing else rows
