"""Attention and RMSNorm, as every layer has them.

Knows shapes; knows nothing of weights, caches or positions.
"""

from math import sqrt

import torch
from torch import Tensor


def rms_norm(x: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    """x / rms(x) * gain over the last dimension (arXiv 1910.07467)."""
    return gain * (x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + epsilon))


def attention(q: Tensor, k: Tensor, v: Tensor, window: int = 0) -> Tensor:
    """Causal attention of queries [..., heads, T, D] over keys and values [..., kv heads, S, D].

    The T queries are the last T of the S positions. Each key head serves heads / kv heads
    neighbouring query heads (GQA, arXiv 2305.13245). With `window`, a query sees that many
    positions, its own included. Returns [..., heads, T, D].
    """
    group = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(group, dim=-3), v.repeat_interleave(group, dim=-3)
    scores = q @ k.transpose(-1, -2) / sqrt(q.shape[-1])  # [..., heads, T, S]
    count, seen = scores.shape[-2:]
    hidden = torch.ones(count, seen, dtype=torch.bool, device=q.device).triu(seen - count + 1)
    if window:
        hidden |= torch.ones_like(hidden).tril(seen - count - window)
    return torch.softmax(scores.masked_fill(hidden, float("-inf")), dim=-1) @ v


def split_heads(x: Tensor, size: int) -> Tensor:
    """[..., T, n * D] -> [..., n, T, D]"""
    return x.reshape(*x.shape[:-1], -1, size).transpose(-3, -2)
