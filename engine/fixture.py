"""Writes the embedded default: a small but real GGUF with random weights, from a seed.

Knows the layout of Qwen's files; knows nothing of how they run. The blocks, the tokenizer and the
metadata are of the kinds that a Q4_K_M file of Qwen3-30B-A3B has; only the sizes differ, and by
`SHAPES` not even those. The same seed gives the same bytes on every machine.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, RopeScalingType
from torch import Tensor

from engine.config import ARCHITECTURES, RopeScaling
from engine.disk import require_room
from engine.errors import EngineError
from engine.fixture_text import add_tokenizer, train_tokenizer
from engine.gguf import Bytes
from engine.quant import TYPES, quantise

POOL = 1 << 22  # numbers; a tensor of more draws its blocks from a pool of so many
Progress = Callable[[int, int], None]  # bytes written so far, and of all


@dataclass(frozen=True)
class Mix:
    """The types of a file's matrices: most of them; `attn_v` and `ffn_down` in about half the
    layers; the output."""

    most: str
    some: str
    output: str


MIXES = {
    "Q4_K_M": Mix("Q4_K", "Q6_K", "Q6_K"),
    "Q5_K_M": Mix("Q5_K", "Q6_K", "Q6_K"),
    **{name: Mix(name, name, name) for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q6_K")},
}


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
    if shape.mix not in MIXES:
        raise EngineError(f"mix: found {shape.mix!r}, expected one of {', '.join(MIXES)}")
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
    total = sum(spec.bytes for spec in specs)
    require_room(path.parent, total)
    writer = GGUFWriter(path, architecture)
    try:
        _add_hyperparameters(writer, architecture, shape)
        add_tokenizer(writer, tokens, merges, vocabulary)
        for spec in specs:
            kind = GGMLQuantizationType[spec.type]
            writer.add_tensor_info(
                spec.name, spec.raw_shape, np.dtype(np.uint8), spec.bytes, raw_dtype=kind
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        random, done = Random(seed), 0
        for spec in specs:
            writer.write_tensor_data(random.blocks(spec))
            done += spec.bytes
            progress(done, total)
    finally:
        writer.close()


def _add_hyperparameters(writer: GGUFWriter, architecture: str, shape: FixtureShape) -> None:
    writer.add_name(f"fixture-{architecture}")
    kind = "ALL_F32" if shape.mix == "F32" else f"MOSTLY_{shape.mix}"
    writer.add_file_type(LlamaFileType[kind])
    writer.add_quantization_version(2)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    if architecture != "qwen2":  # whose files leave it to hidden / heads
        writer.add_key_length(shape.head_dim)
        writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.rms_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    _add_rope_scaling(writer, shape.rope_scaling)
    writer.add_feed_forward_length(shape.dense_width)
    if shape.window:
        writer.add_sliding_window(shape.window)
        limited = [layer >= shape.window_from for layer in range(shape.layers)]
        writer.add_sliding_window_pattern(limited)
    if ARCHITECTURES[architecture].is_moe:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
        writer.add_expert_feed_forward_length(shape.expert_width)


def _add_rope_scaling(writer: GGUFWriter, scaling: RopeScaling) -> None:
    if scaling.type == "none":
        return
    writer.add_rope_scaling_type(RopeScalingType(scaling.type))
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.type == "yarn":
        writer.add_rope_scaling_orig_ctx_len(scaling.original_context_length)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to be made: uniform around `mean` with standard deviation `std`."""

    name: str
    shape: tuple[int, ...]
    type: str
    mean: float
    std: float

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """The shape in bytes, [..., bytes per row]."""
        block = TYPES[self.type]
        if self.shape[-1] % block.size:
            raise EngineError(
                f"{self.name}: found rows of {self.shape[-1]}, "
                f"expected a multiple of {block.size} for {self.type}"
            )
        return (*self.shape[:-1], self.shape[-1] // block.size * block.bytes)

    @property
    def bytes(self) -> int:
        """Bytes of the encoded tensor."""
        return prod(self.raw_shape)


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


def has_more_bits(layer: int, layers: int) -> bool:
    """Whether `attn_v` and `ffn_down` get the larger type in a K_M file (llama.cpp's rule)."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


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
