"""Turns a HF config.json into GGUF metadata, for Qwen's architectures.

Knows how HF names hyperparameters, and which of its defaults would change the arithmetic; knows
nothing of files or tensors. Values go through as they are: `ModelConfig` checks them, whatever
the container. Only what is computed with here is checked here.
"""

from collections.abc import Mapping
from reprlib import repr as shown  # short, however long the value is
from typing import Any

from engine.config import MOST_LAYERS, yarn_attention_factor
from engine.errors import FormatError

ARCHITECTURES = {"qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe"}

# config.json -> key of the architecture in GGUF
HYPERPARAMETERS = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "context_length",
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon",
    "intermediate_size": "feed_forward_length",
    "num_experts": "expert_count",
    "num_local_experts": "expert_count",  # what transformers 5 writes
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
}
ROPE_SCALING = {
    "factor": "rope.scaling.factor",
    "original_max_position_embeddings": "rope.scaling.original_context_length",
    "beta_fast": "rope.scaling.yarn_beta_fast",
    "beta_slow": "rope.scaling.yarn_beta_slow",
}
# What would change the arithmetic: key -> HF's default, and the only value that is supported.
ONLY = {
    "hidden_act": ("silu", "silu"),
    "attention_bias": (False, False),
    "quantization_config": (None, None),
}
ONLY_MOE = {
    "norm_topk_prob": (False, True),  # so a config that does not say it is refused
    "decoder_sparse_step": (1, 1),
    "mlp_only_layers": ([], []),
}


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as GGUF metadata; `FormatError` names what the engine would get wrong."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise wrong("model_type", kind, f"one of {', '.join(ARCHITECTURES)}")
    for key, (default, only) in (ONLY | (ONLY_MOE if kind == "qwen3_moe" else {})).items():
        found = default if config.get(key) is None else config[key]
        if found != only:
            raise wrong(key, found, f"{only!r}, the only one supported")
    named = {to: config[key] for key, to in HYPERPARAMETERS.items() if config.get(key) is not None}
    named |= _rope(config) | _sliding_window(config)
    architecture = ARCHITECTURES[kind]
    metadata: dict[str, Any] = {f"{architecture}.{key}": value for key, value in named.items()}
    return metadata | {"general.architecture": architecture}


def is_tied(config: Mapping[str, Any]) -> bool:
    """Whether the output is the embedding; Qwen's configs that do not say it mean no."""
    tied: bool = _typed(config, "tie_word_embeddings", bool, False)
    return tied


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Base and scaling, from `rope_parameters` or from the older two keys."""
    new = config.get("rope_parameters") is not None
    given: dict[str, Any] = _typed(config, "rope_parameters" if new else "rope_scaling", dict, {})
    kind = given.get("rope_type", given.get("type", "default"))
    keys = {to: given[key] for key, to in ROPE_SCALING.items() if given.get(key) is not None}
    keys["rope.scaling.type"] = "none" if kind == "default" else kind
    keys["rope.freq_base"] = given.get("rope_theta", config.get("rope_theta"))
    if given.get("attention_factor") is not None:  # the whole factor; GGUF's multiplies YaRN's own
        own = yarn_attention_factor(_number(given, "factor"))
        keys["rope.scaling.attn_factor"] = _number(given, "attention_factor") / own
    return keys


def _sliding_window(config: Mapping[str, Any]) -> dict[str, Any]:
    """The window and the layers that have it, where the config turns it on."""
    on = _typed(config, "use_sliding_window", bool, False)
    if not on or config.get("sliding_window") is None:
        return {}
    found: dict[str, Any] = {"attention.sliding_window": config["sliding_window"]}
    if config["model_type"] == "qwen3_moe":  # HF limits every layer there
        return found
    types: list[Any] | None = _typed(config, "layer_types", list, None)
    if types is not None:
        limited = [each == "sliding_attention" for each in types]
    else:
        first = _typed(config, "max_window_layers", int, 28)
        layers = _typed(config, "num_hidden_layers", int, 0)
        limited = [i >= first for i in range(min(layers, MOST_LAYERS))]
    return found | {"attention.sliding_window_pattern": limited}


def _typed(config: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    """The value of `key`, or the default where there is none or null."""
    found = config.get(key)
    if found is not None and not isinstance(found, kind):
        raise wrong(key, found, f"a value of type {kind.__name__}")
    return default if found is None else found


def _number(config: Mapping[str, Any], key: str) -> float:
    """A number that can be computed with; its range is `ModelConfig`'s to check."""
    found = config.get(key, 1.0)
    if not isinstance(found, int | float) or not 0 < found < 1e9:
        raise wrong(key, found, "a positive number below 1e9")
    return float(found)


def wrong(key: str, found: object, expected: str) -> FormatError:
    """The error for one key."""
    return FormatError(f"{key}: found {shown(found)}, expected {expected}")
