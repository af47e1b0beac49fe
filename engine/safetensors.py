"""Opens a HF folder (config.json and safetensors shards) as if it were a GGUF file.

Knows how HF names Qwen's hyperparameters and tensors, and turns both into GGUF's names, so that
one loader serves both; knows nothing of what they mean. Reading is the `safetensors` package's,
by memory map; nothing is copied.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.config import yarn_attention_factor
from engine.errors import FormatError, TensorError
from engine.gguf import Bytes, Checkpoint, RawTensor

ARCHITECTURES = {"qwen2": "qwen2", "qwen3": "qwen3", "qwen3_moe": "qwen3moe"}
INDEX = "model.safetensors.index.json"

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
# What would change the arithmetic: key -> the only value that is supported.
ONLY = {
    "hidden_act": "silu",
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "attention_bias": False,
}

OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def open_safetensors(folder: Path) -> Checkpoint:
    """Map the shards of `folder`; `FormatError` and `TensorError` name what is wrong in it.

    The metadata holds the hyperparameters alone, no tokenizer.
    """
    config = read_json(folder / "config.json")
    tensors: dict[str, Tensor] = {}
    for shard in _shards(folder):
        tensors |= dict(_read(shard))
    if config.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)  # HF would not read it either
    return Checkpoint(folder, hyperparameters(config), _renamed(tensors))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise FormatError(f"{path}: found {error.strerror}, expected a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: found {error}, expected JSON") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path}: found {type(found).__name__}, expected a JSON object")
    return found


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json as GGUF metadata; `FormatError` names what the engine would get wrong."""
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        raise FormatError(
            f"config.json: model_type: found {kind!r:.60}, "
            f"expected one of {', '.join(ARCHITECTURES)}"
        )
    for key, value in ONLY.items():
        if config.get(key, value) != value:
            raise FormatError(f"config.json: {key}: found {config[key]!r:.60}, expected {value!r}")
    named = {to: config[key] for key, to in HYPERPARAMETERS.items() if config.get(key) is not None}
    named |= _rope(config) | _sliding_window(config)
    architecture = ARCHITECTURES[kind]
    metadata: dict[str, Any] = {f"{architecture}.{key}": value for key, value in named.items()}
    return metadata | {"general.architecture": architecture}


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Base and scaling, from `rope_parameters` or from the older two keys."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, dict):
        raise FormatError(f"config.json: RoPE: found {given!r:.60}, expected an object")
    kind = given.get("rope_type", given.get("type", "default"))
    keys = {to: given[key] for key, to in ROPE_SCALING.items() if given.get(key) is not None}
    keys["rope.scaling.type"] = "none" if kind == "default" else kind
    keys["rope.freq_base"] = given.get("rope_theta", config.get("rope_theta"))
    if given.get("attention_factor") is not None:  # the whole factor; GGUF's multiplies YaRN's own
        own = yarn_attention_factor(given.get("factor", 1.0))
        keys["rope.scaling.attn_factor"] = given["attention_factor"] / own
    return keys


def _sliding_window(config: Mapping[str, Any]) -> dict[str, Any]:
    """The window and the layers that have it, where the config turns it on."""
    if not config.get("use_sliding_window") or config.get("sliding_window") is None:
        return {}
    found: dict[str, Any] = {"attention.sliding_window": config["sliding_window"]}
    if config["model_type"] == "qwen3_moe":  # HF limits every layer there
        return found
    first, layers = config.get("max_window_layers", 28), config.get("num_hidden_layers", 0)
    types = config.get("layer_types")
    limited = [i >= first for i in range(layers)]
    if types is not None:
        limited = [each == "sliding_attention" for each in types]
    return found | {"attention.sliding_window_pattern": limited}


def _shards(folder: Path) -> list[Path]:
    """The files that the index names, or all that there are."""
    if not (folder / INDEX).exists():
        shards = sorted(folder.glob("*.safetensors"))
        if not shards:
            raise FormatError(f"{folder}: found no *.safetensors file, expected at least one")
        return shards
    places = read_json(folder / INDEX).get("weight_map")
    found = list(places.values()) if isinstance(places, dict) else [places]
    names = {name for name in found if isinstance(name, str) and Path(name).name == name}
    for name in found:
        if name not in names:  # a path could leave the folder
            raise FormatError(f"{folder / INDEX}: found shard {name!r:.60}, expected a file name")
    return [folder / name for name in sorted(names)]


def _read(shard: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{shard}: found {error}, expected a safetensors file") from error


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, RawTensor]:
    """Under GGUF's names; the experts of a layer become one stack, stored apart."""
    renamed: dict[str, RawTensor] = {}
    experts: dict[str, dict[int, RawTensor]] = {}
    for name, tensor in tensors.items():
        raw, place = _raw(name, tensor), name.split(".")
        if place[3:5] == ["mlp", "experts"] and len(place) == 8 and place[5].isdigit():
            part = place[6].removesuffix("_proj")
            stack = experts.setdefault(f"blk.{place[2]}.ffn_{part}_exps.weight", {})
            stack[int(place[5])] = raw
        else:
            renamed[_gguf_name(name)] = raw
    return renamed | {name: _stacked(name, parts) for name, parts in experts.items()}


def _gguf_name(name: str) -> str:
    """The GGUF name; one that has none stays, and is refused as unexpected where it is checked."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    _, _, rest = name.partition("model.layers.")
    layer, _, rest = rest.partition(".")
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{IN_LAYER[part]}.{kind}" if part in IN_LAYER else name


def _raw(name: str, tensor: Tensor) -> RawTensor:
    if tensor.dtype not in DTYPES:
        raise TensorError(
            f"{name}: found type {tensor.dtype}, expected one of {', '.join(DTYPES.values())}"
        )
    raw: Bytes = tensor.reshape(-1).view(torch.uint8).numpy()
    return RawTensor((raw,), DTYPES[tensor.dtype], tuple(tensor.shape))


def _stacked(name: str, parts: Mapping[int, RawTensor]) -> RawTensor:
    """Experts 0 to E - 1 in order; they must be all there, and alike."""
    if sorted(parts) != list(range(len(parts))):
        raise TensorError(f"{name}: found experts {sorted(parts)}, expected 0 to {len(parts) - 1}")
    first = parts[0]
    for index, part in parts.items():
        if (part.type, part.shape) != (first.type, first.shape):
            raise TensorError(
                f"{name}[{index}]: found {part.type} {list(part.shape)}, "
                f"expected {first.type} {list(first.shape)} as in expert 0"
            )
    stored = tuple(parts[index].parts[0] for index in range(len(parts)))
    return RawTensor(stored, first.type, (len(parts), *first.shape))
