"""Weights on a GPU: still quantised, their bytes laid out for `engine.triton_kernels`.

Knows the bit layouts of the file and of the kernels, which take the same number of bytes; knows
nothing of layers, routes or which kernel runs when.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import frexp, prod

import torch
from torch import Tensor

from engine.errors import TensorError
from engine.launch import decode_rows
from engine.quant import TYPES
from engine.weights import (
    Blocks,
    Device,
    Floats,
    Weight,
    require_data,
    require_finite,
    require_index,
)

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CHUNK = 1 << 23  # bytes of the file that are laid out at once
PIECE = 1 << 24  # numbers decoded at once by `pieces`
MOST = 2**31 - 1  # words or numbers that a kernel can count
# Of a step of 1, the largest number that a block can hold.
LARGEST = {"Q4_K": 63 * 15, "Q5_K": 63 * 31, "Q6_K": 128 * 32, "Q8_0": 128, "Q4_0": 8}


@dataclass(frozen=True, eq=False)
class Packed(Weight):
    """A matrix [out, in] or a stack [E, out, in]: the words, further bits, scales and steps.

    `lo` is int32 [rows, in / 8], eight 4-bit numbers in a word, in the order that
    `engine.triton_kernels` says; of a float type it is the matrix. `hi` has the words' bits above
    the fourth; `sc` the scales of Q4_K, Q5_K (12 bits, with the minimum) and Q6_K; `d` the float16
    steps. What a type lacks is `lo` again, never read. `unit` is a power of 2, for which the
    numbers divided by it fit float16.
    """

    name: str
    type: str  # a name of `engine.quant.TYPES`
    shape: tuple[int, ...]
    lo: Tensor
    hi: Tensor
    sc: Tensor
    d: Tensor
    unit: float = 1.0

    @classmethod
    def of(cls, weight: Blocks, device: Device) -> "Packed":
        """Lay out the blocks of `weight` on `device`; refuses what is empty or not finite."""
        require_data(weight)
        if prod(weight.shape) > MOST * (1 if weight.type in FLOATS else 8):
            raise TensorError(f"{weight.name}: found {weight.shape}, expected at most {MOST} words")
        count = prod(weight.shape[:-1])
        made: list[Tensor] = []
        done = 0
        for raw in _chunks(weight, device):
            parts = lay_out(weight.type, raw, weight.shape[-1])
            require_finite(weight, parts[-1])
            if not made:
                made = [part.new_empty((count, *part.shape[1:])) for part in parts]
            for whole, part in zip(made, parts, strict=True):
                whole[done : done + len(part)] = part
            done += len(raw)
        lo, hi, sc, d = _named(weight.type, made)
        unit = 1.0 if weight.type in FLOATS else _unit(float(d.abs().max()) * LARGEST[weight.type])
        return cls(weight.name, weight.type, weight.shape, lo, hi, sc, d, unit)

    @property
    def pointers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What a kernel takes."""
        return self.lo, self.hi, self.sc, self.d

    @property
    def kind(self) -> str:
        """The type's name to a kernel."""
        return "F" if self.type in FLOATS else self.type

    def dequantise(self, device: Device = "cpu") -> Tensor:
        ids = torch.arange(prod(self.shape[:-1]), device=self.lo.device)
        return self.take(ids).reshape(self.shape).to(device)

    def pieces(self, device: Device = "cpu") -> Iterator[Tensor]:
        rows = max(1, PIECE // self.shape[-1])
        for first in range(0, self.shape[0], rows):
            last = min(first + rows, self.shape[0])
            yield self.take(torch.arange(first, last, device=self.lo.device)).to(device)

    def rows(self, ids: Sequence[int], device: Device = "cpu") -> Tensor:
        return self.take(torch.as_tensor(ids, device=self.lo.device)).to(device)

    def take(self, ids: Tensor) -> Tensor:
        """Rows `ids`, int64 on the weight's device, as float32 [len(ids), in]."""
        return decode_rows(self.pointers, self.kind, self.shape[-1], ids)

    def __getitem__(self, index: int) -> "Packed":
        require_index(self, index)
        size = self.shape[1]
        lo, hi, sc, d = (each[index * size : (index + 1) * size] for each in self.pointers)
        return Packed(f"{self.name}[{index}]", self.type, self.shape[1:], lo, hi, sc, d, self.unit)


def place(weight: Weight, device: Device) -> Weight:
    """`weight` as it lies on `device`: matrices packed, vectors in float32."""
    if isinstance(weight, Blocks) and len(weight.shape) > 1:
        return Packed.of(weight, device)
    return Floats(weight.name, weight.dequantise(device).to(device))


def _chunks(weight: Blocks, device: Device) -> Iterator[Tensor]:
    """Some rows at a time, in order: uint8 [rows, bytes per row]."""
    block = TYPES[weight.type]
    width = weight.shape[-1] // block.size * block.bytes
    rows = max(1, CHUNK // width)
    for part in weight.parts:
        raw = part.reshape(-1, width)
        for start in range(0, len(raw), rows):
            # A copy, because torch warns about read-only memory, which a map of a file is.
            yield torch.from_numpy(raw[start : start + rows].copy()).to(device)


def _unit(largest: float) -> float:
    """The power of 2 that brings `largest` to between 2^14 and 2^15; float16 ends below 2^16."""
    return 2.0 ** (frexp(largest)[1] - 15) if largest else 1.0


def _named(kind: str, made: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`lo`, `hi`, `sc` and `d` of what `lay_out` gave, `lo` for what there is none of."""
    lo, d = made[0], made[-1]
    between = list(made[1:-1])
    hi = between.pop(0) if kind in ("Q5_K", "Q6_K", "Q8_0") else lo
    return lo, hi, between[0] if between else lo, d


def lay_out(kind: str, raw: Tensor, length: int) -> list[Tensor]:
    """Rows [N, bytes per row] as the tensors that `kind` has of `lo`, `hi`, `sc` and `d`."""
    if kind in FLOATS:
        return [raw.view(FLOATS[kind])]
    count, block = len(raw), TYPES[kind]
    parts = _SPLIT[kind](raw.reshape(-1, block.bytes))
    q, scales = parts[0], parts[1:]
    words = 2 if kind == "Q6_K" else 4
    q = _turned(q.reshape(count, length // (8 * words), 8, words))  # place n of word w in group g
    found = [_words(q & 15, 4)]
    if kind in _BITS:
        found.append(_words(q >> 4, _BITS[kind]))
    return [each.reshape(count, -1).contiguous() for each in (*found, *scales)]


_BITS = {"Q5_K": 1, "Q6_K": 2, "Q8_0": 4}  # above the fourth
_WORD = {1: torch.uint8, 2: torch.int16, 4: torch.int32}  # of eight numbers of so many bits


def _turned(q: Tensor) -> Tensor:
    """[N, groups, 8, W]: place n of group g takes the numbers of place n ^ (g % 8)."""
    groups = torch.arange(q.shape[1], device=q.device)[:, None] & 7
    places = groups ^ torch.arange(8, device=q.device)  # [groups, 8]
    return q.gather(2, places[None, :, :, None].expand(q.shape))


def _words(q: Tensor, bits: int) -> Tensor:
    """Numbers of so many bits [N, groups, 8, W], the eight of a word: [N, groups, W]."""
    shifts = torch.arange(8, dtype=torch.int64, device=q.device)[None, None, :, None] * bits
    return (q.long() << shifts).sum(2).to(_WORD[bits])


def _halves(blocks: Tensor, start: int, count: int) -> Tensor:
    return blocks[:, start : start + 2 * count].contiguous().view(torch.float16)


def _nibbles(packed: Tensor, size: int) -> Tensor:
    """Bytes to 4-bit numbers: of each `size` bytes the low halves, then the high ones."""
    q = packed.reshape(len(packed), -1, 1, size)
    return torch.cat([q & 15, q >> 4], dim=2).reshape(len(packed), -1)


def _scales_and_minima(blocks: Tensor) -> Tensor:
    """Bytes 4 to 15 of Q4_K and Q5_K as 12 bytes: for each group 6 bits of scale, 6 of minimum."""
    low, mid, high = blocks[:, 4:8].int(), blocks[:, 8:12].int(), blocks[:, 12:16].int()
    scale = torch.cat([low & 63, (high & 15) | (low >> 6 << 4)], dim=1)  # [N, 8]
    least = torch.cat([mid & 63, (high >> 4) | (mid >> 6 << 4)], dim=1)
    even, odd = (scale | (least << 6)).reshape(-1, 4, 2).unbind(2)
    pairs = torch.stack([even & 255, (even >> 8) | ((odd & 15) << 4), odd >> 4], dim=2)
    return pairs.reshape(-1, 12).to(torch.uint8)


def _split_q4_k(blocks: Tensor) -> tuple[Tensor, ...]:
    return _nibbles(blocks[:, 16:], 32), _scales_and_minima(blocks), _halves(blocks, 0, 2)


def _split_q5_k(blocks: Tensor) -> tuple[Tensor, ...]:
    bits = torch.arange(8, dtype=torch.uint8, device=blocks.device)[None, :, None]
    fifth = ((blocks[:, None, 16:48] >> bits) & 1).reshape(-1, 256)
    q = _nibbles(blocks[:, 48:], 32) | (fifth << 4)
    return q, _scales_and_minima(blocks), _halves(blocks, 0, 2)


def _split_q6_k(blocks: Tensor) -> tuple[Tensor, ...]:
    two = torch.arange(0, 8, 2, dtype=torch.uint8, device=blocks.device)[None, None, :, None]
    high = (blocks[:, 128:192].reshape(-1, 2, 1, 32) >> two) & 3
    q = _nibbles(blocks[:, :128], 64) | (high.reshape(-1, 256) << 4)
    return q, blocks[:, 192:208].view(torch.int8), _halves(blocks, 208, 1)


def _split_q8_0(blocks: Tensor) -> tuple[Tensor, ...]:
    return blocks[:, 2:] ^ 128, _halves(blocks, 0, 1)


def _split_q4_0(blocks: Tensor) -> tuple[Tensor, ...]:
    return _nibbles(blocks[:, 2:], 16), _halves(blocks, 0, 1)


# Blocks [N, bytes] to their unsigned numbers [N, size], then scales where there are some, and d.
_SPLIT = {
    "Q4_K": _split_q4_k,
    "Q5_K": _split_q5_k,
    "Q6_K": _split_q6_k,
    "Q8_0": _split_q8_0,
    "Q4_0": _split_q4_0,
}
