"""The hyperparameters of a model, every one read from the file's metadata.

Knows the architectures and their metadata keys; knows nothing of files, tensors or tokenizers.
What decides a logit has no default: a missing key is an error, since a default that is nearly
right (a RoPE base of 1e4) gives a model that is nearly wrong. The exceptions are the format's own
definitions, and they are named here. Every number has a range: beyond it the file is damaged, and
the arithmetic would overflow or somebody would allocate by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from reprlib import repr as shown  # short, however long the value is
from typing import Any, NamedTuple

from engine.errors import FormatError


class Architecture(NamedTuple):
    """What a family of models has, told apart by the name in the file alone."""

    is_moe: bool  # feed-forward blocks are mixtures of experts
    has_qk_norm: bool  # RMSNorm of each head's query and key, before RoPE
    has_qkv_bias: bool


ARCHITECTURES = {
    "qwen2": Architecture(is_moe=False, has_qk_norm=False, has_qkv_bias=True),
    "qwen3": Architecture(is_moe=False, has_qk_norm=True, has_qkv_bias=False),
    "qwen3moe": Architecture(is_moe=True, has_qk_norm=True, has_qkv_bias=False),
}

MOST = 2**31 - 1  # of anything that is counted
MOST_LAYERS = 4096
# Keys that would change the arithmetic, and the only value of each that is supported.
ONLY = {
    "attention.causal": True,
    "expert_shared_count": 0,
    "expert_gating_func": 1,  # softmax
    "expert_weights_norm": True,
    "expert_weights_scale": 1.0,
}


@dataclass(frozen=True)
class RopeScaling:
    """How positions beyond the trained context are mapped into it (YaRN: arXiv 2309.00071).

    `type` is "none", "linear" or "yarn"; all but `factor` are YaRN's. `attention_factor` multiplies
    cosine and sine, so that it scales attention's logits by its square.
    """

    type: str = "none"
    factor: float = 1.0
    original_context_length: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0


@dataclass(frozen=True)
class ModelConfig:
    """One model's shape. Names are those of the GGUF keys; vary it with `dataclasses.replace`.

    `feed_forward_length` is 0 for a mixture of experts, the `expert_*` are 0 for a dense model.
    `sliding_windows` has an entry per layer, the positions that it sees (itself included) or 0
    for all; it is empty where no layer is limited.
    """

    architecture: str
    context_length: int  # tokens
    vocabulary_size: int  # V
    block_count: int  # layers
    embedding_length: int  # H
    head_count: int
    head_count_kv: int
    key_length: int  # D, which need not be H / head_count
    rms_epsilon: float
    rope_base: float
    rope_scaling: RopeScaling = RopeScaling()
    sliding_windows: tuple[int, ...] = ()
    feed_forward_length: int = 0
    expert_count: int = 0  # E
    expert_used_count: int = 0  # K
    expert_feed_forward_length: int = 0

    @property
    def is_moe(self) -> bool:
        """Whether the feed-forward blocks are mixtures of experts, by the architecture alone."""
        return ARCHITECTURES[self.architecture].is_moe

    @property
    def has_qk_norm(self) -> bool:
        """Whether queries and keys are normed per head."""
        return ARCHITECTURES[self.architecture].has_qk_norm

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the projections to queries, keys and values add a bias."""
        return ARCHITECTURES[self.architecture].has_qkv_bias

    def window(self, layer: int) -> int:
        """How many positions the layer sees, or 0 for all."""
        return self.sliding_windows[layer] if self.sliding_windows else 0

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "ModelConfig":
        """Build from a GGUF's metadata; `FormatError` names the key that is missing or wrong."""
        architecture = _architecture(metadata)
        keys = _Keys(metadata, architecture)
        config = cls(
            architecture=architecture,
            context_length=keys.count("context_length"),
            vocabulary_size=_vocabulary_size(metadata, keys),
            block_count=keys.count("block_count", MOST_LAYERS),
            embedding_length=keys.count("embedding_length"),
            head_count=keys.count("attention.head_count"),
            head_count_kv=keys.count("attention.head_count_kv"),
            key_length=_key_length(keys),
            rms_epsilon=keys.number("attention.layer_norm_rms_epsilon", 1e-12, 1.0),
            rope_base=keys.number("rope.freq_base", 2.0, 1e12),
            rope_scaling=_rope_scaling(keys),
            sliding_windows=_sliding_windows(keys),
            **_feed_forward(keys, architecture),
        )
        _check(config, keys)
        return config


@dataclass(frozen=True)
class _Keys:
    """Typed look-up of `<architecture>.<key>`."""

    metadata: Mapping[str, Any]
    architecture: str

    def get(self, key: str) -> Any:
        return self.metadata.get(f"{self.architecture}.{key}")

    def count(self, key: str, most: int = MOST) -> int:
        value, expected = self.get(key), f"an integer from 1 to {most}"
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self.wrong(key, value, expected)
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        value, expected = self.get(key), f"a number from {low:g} to {high:g}"
        if value is None and default is not None:
            return default
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not low <= value <= high:
            raise self.wrong(key, value, expected)
        return float(value)

    def wrong(self, key: str, found: object, expected: str) -> FormatError:
        what = "nothing" if found is None else shown(found)
        return FormatError(
            f"metadata key {self.architecture}.{key}: found {what}, expected {expected}"
        )


def _architecture(metadata: Mapping[str, Any]) -> str:
    found = metadata.get("general.architecture")
    if not isinstance(found, str) or found not in ARCHITECTURES:
        raise FormatError(
            f"metadata key general.architecture: found {shown(found)}, "
            f"expected one of {', '.join(sorted(ARCHITECTURES))}"
        )
    return found


def _vocabulary_size(metadata: Mapping[str, Any], keys: _Keys) -> int:
    """The number of tokens in the file, or its own count where the file has no tokenizer."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        return keys.count("vocab_size")
    if not isinstance(tokens, list) or not tokens:
        raise FormatError(
            f"metadata key tokenizer.ggml.tokens: found {shown(tokens)}, expected a list of tokens"
        )
    return len(tokens)


def _key_length(keys: _Keys) -> int:
    """D. Qwen2's files do not say it: there it is H / heads by definition."""
    if keys.architecture != "qwen2" or keys.get("attention.key_length") is not None:
        return keys.count("attention.key_length")
    hidden, heads = keys.count("embedding_length"), keys.count("attention.head_count")
    if hidden % heads:
        raise keys.wrong("attention.head_count", heads, f"a divisor of {hidden}")
    return hidden // heads


def _rope_scaling(keys: _Keys) -> RopeScaling:
    kind = keys.get("rope.scaling.type")
    kind = "none" if kind is None else kind
    if kind not in ("none", "linear", "yarn"):
        raise keys.wrong("rope.scaling.type", kind, "none, linear or yarn")
    if kind == "none":
        return RopeScaling()
    factor = keys.number("rope.scaling.factor", 1.0, 1e6)
    if kind == "linear":
        return RopeScaling(kind, factor)
    return RopeScaling(
        type=kind,
        factor=factor,
        original_context_length=keys.count("rope.scaling.original_context_length"),
        beta_fast=keys.number("rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32.0),  # the paper's
        beta_slow=keys.number("rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1.0),
        attention_factor=yarn_attention_factor(factor)
        * keys.number("rope.scaling.attn_factor", 1e-3, 1e3, 1.0),  # GGUF's multiplies YaRN's own
    )


def yarn_attention_factor(factor: float) -> float:
    """What YaRN multiplies cosine and sine by, unless the file says more."""
    return 0.1 * log(factor) + 1 if factor > 1 else 1.0


def _sliding_windows(keys: _Keys) -> tuple[int, ...]:
    """An entry per layer; without a pattern, every layer has the window. A window of 0 is none."""
    if keys.get("attention.sliding_window") in (None, 0):
        return ()
    window, layers = keys.count("attention.sliding_window"), keys.count("block_count", MOST_LAYERS)
    key = "attention.sliding_window_pattern"
    pattern = keys.get(key)
    if pattern is None:
        pattern = [True] * layers
    booleans = isinstance(pattern, list) and all(isinstance(each, bool) for each in pattern)
    if not booleans or len(pattern) != layers:
        raise keys.wrong(key, pattern, f"a list of {layers} booleans, one for each layer")
    return tuple(window if limited else 0 for limited in pattern)


def _feed_forward(keys: _Keys, architecture: str) -> dict[str, int]:
    experts = ("expert_count", "expert_used_count", "expert_feed_forward_length")
    names = experts if ARCHITECTURES[architecture].is_moe else ("feed_forward_length",)
    return {name: keys.count(name) for name in names}


def _check(config: ModelConfig, keys: _Keys) -> None:
    """Refuse what the forward pass would otherwise get silently wrong."""
    if config.head_count % config.head_count_kv:
        raise keys.wrong(
            "attention.head_count_kv", config.head_count_kv, f"a divisor of {config.head_count}"
        )
    if config.key_length % 2:
        raise keys.wrong("attention.key_length", config.key_length, "an even number, for RoPE")
    if config.expert_used_count > config.expert_count:
        raise keys.wrong(
            "expert_used_count", config.expert_used_count, f"at most {config.expert_count}"
        )
    size = config.key_length
    for key, only in {**ONLY, "attention.value_length": size, "rope.dimension_count": size}.items():
        if keys.get(key) not in (None, only):
            raise keys.wrong(key, keys.get(key), f"{only!r}, the only one supported")
