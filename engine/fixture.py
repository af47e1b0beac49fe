"""Writes the embedded default: a small but real GGUF with random weights, from a seed.

Knows the layout of Qwen's files; knows nothing of how they run. The blocks, the tokenizer and the
metadata are of the kinds that a Q4_K_M file of Qwen3-30B-A3B has; only the sizes differ, and by
`SHAPES` not even those. The same seed gives the same bytes on every machine.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from torch import Tensor

from engine.config import ARCHITECTURES, ModelConfig, RopeScaling, yarn_attention_factor
from engine.disk import require_room
from engine.errors import EngineError
from engine.fixture_text import add_tokenizer, train_tokenizer
from engine.gguf import Bytes
from engine.gguf_keys import add_file_type, add_hyperparameters
from engine.gguf_writer import Progress, write_gguf
from engine.mixes import MIXES, Planned, has_more_bits, require_mix
from engine.quant import TYPES, quantise

POOL = 1 << 22  # numbers; a tensor of more draws its blocks from a pool of so many


@dataclass(frozen=True)
class FixtureShape:
    """Sizes of the model. Rows of K-quants need multiples of 256; D is not H / heads on purpose.

    `mix` is one of `MIXES`. Layers from `window_from` on see `window` positions, if it is not 0.
    """

    hidden: int = 256
    layers: int = 3
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 64
    experts: int = 8
    experts_used: int = 2
    expert_width: int = 256
    dense_width: int = 512
    context: int = 512
    vocabulary: int = 512  # at most: the text may not yield as many merges
    padded_vocabulary: int = 0  # at least: unused tokens fill up to it
    rms_epsilon: float = 1e-6
    rope_base: float = 1e6
    rope_scaling: RopeScaling = RopeScaling()
    window: int = 0
    window_from: int = 0
    gain: float = 2.0  # of what a block adds to the residual stream; less is calmer
    mix: str = "Q4_K_M"
    tied: bool = False


SHAPES = {
    "tiny": FixtureShape(),
    "qwen3-30b-a3b": FixtureShape(
        hidden=2048,
        layers=48,
        heads=32,
        kv_heads=4,
        head_dim=128,
        experts=128,
        experts_used=8,
        expert_width=768,
        dense_width=6144,
        context=262144,
        padded_vocabulary=151936,
        rope_base=1e7,
        gain=0.25,
    ),
}


def write_fixture(
    path: str | Path,
    seed: int = 0,
    *,
    architecture: str = "qwen3moe",
    shape: FixtureShape | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a GGUF of `architecture` to `path`, whole or not at all; tells `progress` of it."""
    if architecture not in ARCHITECTURES:
        raise EngineError(
            f"architecture: found {architecture!r}, expected one of {', '.join(ARCHITECTURES)}"
        )
    path, shape = Path(path), shape or FixtureShape()
    require_mix(shape.mix)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write(partial, seed, architecture, shape, progress or (lambda done, total: None))
        os.replace(partial, path)
    except OSError as error:
        raise EngineError(f"{path}: found {error.strerror}, expected to write there") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _write(
    path: Path, seed: int, architecture: str, shape: FixtureShape, progress: Progress
) -> None:
    tokens, merges = train_tokenizer(shape.vocabulary)
    vocabulary = max(len(tokens), shape.padded_vocabulary)
    specs = list(tensor_specs(architecture, shape, vocabulary))
    require_room(path.parent, sum(spec.bytes for spec in specs))

    def add_metadata(writer: GGUFWriter) -> None:
        writer.add_name(f"fixture-{architecture}")
        add_file_type(writer, shape.mix)
        add_hyperparameters(writer, _config(architecture, shape, vocabulary))
        add_tokenizer(writer, tokens, merges, vocabulary)

    write_gguf(path, architecture, add_metadata, specs, Random(seed).blocks, progress)


def _config(architecture: str, shape: FixtureShape, vocabulary: int) -> ModelConfig:
    limited = [layer >= shape.window_from for layer in range(shape.layers)]
    factor = yarn_attention_factor(shape.rope_scaling.factor)
    moe = ARCHITECTURES[architecture].is_moe
    return ModelConfig(
        architecture=architecture,
        context_length=shape.context,
        vocabulary_size=vocabulary,
        block_count=shape.layers,
        embedding_length=shape.hidden,
        head_count=shape.heads,
        head_count_kv=shape.kv_heads,
        key_length=shape.head_dim,
        rms_epsilon=shape.rms_epsilon,
        rope_base=shape.rope_base,
        rope_scaling=replace(shape.rope_scaling, attention_factor=factor),
        sliding_windows=tuple(shape.window * each for each in limited) if shape.window else (),
        feed_forward_length=shape.dense_width,
        expert_count=shape.experts if moe else 0,
        expert_used_count=shape.experts_used if moe else 0,
        expert_feed_forward_length=shape.expert_width if moe else 0,
    )


@dataclass(frozen=True)
class TensorSpec(Planned):
    """A tensor to be made: uniform around `mean` with standard deviation `std`."""

    mean: float
    std: float


def _matrix(name: str, kind: str, *shape: int, gain: float = 1.0) -> TensorSpec:
    """A weight that takes rows of unit variance to rows of variance gain²."""
    return TensorSpec(f"{name}.weight", shape, kind, 0.0, gain / sqrt(shape[-1]))


def _norm(name: str, size: int, mean: float = 1.0) -> TensorSpec:
    """A norm's gain, near `mean` but not equal, so that leaving it out shows."""
    return TensorSpec(f"{name}.weight", (size,), "F32", mean, 0.2)


def _bias(name: str, size: int) -> TensorSpec:
    """A bias as large as what it is added to, so that leaving it out shows."""
    return TensorSpec(f"{name}.bias", (size,), "F32", 0.0, 1.0)


def tensor_specs(architecture: str, shape: FixtureShape, vocabulary: int) -> Iterator[TensorSpec]:
    """Every tensor of the file, in order. Gains keep attention and logits far from uniform."""
    kinds, traits = MIXES[shape.mix], ARCHITECTURES[architecture]
    h, d = shape.hidden, shape.head_dim
    q, kv = shape.heads * d, shape.kv_heads * d
    yield TensorSpec("token_embd.weight", (vocabulary, h), kinds.most, 0.0, 1.0)
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        some = kinds.some if has_more_bits(layer, shape.layers) else kinds.most
        yield _norm(f"{block}.attn_norm", h)
        yield _matrix(f"{block}.attn_q", kinds.most, q, h)
        yield _matrix(f"{block}.attn_k", kinds.most, kv, h)
        yield _matrix(f"{block}.attn_v", some, kv, h)
        if traits.has_qkv_bias:
            yield _bias(f"{block}.attn_q", q)
            yield _bias(f"{block}.attn_k", kv)
            yield _bias(f"{block}.attn_v", kv)
        yield _matrix(f"{block}.attn_output", kinds.most, h, q, gain=shape.gain)
        if traits.has_qk_norm:
            yield _norm(f"{block}.attn_q_norm", d, mean=1.5)
            yield _norm(f"{block}.attn_k_norm", d, mean=1.5)
        yield _norm(f"{block}.ffn_norm", h)
        yield from _feed_forward(architecture, shape, block, some)
    yield _norm("output_norm", h)
    if not shape.tied:
        yield _matrix("output", kinds.output, vocabulary, h, gain=4.0)


def _feed_forward(
    architecture: str, shape: FixtureShape, block: str, some: str
) -> Iterator[TensorSpec]:
    h, most = shape.hidden, MIXES[shape.mix].most
    if not ARCHITECTURES[architecture].is_moe:
        f = shape.dense_width
        yield _matrix(f"{block}.ffn_gate", most, f, h)
        yield _matrix(f"{block}.ffn_up", most, f, h)
        yield _matrix(f"{block}.ffn_down", some, h, f, gain=shape.gain)
        return
    e, f = shape.experts, shape.expert_width
    yield _matrix(f"{block}.ffn_gate_inp", "F32", e, h, gain=2.0)
    yield _matrix(f"{block}.ffn_gate_exps", most, e, f, h)
    yield _matrix(f"{block}.ffn_up_exps", most, e, f, h)
    yield _matrix(f"{block}.ffn_down_exps", some, e, h, f, gain=shape.gain)


class Random:
    """Numbers from a seed, the same everywhere: raw PCG64 output and exact arithmetic only."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._pool = cache(self._fresh)  # by type, mean and deviation

    def blocks(self, spec: TensorSpec) -> Bytes:
        """The tensor, encoded: uint8 of `raw_shape`."""
        if prod(spec.shape) <= POOL:
            return self._encoded(spec.shape, spec.type, spec.mean, spec.std)
        pool = self._pool(spec.type, spec.mean, spec.std)  # [N, bytes per block]
        size = pool.shape[1]
        drawn = self._generator.integers(0, len(pool), spec.bytes // size, dtype=np.uint32)
        drawn_blocks: Bytes = pool[drawn]
        return drawn_blocks.reshape(spec.raw_shape)

    def _fresh(self, kind: str, mean: float, std: float) -> Bytes:
        blocks = POOL // TYPES[kind].size
        return self._encoded((blocks, TYPES[kind].size), kind, mean, std)

    def _encoded(self, shape: tuple[int, ...], kind: str, mean: float, std: float) -> Bytes:
        """Uniform numbers, encoded; a normal distribution would need the platform's log."""
        uniform = torch.from_numpy(self._generator.random(shape)) * 2 - 1  # variance 1/3
        numbers: Tensor = (uniform * (std * sqrt(3)) + mean).float()
        encoded: Bytes = quantise(numbers, kind).numpy()
        return encoded
