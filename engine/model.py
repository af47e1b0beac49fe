"""The forward pass: token ids to logits, for dense Qwen3 and its mixtures of experts.

Knows layers and tensor names; knows nothing of text, sampling or how blocks decode. One model
definition with switches: attention is the same for all, `feed_forward` is the one place where
architectures part. Weights stay encoded in the mapped file and are decoded when used.
"""

from collections.abc import Mapping, Sequence
from math import prod, sqrt
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import silu

from engine import moe
from engine.cache import KVCache
from engine.config import ModelConfig
from engine.errors import EngineError, PromptError, TensorError
from engine.gguf import GGUFFile, RawTensor, open_gguf
from engine.quant import Weight, linear, row_bytes


def load(path: str | Path, device: str = "cpu") -> "Model":
    """Open the GGUF at `path` and check that it holds every tensor, in its right shape.

    Raises `FormatError` for the file or its metadata, `TensorError` for a tensor, and
    `EngineError` for a device that is not there. No weight is decoded yet.
    """
    return Model.from_file(open_gguf(path), device)


class Model:
    """A model ready to run. `weights` are by the file's names; `config` is read at each use."""

    def __init__(
        self,
        config: ModelConfig,
        weights: dict[str, Weight],
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config
        self.weights = weights
        self.device = torch.device(device)

    @classmethod
    def from_file(cls, file: GGUFFile, device: str = "cpu") -> "Model":
        """From a file that is open already."""
        config = ModelConfig.from_metadata(file.metadata)
        check_tensors(config, file.tensors)
        weights = {name: Weight(name, *tensor) for name, tensor in file.tensors.items()}
        return cls(config, weights, _device(device))

    def weight(self, name: str) -> Weight:
        """The weight `name` (without `.weight`); one that the file lacks fails when used."""
        name = f"{name}.weight"
        return self.weights.get(name) or Weight.absent(name)

    def new_cache(self, capacity: int | None = None) -> KVCache:
        """An empty cache for `capacity` positions, or for the whole context."""
        c = self.config
        size = c.context_length if capacity is None else capacity
        return KVCache(c.block_count, c.head_count_kv, size, c.key_length, self.device)

    def logits(self, ids: Sequence[int]) -> Tensor:
        """Float32 logits [T, V] at every position of `ids`, without a cache."""
        return self.forward(ids)

    def forward(
        self, ids: Sequence[int], cache: KVCache | None = None, *, last_only: bool = False
    ) -> Tensor:
        """Float32 logits [T, V] of `ids` placed after what `cache` holds, which grows by T.

        With `last_only`, [1, V] for the last position alone. Raises `PromptError` for ids that
        are none, outside the vocabulary or beyond the context, and where the cache is full.
        """
        start = 0 if cache is None else cache.length
        check_ids(ids, start, self.config)
        positions = torch.arange(start, start + len(ids), device=self.device)
        x = self.weight("token_embd").rows(ids, self.device)  # [T, H]
        for layer in range(self.config.block_count):
            x = x + attend(self, layer, self.norm(f"blk.{layer}.attn_norm", x), positions, cache)
            x = x + feed_forward(self, layer, self.norm(f"blk.{layer}.ffn_norm", x))
        if cache is not None:
            cache.advance(len(ids))
        x = self.norm("output_norm", x[-1:] if last_only else x)
        return linear(x, self._output())  # [T, V]

    def norm(self, name: str, x: Tensor) -> Tensor:
        """RMSNorm of x [..., n] by the gain `name` [n]."""
        return rms_norm(x, self.weight(name).dequantise(self.device), self.config.rms_epsilon)

    def _output(self) -> Weight:
        tied = "output.weight" not in self.weights
        return self.weight("token_embd" if tied else "output")


def rms_norm(x: Tensor, gain: Tensor, epsilon: float) -> Tensor:
    """x / rms(x) * gain over the last dimension (arXiv 1910.07467)."""
    return gain * (x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + epsilon))


def rope(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Rotate x [heads, T, D] by its positions [T]; NEOX pairs, (i, i + D/2) (arXiv 2104.09864)."""
    half = x.shape[-1] // 2
    exponent = torch.arange(half, device=x.device, dtype=torch.float32) / half
    angle = positions.float()[:, None] * (1.0 / base**exponent)  # [T, D/2]
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention of queries [heads, T, D] over keys and values [kv heads, S, D].

    The T queries are the last T of the S positions. Each key head serves heads / kv heads
    neighbouring query heads (GQA, arXiv 2305.13245). Returns [heads, T, D].
    """
    group = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(group, dim=0), v.repeat_interleave(group, dim=0)
    scores = q @ k.transpose(1, 2) / sqrt(q.shape[-1])  # [heads, T, S]
    count, seen = scores.shape[1:]
    future = torch.ones(count, seen, dtype=torch.bool, device=q.device).triu(seen - count + 1)
    return torch.softmax(scores.masked_fill(future, float("-inf")), dim=-1) @ v


def attend(model: Model, layer: int, x: Tensor, positions: Tensor, cache: KVCache | None) -> Tensor:
    """The attention block of one layer: [T, H] to [T, H]. Q and K are normed before RoPE."""
    c, block = model.config, f"blk.{layer}"
    q = _heads(linear(x, model.weight(f"{block}.attn_q")), c.head_count)
    k = _heads(linear(x, model.weight(f"{block}.attn_k")), c.head_count_kv)
    v = _heads(linear(x, model.weight(f"{block}.attn_v")), c.head_count_kv)
    q = rope(model.norm(f"{block}.attn_q_norm", q), positions, c.rope_base)
    k = rope(model.norm(f"{block}.attn_k_norm", k), positions, c.rope_base)
    if cache is not None:
        k, v = cache.append(layer, k, v)
    mixed = attention(q, k, v).transpose(0, 1).flatten(1)  # [T, heads * D]
    return linear(mixed, model.weight(f"{block}.attn_output"))


def _heads(x: Tensor, count: int) -> Tensor:
    return x.reshape(x.shape[0], count, -1).transpose(0, 1)  # [T, count * D] -> [count, T, D]


def feed_forward(model: Model, layer: int, x: Tensor) -> Tensor:
    """The feed-forward block of one layer, [T, H] to [T, H]: the one dispatch by architecture."""
    block = f"blk.{layer}"
    if model.config.is_moe:
        return moe.moe_feed_forward(
            x,
            model.weight(f"{block}.ffn_gate_inp"),
            model.weight(f"{block}.ffn_gate_exps"),
            model.weight(f"{block}.ffn_up_exps"),
            model.weight(f"{block}.ffn_down_exps"),
            model.config.expert_used_count,
        )
    return dense_feed_forward(
        x,
        model.weight(f"{block}.ffn_gate"),
        model.weight(f"{block}.ffn_up"),
        model.weight(f"{block}.ffn_down"),
    )


def dense_feed_forward(x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
    """SwiGLU (arXiv 2002.05202): [T, H] to [T, H]."""
    return linear(silu(linear(x, gate)) * linear(x, up), down)


def check_ids(ids: Sequence[int], start: int, config: ModelConfig) -> None:
    """Refuse ids that are none, outside the vocabulary, or beyond the context."""
    if not ids:
        raise PromptError("prompt: found no token ids, expected at least one")
    end = start + len(ids)
    if end > config.context_length:
        raise PromptError(
            f"prompt: found {end} positions, expected at most "
            f"the context length of {config.context_length}"
        )
    for place, token in enumerate(ids):
        if not 0 <= token < config.vocabulary_size:
            raise PromptError(
                f"prompt: found token id {token} at {place}, "
                f"expected 0 to {config.vocabulary_size - 1}"
            )


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that the architecture needs, with its row-major shape; not `output`."""
    h, d = config.embedding_length, config.key_length
    q, kv = config.head_count * d, config.head_count_kv * d
    block = {
        "attn_norm": (h,),
        "attn_q": (q, h),
        "attn_k": (kv, h),
        "attn_v": (kv, h),
        "attn_output": (h, q),
        "attn_q_norm": (d,),
        "attn_k_norm": (d,),
        "ffn_norm": (h,),
        **_feed_forward_shapes(config),
    }
    shapes = {"token_embd.weight": (config.vocabulary_size, h), "output_norm.weight": (h,)}
    for layer in range(config.block_count):
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in block.items()}
    return shapes


def _feed_forward_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    h = config.embedding_length
    if not config.is_moe:
        f = config.feed_forward_length
        return {"ffn_gate": (f, h), "ffn_up": (f, h), "ffn_down": (h, f)}
    e, f = config.expert_count, config.expert_feed_forward_length
    return {
        "ffn_gate_inp": (e, h),
        "ffn_gate_exps": (e, f, h),
        "ffn_up_exps": (e, f, h),
        "ffn_down_exps": (e, h, f),
    }


def check_tensors(config: ModelConfig, tensors: Mapping[str, RawTensor]) -> None:
    """Refuse a file whose tensors are not exactly those of its architecture."""
    expected = tensor_shapes(config)
    if "output.weight" in tensors:  # absent means tied to token_embd
        expected["output.weight"] = expected["token_embd.weight"]
    for name, shape in expected.items():
        if name not in tensors:
            raise TensorError(f"{name}: found nothing in the file, expected shape {list(shape)}")
        _check_tensor(name, tensors[name], shape)
    unexpected = [name for name in tensors if name not in expected]
    if unexpected:
        raise TensorError(
            f"{unexpected[0]}: found in the file, expected no such tensor in {config.architecture}"
        )


def _check_tensor(name: str, tensor: RawTensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise TensorError(f"{name}: found shape {list(tensor.shape)}, expected {list(shape)}")
    size = prod(shape[:-1]) * row_bytes(tensor.type, shape[-1], name)
    if tensor.raw.size != size:
        raise TensorError(f"{name}: found {tensor.raw.size} bytes of data, expected {size}")


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch asserts that CUDA is compiled in
        raise EngineError(f"device {name!r}: {str(error).splitlines()[0]}") from error
