"""Encodes weights for publishing: scales are searched for, not taken from a block's range.

Knows what is lost by a scale; the layout of blocks is `engine.quant`'s, and it knows nothing of
files. The search is of the kind of llama.cpp's (ggml-quants.c, `make_qkx2_quants` for Q4_K and
Q5_K, `make_qx_quants` for Q6_K): steps around the one that a block's range gives are tried, numbers
rounded by each, scale and minimum fitted by weighted least squares, and the best is kept. Steps
here are fewer and wider, and the best of them is rounded and fitted again.

Only single IEEE operations are used, and sums are trees of them, so that the same numbers give the
same bytes on every machine and by any number of threads.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from engine.quant import block_type, encode_k, encode_q6_k, quantise, row_bytes

PIECE = 1 << 16  # numbers tried at once: what is made of them fits the second-level cache
TINY = 1e-30  # a range below which a block is all the same
SINGULAR = 1e-6  # a share of a determinant that is nothing but rounding


def encode(x: Tensor, kind: str, name: str = "tensor") -> Tensor:
    """Encode float32 [..., in] as uint8 [..., bytes per row], by a search where `kind` has scales
    to search for, else as `engine.quant.quantise` does."""
    if kind not in SEARCHES:
        return quantise(x, kind, name)
    width, size = row_bytes(kind, x.shape[-1], name), block_type(kind, name).size
    blocks, count = x.float().reshape(-1, size), PIECE // size
    pieces = (blocks[start : start + count] for start in range(0, len(blocks), count))
    return torch.cat([SEARCHES[kind](piece) for piece in pieces]).reshape(*x.shape[:-1], width)


def _encode_q4_k(x: Tensor) -> Tensor:
    return encode_k(x, *_fit_k(x, 15, [0.4 * step for step in range(-3, 2)], again=3), "Q4_K")


def _encode_q5_k(x: Tensor) -> Tensor:
    return encode_k(x, *_fit_k(x, 31, [0.3 * step for step in range(-4, 2)], again=1), "Q5_K")


def _encode_q6_k(x: Tensor) -> Tensor:
    return encode_q6_k(x, _fit_q6_k(x, [0.5 * step for step in range(-2, 5)]))


SEARCHES: dict[str, Callable[[Tensor], Tensor]] = {
    "Q4_K": _encode_q4_k,
    "Q5_K": _encode_q5_k,
    "Q6_K": _encode_q6_k,
}


class Fit(NamedTuple):
    """Of M blocks: scale, lowest number, and what is lost but for Σ w x²; each [M], or [C, M]."""

    scale: Tensor
    low: Tensor
    lost: Tensor

    def or_better(self, candidates: "Fit") -> "Fit":
        """This one, or that of the candidates [C, M] which loses less."""
        best = self
        for other in zip(*candidates, strict=True):
            better = other[2] < best.lost
            best = Fit(
                *(torch.where(better, new, old) for new, old in zip(other, best, strict=True))
            )
        return best


def _fit_k(x: Tensor, most: int, steps: Sequence[float], again: int) -> tuple[Tensor, Tensor]:
    """Of [N, 256] numbers: the scale and the minimum (as it is subtracted) of each 32, [N, 8].

    For each candidate the numbers q = 0 to `most` are the nearest; then scale and low are those
    that minimise Σ w (scale q + low - x)², where low is at most 0. The best is rounded and fitted
    again so many times. All is reckoned from the least number on, so that a block far from 0 loses
    nothing to rounding.
    """
    x = x.reshape(-1, 32).T.contiguous()  # [32, M]
    w = (_sum(x * x) / 32).sqrt() + x.abs()
    least = x.amin(dim=0).clamp(max=0)
    span = x.amax(dim=0) - least
    x = x - least
    wx = w * x
    sum_w, sum_x = _sum(w.clone()), _sum(wx.clone())
    fit = Fit(span / most, torch.zeros_like(least), torch.full_like(least, torch.inf))
    ratios = [(most + step) * _inverse(span) for step in steps]
    for _ in range(1 + again):
        sums = _sums(x - fit.low, ratios, (0, most), w, wx)
        fit = fit.or_better(_least_squares(sums, sum_w, sum_x, least))
        ratios = [_inverse(fit.scale)]
    return fit.scale.reshape(-1, 8), -(fit.low + least).reshape(-1, 8)


def _least_squares(sums: Tensor, sum_w: Tensor, sum_x: Tensor, least: Tensor) -> Fit:
    """Scale and low for each candidate of `_sums`, for low + least at most 0."""
    sum_q, sum_qx, sum_qq = sums
    area = sum_w * sum_qq
    determinant = area - sum_q * sum_q
    scale = (sum_w * sum_qx - sum_x * sum_q) / determinant
    low = (sum_qq * sum_x - sum_q * sum_qx) / determinant
    above = low + least > 0
    scale = torch.where(above, (sum_qx + least * sum_q) / sum_qq, scale)
    low = torch.where(above, -least, low)
    lost = scale * (scale * sum_qq + 2 * low * sum_q - 2 * sum_qx) + low * (low * sum_w - 2 * sum_x)
    return Fit(scale, low, torch.where(determinant > SINGULAR * area, lost, torch.inf))


def _fit_q6_k(x: Tensor, steps: Sequence[float]) -> Tensor:
    """Of [N, 256] numbers: the scale of each 16, [N, 16], for numbers q = -32 to 31.

    For each candidate the q are the nearest; then the scale is the one that minimises
    Σ x² (scale q - x)². The number of largest magnitude is near -32, so scales may be negative.
    """
    x = x.reshape(-1, 16).T.contiguous()  # [16, M]
    w = x * x
    per_largest = _inverse(x.gather(0, x.abs().argmax(dim=0, keepdim=True))[0])
    ratios = [(step - 32) * per_largest for step in steps]
    _, sum_qx, sum_qq = _sums(x, ratios, (-32, 31), w, w * x)
    scale = torch.where(sum_qq > 0, sum_qx / sum_qq, torch.zeros_like(sum_qq))
    none = torch.zeros_like(per_largest)
    fit = Fit(none, none, none).or_better(Fit(scale, torch.zeros_like(scale), -scale * sum_qx))
    return fit.scale.reshape(-1, 16)


def _inverse(x: Tensor) -> Tensor:
    return torch.where(x.abs() > TINY, 1 / x, torch.zeros_like(x))


def _sums(
    x: Tensor, ratios: Sequence[Tensor], ends: tuple[int, int], w: Tensor, wx: Tensor
) -> Tensor:
    """Over the rows of x [n, M], for each candidate of 1 / scale and its q, x / scale rounded:
    Σ w q, Σ w q x and Σ w q², [3, C, M]."""
    q, terms = torch.empty_like(x), x.new_empty(3, *x.shape)
    sums = x.new_empty(3, len(ratios), x.shape[1])
    for place, ratio in enumerate(ratios):
        torch.mul(x, ratio, out=q).round_().clamp_(*ends)
        torch.mul(q, w, out=terms[0])
        torch.mul(q, wx, out=terms[1])
        torch.mul(q, terms[0], out=terms[2])
        sums[:, place] = _sum(terms, dim=1)
    return sums


def _sum(terms: Tensor, dim: int = 0) -> Tensor:
    """Their sum over `dim` (of 16 or 32) as a tree, in place: in one order on every machine."""
    while (size := terms.shape[dim]) > 1:
        low, high = terms.narrow(dim, 0, size // 2), terms.narrow(dim, size // 2, size // 2)
        terms = low.add_(high)
    return terms.squeeze(dim)
