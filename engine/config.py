"""The hyperparameters of a model, every one read from the file's metadata.

Knows the architectures and their metadata keys; knows nothing of files, tensors or tokenizers.
There are no defaults: a missing key is an error, since a default that is nearly right (a RoPE
base of 1e4, a head of hidden/heads) gives a model that is nearly wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import FormatError

# architecture -> are its feed-forward blocks mixtures of experts?
ARCHITECTURES = {"qwen3": False, "qwen3moe": True}


@dataclass(frozen=True)
class ModelConfig:
    """One model's shape. Names are those of the GGUF keys; vary it with `dataclasses.replace`.

    `feed_forward_length` is 0 for a mixture of experts, the `expert_*` are 0 for a dense model.
    """

    architecture: str
    context_length: int  # tokens
    vocabulary_size: int  # V
    block_count: int  # layers
    embedding_length: int  # H
    head_count: int
    head_count_kv: int
    key_length: int  # D, which is not H / head_count
    rms_epsilon: float
    rope_base: float
    feed_forward_length: int = 0
    expert_count: int = 0  # E
    expert_used_count: int = 0  # K
    expert_feed_forward_length: int = 0

    @property
    def is_moe(self) -> bool:
        """Whether the feed-forward blocks are mixtures of experts, by the architecture alone."""
        return ARCHITECTURES[self.architecture]

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "ModelConfig":
        """Build from a GGUF's metadata; `FormatError` names the key that is missing or wrong."""
        architecture = _architecture(metadata)
        keys = _Keys(metadata, architecture)
        config = cls(
            architecture=architecture,
            context_length=keys.count("context_length"),
            vocabulary_size=_vocabulary_size(metadata, keys),
            block_count=keys.count("block_count"),
            embedding_length=keys.count("embedding_length"),
            head_count=keys.count("attention.head_count"),
            head_count_kv=keys.count("attention.head_count_kv"),
            key_length=keys.count("attention.key_length"),
            rms_epsilon=keys.positive("attention.layer_norm_rms_epsilon"),
            rope_base=keys.positive("rope.freq_base"),
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

    def count(self, key: str) -> int:
        value = self._need(key, "a positive integer")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(key, value, "a positive integer")
        return value

    def positive(self, key: str) -> float:
        value = self._need(key, "a positive number")
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value < float("inf"):
            raise self.wrong(key, value, "a positive number")
        return float(value)

    def _need(self, key: str, expected: str) -> Any:
        value = self.get(key)
        if value is None:
            raise FormatError(f"metadata key {self.architecture}.{key} is missing; need {expected}")
        return value

    def wrong(self, key: str, found: object, expected: str) -> FormatError:
        return FormatError(
            f"metadata key {self.architecture}.{key}: found {found!r:.60}, expected {expected}"
        )


def _architecture(metadata: Mapping[str, Any]) -> str:
    found = metadata.get("general.architecture")
    if not isinstance(found, str) or found not in ARCHITECTURES:
        raise FormatError(
            f"metadata key general.architecture: found {found!r:.60}, "
            f"expected one of {', '.join(sorted(ARCHITECTURES))}"
        )
    return found


def _vocabulary_size(metadata: Mapping[str, Any], keys: _Keys) -> int:
    """The number of tokens in the file, or its own count where the file has no tokenizer."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, list) and tokens else keys.count("vocab_size")


def _feed_forward(keys: _Keys, architecture: str) -> dict[str, int]:
    experts = ("expert_count", "expert_used_count", "expert_feed_forward_length")
    names = experts if ARCHITECTURES[architecture] else ("feed_forward_length",)
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
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.get(key) not in (None, config.key_length):
            raise keys.wrong(key, keys.get(key), f"{config.key_length} (attention.key_length)")
    if keys.get("rope.scaling.type") not in (None, "none"):
        raise keys.wrong("rope.scaling.type", keys.get("rope.scaling.type"), "none")
