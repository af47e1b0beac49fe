"""Rotary position embedding: the angles of positions, and the rotation of heads by them.

Knows RoPE (arXiv 2104.09864) in NEOX order, and its scalings; knows nothing of attention or layers.
"""

from functools import cache
from math import ceil, floor, log, pi

import torch
from torch import Tensor

from engine.config import ModelConfig, RopeScaling


def tables(config: ModelConfig, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine [T, D/2] for `positions` [T], in float32."""
    turns = frequencies(config.rope_base, config.key_length, config.rope_scaling)
    angle = positions.float()[:, None] * turns.to(positions.device)  # [T, D/2]
    factor = config.rope_scaling.attention_factor
    return angle.cos() * factor, angle.sin() * factor


@cache
def frequencies(base: float, size: int, scaling: RopeScaling) -> Tensor:
    """Radians per position of each pair [D/2], D = `size`; shared, so not to be changed."""
    turns = 1.0 / base ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    if scaling.type == "none":
        return turns
    if scaling.type == "linear":
        return turns / scaling.factor
    # YaRN (arXiv 2309.00071): pairs that turn often within the trained context stay as they are,
    # those that turn rarely are interpolated, those between are mixed.
    low, high = (_pair(n, base, size, scaling) for n in (scaling.beta_fast, scaling.beta_slow))
    low, high = max(floor(low), 0), min(ceil(high), size - 1)
    ramp = (torch.arange(size // 2, dtype=torch.float32) - low) / max(high - low, 0.001)
    mixed = ramp.clamp(0, 1)  # [D/2], 0 as it is, 1 interpolated
    return turns / scaling.factor * mixed + turns * (1 - mixed)


def _pair(rotations: float, base: float, size: int, scaling: RopeScaling) -> float:
    """The (fractional) pair that makes so many rotations within the trained context."""
    return size * log(scaling.original_context_length / (rotations * 2 * pi)) / (2 * log(base))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x [..., T, D] by its positions' angles [T, D/2]; NEOX pairs, (i, i + D/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
