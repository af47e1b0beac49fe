"""Small models that differ where the bugs of a KV cache hide.

Heads and KV heads, a head size that is not hidden / heads, RoPE bases, 8 to 128 experts of which 1
to 8 are used, block types, a tied output, a sliding window, biases. Knows nothing of the claims.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

import engine
from engine.fixture import FixtureShape
from falsifiers import sample_models
from falsifiers.kept_models import write_fixture

MODELS: dict[str, tuple[str, FixtureShape]] = {
    "grouped": (
        "qwen3moe",
        FixtureShape(
            hidden=64,
            layers=2,
            heads=4,
            kv_heads=2,
            head_dim=24,
            experts=8,
            experts_used=2,
            expert_width=32,
            rope_base=1e4,
            mix="F32",
        ),
    ),
    "128 experts": (
        "qwen3moe",
        FixtureShape(
            hidden=64,
            layers=2,
            heads=6,
            kv_heads=2,
            head_dim=32,
            experts=128,
            experts_used=8,
            expert_width=32,
            rope_base=1e7,
            mix="Q8_0",
        ),
    ),
    "top 1": (
        "qwen3moe",
        FixtureShape(layers=2, heads=4, kv_heads=1, experts=12, experts_used=1, mix="Q4_K_M"),
    ),
    "tied": (
        "qwen3moe",
        FixtureShape(
            hidden=32,
            layers=3,
            heads=8,
            kv_heads=4,
            head_dim=16,
            experts=32,
            experts_used=4,
            expert_width=32,
            tied=True,
            mix="Q8_0",
        ),
    ),
    "window": (
        "qwen3",
        FixtureShape(
            layers=2,
            heads=4,
            kv_heads=2,
            dense_width=256,
            window=8,
            window_from=1,
            mix="Q5_K_M",
        ),
    ),
    "qwen2": (
        "qwen2",
        FixtureShape(
            hidden=96, layers=2, heads=4, kv_heads=2, head_dim=24, dense_width=96, mix="F16"
        ),
    ),
}
# On a route an expert may flip; so many, and a calm residual stream, keep what one does small.
CALM = {"calm": ("qwen3moe", sample_models.CALM)}
Load = Callable[[str], engine.Model]


def loader(folder: Path) -> Load:
    """Writes and opens a model of `MODELS` or `CALM` when it is first asked for."""

    @cache
    def load(name: str) -> engine.Model:
        architecture, shape = (MODELS | CALM)[name]
        path = folder / f"{name}.gguf"
        return engine.load(write_fixture(path, 1, architecture=architecture, shape=shape))

    return load


def some_ids(count: int, seed: int = 0) -> list[int]:
    """Random token ids, none of them special."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 480, (count,), generator=generator).tolist()
