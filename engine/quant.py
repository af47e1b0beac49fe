"""Numbers in blocks: how each GGUF tensor type stores floats.

Knows the bit layouts; knows nothing of files, layers or architectures. Layouts: ggml-common.h;
decoding is bit for bit that of `gguf.quants.dequantize`, encoding is plain rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.errors import TensorError


@dataclass(frozen=True)
class Grid:
    """Blocks of a quantised type: weights = scale * numbers - minimum, group by group."""

    numbers: Tensor  # uint8 or int8 [N, groups, numbers in a group]
    scale: Tensor  # float32 [N, groups, 1]
    minimum: Tensor | None = None  # float32 [N, groups, 1], where there is one

    def decode(self) -> Tensor:
        """The weights, float32 [N, numbers in a block]."""
        x = self.scale * self.numbers.float()
        return (x if self.minimum is None else x - self.minimum).flatten(1)


def _decode_f32(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float32)


def _decode_f16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.float16).float()


def _decode_bf16(blocks: Tensor) -> Tensor:
    return blocks.view(torch.bfloat16).float()


def _halves(blocks: Tensor, start: int) -> Tensor:
    """The float16 at byte `start` of every block, as float32 [N, 1]."""
    return blocks[:, start : start + 2].contiguous().view(torch.float16).float()


def _scales_and_minima(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Of Q4_K and Q5_K: d × scale and dmin × min [N, 8, 1]; 6 bits each in bytes 4 to 15."""
    packed = blocks[:, 4:16]
    low, mid, high = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scale = torch.cat([low & 0x3F, (high & 0x0F) | ((low >> 2) & 0x30)], dim=1)  # [N, 8]
    least = torch.cat([mid & 0x3F, (high >> 4) | ((mid >> 2) & 0x30)], dim=1)
    d, dmin = _halves(blocks, 0), _halves(blocks, 2)
    return (d * scale.float())[:, :, None], (dmin * least.float())[:, :, None]


def _nibbles(packed: Tensor) -> Tensor:
    """[N, 128] bytes to 4-bit numbers [N, 8, 32]."""
    q = packed.reshape(-1, 4, 1, 32)
    return torch.cat([q & 0x0F, q >> 4], dim=2).reshape(-1, 8, 32)


def _grid_q4_k(blocks: Tensor) -> Grid:
    """[N, 144] bytes: d, dmin (f16), 8 × (scale, min) in 6 bits each, 256 × 4 bits."""
    return Grid(_nibbles(blocks[:, 16:]), *_scales_and_minima(blocks))


def _grid_q5_k(blocks: Tensor) -> Grid:
    """[N, 176] bytes: as Q4_K, with 256 × the fifth bit before the 256 × 4 bits."""
    bits = torch.arange(8, dtype=torch.uint8, device=blocks.device)[None, :, None]
    high = (blocks[:, None, 16:48] >> bits) & 1  # [N, 8, 32]
    return Grid(_nibbles(blocks[:, 48:]) | (high << 4), *_scales_and_minima(blocks))


def _grid_q6_k(blocks: Tensor) -> Grid:
    """[N, 210] bytes: 256 × low 4 bits, 256 × high 2 bits, 16 int8 scales, d (f16)."""
    low = blocks[:, :128].reshape(-1, 2, 1, 64)
    low = torch.cat([low & 0x0F, low >> 4], dim=2).reshape(-1, 8, 32)
    high = blocks[:, 128:192].reshape(-1, 2, 1, 32)
    high = torch.cat([(high >> shift) & 3 for shift in (0, 2, 4, 6)], dim=2).reshape(-1, 8, 32)
    q = (low | (high << 4)).to(torch.int8) - 32
    scale = blocks[:, 192:208].contiguous().view(torch.int8).float()
    return Grid(q.reshape(-1, 16, 16), (_halves(blocks, 208) * scale)[:, :, None])


def _grid_q8_0(blocks: Tensor) -> Grid:
    """[N, 34] bytes: d (f16), 32 × int8."""
    q = blocks[:, 2:].contiguous().view(torch.int8)
    return Grid(q[:, None], _halves(blocks, 0)[:, None])


def _grid_q4_0(blocks: Tensor) -> Grid:
    """[N, 18] bytes: d (f16), 32 × 4 bits, the low halves first."""
    q = torch.cat([blocks[:, 2:] & 0x0F, blocks[:, 2:] >> 4], dim=1).to(torch.int8) - 8
    return Grid(q[:, None], _halves(blocks, 0)[:, None])


def _encode_f32(rows: Tensor) -> Tensor:
    return rows.contiguous().view(torch.uint8)


def _encode_f16(rows: Tensor) -> Tensor:
    return rows.half().contiguous().view(torch.uint8)


def _ratio(x: Tensor, step: Tensor) -> Tensor:
    """x / step, rounded; 0 where the step is 0 (a block of zeros)."""
    return torch.where(step == 0, torch.zeros_like(x), x / step).round()


def _encode_bf16(rows: Tensor) -> Tensor:
    return rows.bfloat16().contiguous().view(torch.uint8)


def _encode_q8_0(x: Tensor) -> Tensor:
    d = (x.abs().amax(dim=1, keepdim=True) / 127).half()
    q = _ratio(x, d.float()).clamp(-127, 127).to(torch.int8)
    return torch.cat([d.view(torch.uint8), q.view(torch.uint8)], dim=1)


def _encode_q4_0(x: Tensor) -> Tensor:
    d = (x.gather(1, x.abs().argmax(dim=1, keepdim=True)) / -8).half()
    q = (_ratio(x, d.float()).clamp(-8, 7) + 8).to(torch.uint8)
    return torch.cat([d.view(torch.uint8), q[:, :16] | (q[:, 16:] << 4)], dim=1)


def _by_range(x: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """For Q4_K and Q5_K: the 16 bytes of scales and minima, and numbers 0 to `most` [N, 8, 32]."""
    x = x.reshape(-1, 8, 32)
    least = x.amin(dim=2).clamp(max=0)  # [N, 8]
    return _in_steps(x, (x.amax(dim=2) - least) / most, -least, most)


def _in_steps(x: Tensor, step: Tensor, below: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The same for scales `step` and minima `below`, of at least 0 [N, 8], given in full."""
    d = (step.amax(dim=1, keepdim=True) / 63).half()  # [N, 1]
    dmin = (below.amax(dim=1, keepdim=True) / 63).half()
    scale = _ratio(step, d.float()).clamp(0, 63)
    minimum = _ratio(below, dmin.float()).clamp(0, 63)
    offset = (dmin.float() * minimum)[:, :, None]
    q = _ratio(x + offset, (d.float() * scale)[:, :, None]).clamp(0, most).to(torch.uint8)
    s, m = scale.to(torch.uint8), minimum.to(torch.uint8)
    packed = [
        d.view(torch.uint8),
        dmin.view(torch.uint8),
        s[:, :4] | (s[:, 4:] >> 4 << 6),
        m[:, :4] | (m[:, 4:] >> 4 << 6),
        (s[:, 4:] & 0x0F) | ((m[:, 4:] & 0x0F) << 4),
    ]
    return torch.cat(packed, dim=1), q


def _pack_nibbles(q: Tensor) -> Tensor:
    """4-bit numbers [N, 8, 32] to [N, 128] bytes."""
    q = q.reshape(-1, 4, 2, 32)
    return (q[:, :, 0] | (q[:, :, 1] << 4)).reshape(-1, 128)


def _encode_q4_k(x: Tensor) -> Tensor:
    return _pack_q4_k(*_by_range(x, 15))


def _encode_q5_k(x: Tensor) -> Tensor:
    return _pack_q5_k(*_by_range(x, 31))


def _pack_q4_k(head: Tensor, q: Tensor) -> Tensor:
    return torch.cat([head, _pack_nibbles(q)], dim=1)


def _pack_q5_k(head: Tensor, q: Tensor) -> Tensor:
    bits = torch.arange(8, dtype=torch.uint8)[None, :, None]
    high = ((q >> 4) << bits).sum(dim=1).to(torch.uint8)  # [N, 32]
    return torch.cat([head, high, _pack_nibbles(q & 0x0F)], dim=1)


def encode_k(x: Tensor, step: Tensor, below: Tensor, kind: str) -> Tensor:
    """[N, 256] floats as Q4_K or Q5_K, by a scale and a minimum for each 32 of them [N, 8]."""
    most, pack = (15, _pack_q4_k) if kind == "Q4_K" else (31, _pack_q5_k)
    return pack(*_in_steps(x.reshape(-1, 8, 32), step, below, most))


def _encode_q6_k(x: Tensor) -> Tensor:
    """[N, 256] floats by the number of largest magnitude in each 16, which becomes -32.

    So a scale is negative where that number is positive, as in llama.cpp's files.
    """
    x = x.reshape(-1, 16, 16)
    step = x.gather(2, x.abs().argmax(dim=2, keepdim=True)).squeeze(2) / -32  # [N, 16]
    d = (step.abs().amax(dim=1, keepdim=True) / 127).half()  # [N, 1]
    return _pack_q6_k(x, step, d)


def encode_q6_k(x: Tensor, step: Tensor) -> Tensor:
    """[N, 256] floats as Q6_K, by a scale for each 16 of them [N, 16], the largest of which
    becomes -128."""
    largest = step.gather(1, step.abs().argmax(dim=1, keepdim=True))
    return _pack_q6_k(x.reshape(-1, 16, 16), step, (largest / -128).half())


def _pack_q6_k(x: Tensor, step: Tensor, d: Tensor) -> Tensor:
    scale = _ratio(step, d.float()).clamp(-128, 127)
    q = _ratio(x, (d.float() * scale)[:, :, None]).clamp(-32, 31) + 32
    q = q.to(torch.uint8).reshape(-1, 2, 4, 32)
    low, high = q & 0x0F, q >> 4
    packed = [
        (low[:, :, :2] | (low[:, :, 2:] << 4)).reshape(-1, 128),
        (high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6).flatten(1),
        scale.to(torch.int8).view(torch.uint8),
        d.view(torch.uint8),
    ]
    return torch.cat(packed, dim=1)


@dataclass(frozen=True)
class BlockType:
    """One tensor type: `size` numbers in `bytes` bytes, and the way in both directions."""

    size: int
    bytes: int
    decode: Callable[[Tensor], Tensor]  # uint8 [N, bytes] -> float32 [N, size]
    encode: Callable[[Tensor], Tensor]  # float32 [N, size] -> uint8 [N, bytes]
    grid: Callable[[Tensor], Grid] | None = None  # uint8 [N, bytes], where scales are apart


def _quantised(
    size: int, width: int, grid: Callable[[Tensor], Grid], encode: Callable[[Tensor], Tensor]
) -> BlockType:
    return BlockType(size, width, lambda blocks: grid(blocks).decode(), encode, grid)


TYPES = {
    "F32": BlockType(1, 4, _decode_f32, _encode_f32),
    "F16": BlockType(1, 2, _decode_f16, _encode_f16),
    "BF16": BlockType(1, 2, _decode_bf16, _encode_bf16),
    "Q8_0": _quantised(32, 34, _grid_q8_0, _encode_q8_0),
    "Q4_0": _quantised(32, 18, _grid_q4_0, _encode_q4_0),
    "Q4_K": _quantised(256, 144, _grid_q4_k, _encode_q4_k),
    "Q5_K": _quantised(256, 176, _grid_q5_k, _encode_q5_k),
    "Q6_K": _quantised(256, 210, _grid_q6_k, _encode_q6_k),
}


def block_type(kind: str, name: str) -> BlockType:
    """The layout of `kind`; `TensorError` names the tensor `name` if there is none."""
    if kind not in TYPES:
        raise TensorError(f"{name}: found type {kind}, expected one of {', '.join(TYPES)}")
    return TYPES[kind]


def row_bytes(kind: str, length: int, name: str) -> int:
    """Bytes that a row of `length` numbers takes."""
    block = block_type(kind, name)
    if length % block.size:
        raise TensorError(
            f"{name}: found rows of {length}, expected a multiple of {block.size} for {kind}"
        )
    return length // block.size * block.bytes


def quantise(x: Tensor, kind: str, name: str = "tensor") -> Tensor:
    """Encode float32 [..., in] as uint8 [..., bytes per row]."""
    width = row_bytes(kind, x.shape[-1], name)
    block = block_type(kind, name)
    return block.encode(x.float().reshape(-1, block.size)).reshape(*x.shape[:-1], width)


def grid(raw: npt.NDArray[np.uint8], kind: str, name: str = "tensor") -> Grid:
    """The numbers and scales in `raw`, of a quantised type."""
    block = block_type(kind, name)
    if block.grid is None:
        raise TensorError(f"{name}: found type {kind}, expected a quantised one")
    return block.grid(_blocks(raw, block, "cpu"))


def dequantise(
    raw: npt.NDArray[np.uint8],
    kind: str,
    shape: Sequence[int],
    name: str = "tensor",
    device: torch.device | str = "cpu",
) -> Tensor:
    """Decode `raw` into float32 of `shape`, on `device`."""
    block = block_type(kind, name)
    return block.decode(_blocks(raw, block, device)).reshape(*shape)


def _blocks(raw: npt.NDArray[np.uint8], block: BlockType, device: torch.device | str) -> Tensor:
    # A copy, because torch warns about read-only memory, which a map of a file is.
    return torch.from_numpy(raw.copy()).to(device).reshape(-1, block.bytes)
