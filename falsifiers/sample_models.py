"""Small models that differ where bugs hide: sizes, types, RoPE, windows, experts, tying.

No size or constant is that of another, so that one which is assumed and not read from the file
shows. Names say what is special about each.
"""

from dataclasses import replace
from pathlib import Path

from engine.config import RopeScaling
from engine.fixture import FixtureShape
from falsifiers.kept_models import write_fixture

SMALL = FixtureShape(
    hidden=96, layers=2, heads=6, kv_heads=2, head_dim=32, dense_width=160, expert_width=64
)
YARN, LINEAR = RopeScaling("yarn", 4.0, 64), RopeScaling("linear", 2.5)

MOE = {
    "the default, Q4_K_M": FixtureShape(),
    "every size another, Q5_K_M": FixtureShape(
        hidden=768,
        layers=2,
        heads=4,
        kv_heads=4,
        experts=6,
        experts_used=3,
        context=256,
        rms_epsilon=0.05,
        rope_base=1e4,
        mix="Q5_K_M",
    ),
    "128 experts, top 8, float32, tied, base 1e7": replace(
        SMALL, experts=128, experts_used=8, rope_base=1e7, tied=True, mix="F32"
    ),
    "top 1 of 64, Q8_0, YaRN": replace(
        SMALL, experts=64, experts_used=1, rope_scaling=YARN, mix="Q8_0", kv_heads=3
    ),
    "windows in every layer, BF16, linear scaling": replace(
        SMALL, window=24, rope_scaling=LINEAR, mix="BF16", rope_base=1e4
    ),
}
QWEN3 = {
    "the default, Q4_K_M": FixtureShape(),
    "every size another, Q6_K": FixtureShape(
        hidden=512,
        layers=2,
        heads=8,
        kv_heads=8,
        head_dim=32,
        dense_width=256,
        rms_epsilon=0.05,
        rope_base=1e4,
        mix="Q6_K",
    ),
    "float32, tied, YaRN": replace(SMALL, rope_scaling=YARN, tied=True, mix="F32"),
    "Q4_0, linear scaling, base 1e7": replace(
        SMALL, rope_scaling=LINEAR, rope_base=1e7, mix="Q4_0"
    ),
    "a window from layer 1 on, F16": replace(SMALL, window=24, window_from=1, mix="F16"),
}
# A Qwen2 head is hidden / heads wide.
QWEN2 = {
    "Q4_K_M": FixtureShape(heads=4),
    "every size another, Q5_K_M, base 1e4": FixtureShape(
        hidden=768, layers=2, heads=6, kv_heads=6, head_dim=128, rope_base=1e4, mix="Q5_K_M"
    ),
    "float32, tied": replace(SMALL, head_dim=16, rms_epsilon=0.05, tied=True, mix="F32"),
    "Q8_0, YaRN, base 1e7": replace(
        SMALL, heads=3, kv_heads=1, rope_scaling=YARN, rope_base=1e7, mix="Q8_0"
    ),
    "a window from layer 1 on, BF16": replace(
        SMALL, head_dim=16, window=24, window_from=1, mix="BF16"
    ),
}
# llama.cpp quantises activations to 8 bits, which flips an expert now and then: many experts and
# a calmer residual stream, as in a trained model, keep what one flip does small.
CALM = FixtureShape(experts=32, experts_used=8, layers=2, gain=0.7)
ON_LLAMA = {
    "Q4_K_M": CALM,
    "Q5_K_M, hidden 768": replace(CALM, hidden=768, mix="Q5_K_M", rope_base=1e7),
    "Q8_0, tied": replace(CALM, tied=True, mix="Q8_0", rope_base=1e4),
    "Q6_K, YaRN": replace(CALM, mix="Q6_K", rope_scaling=YARN),
}
ON_THE_FAST_ROUTE = ("Q4_K_M", "Q5_K_M, hidden 768", "Q8_0, tied")
FLOAT32_ON_LLAMA = {
    "YaRN": replace(SMALL, rope_scaling=YARN, mix="F32"),
    "linear scaling, tied": replace(SMALL, rope_scaling=LINEAR, tied=True, mix="F32"),
}


def with_head(shape: FixtureShape, architecture: str) -> FixtureShape:
    """`shape` with the head that `architecture` must have."""
    whole = architecture == "qwen2"
    return replace(shape, head_dim=shape.hidden // shape.heads) if whole else shape


def write_model(folder: Path, architecture: str, shape: FixtureShape) -> Path:
    """The GGUF of `shape`, in `folder`."""
    path = folder / "model.gguf"
    return write_fixture(path, 1, architecture=architecture, shape=shape)
