"""An independent forward pass: HF transformers in float32 on a GGUF's dequantised weights.

Reads and decodes with the `gguf` package alone; knows nothing of the engine.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor, nn
from transformers import (
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

# GGUF name in a block -> HF name in a layer, for tensors that need no change.
LAYER = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_output.weight": "self_attn.o_proj.weight",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
    "ffn_gate_inp.weight": "mlp.gate.weight",
}


@dataclass(frozen=True)
class _File:
    """A file, which is another's equal if it has the same bytes."""

    digest: str
    path: Path = field(compare=False)


def hf_model(path: Path) -> nn.Module:
    """The HF model holding the weights of the GGUF at `path`; all are loaded, or it fails.

    It is shared by all who ask for the same bytes: who changes it takes a copy.
    """
    return _model(_File(hashlib.sha256(path.read_bytes()).hexdigest(), path))


@lru_cache(maxsize=4)
def _model(file: _File) -> nn.Module:
    reader = GGUFReader(file.path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    weights = {
        t.name: torch.from_numpy(
            dequantize(t.data.view(np.ndarray), t.tensor_type)  # slices of a map are slow
            .reshape(tuple(reversed(t.shape.tolist())))
            .copy()
        )
        for t in reader.tensors
    }
    model = _empty_model(fields, tied="output.weight" not in weights)
    model.load_state_dict(_state(weights), strict=True)
    return model.eval()


def hf_logits(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """Float32 logits [T, V] of `ids` at every position."""
    return _logits(model, tuple(ids)).clone()


@lru_cache(maxsize=32)
def _logits(model: nn.Module, ids: tuple[int, ...]) -> Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float()


def _empty_model(fields: dict[str, Any], tied: bool) -> nn.Module:
    architecture = fields["general.architecture"]

    def get(key: str, default: Any = None) -> Any:
        return fields.get(f"{architecture}.{key}", default)

    layers, window = get("block_count"), get("attention.sliding_window")
    heads, hidden = get("attention.head_count"), get("embedding_length")
    shared = {
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": get("attention.head_count_kv"),
        "head_dim": get("attention.key_length", hidden // heads),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(get),
        "max_position_embeddings": get("context_length"),
        "tie_word_embeddings": tied,
        "use_sliding_window": window is not None,
        "sliding_window": window,
        "attn_implementation": "eager",
        "dtype": torch.float32,
    }
    if architecture != "qwen3moe":
        limited = get("attention.sliding_window_pattern", [False] * layers)
        kinds = ["sliding_attention" if each else "full_attention" for each in limited]
        dense = {**shared, "intermediate_size": get("feed_forward_length"), "layer_types": kinds}
        if architecture == "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**dense))
        return Qwen3ForCausalLM(Qwen3Config(**dense))
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **shared,
            num_experts=get("expert_count"),
            num_experts_per_tok=get("expert_used_count"),
            moe_intermediate_size=get("expert_feed_forward_length"),
            norm_topk_prob=True,
        )
    )


def _rope(get: Any) -> dict[str, Any]:
    kind = get("rope.scaling.type", "default")
    scaling = {"factor": get("rope.scaling.factor")} if kind != "default" else {}
    if kind == "yarn":
        trained = get("rope.scaling.original_context_length")
        scaling["original_max_position_embeddings"] = trained
    return {"rope_type": kind, "rope_theta": get("rope.freq_base"), **scaling}


def _state(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    embedding = weights["token_embd.weight"]
    state = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": weights["output_norm.weight"],
        "lm_head.weight": weights.get("output.weight", embedding),
    }
    for name, weight in weights.items():
        prefix, _, rest = name.partition(".")
        if prefix == "blk":
            layer, _, part = rest.partition(".")
            state |= _in_layer(f"model.layers.{layer}", part, weight, weights, f"blk.{layer}")
    return state


def _in_layer(
    to: str, part: str, weight: Tensor, weights: dict[str, Tensor], block: str
) -> dict[str, Tensor]:
    if part == "ffn_gate_exps.weight":  # HF stacks gate and up: [E, 2F, H]
        both = torch.cat([weight, weights[f"{block}.ffn_up_exps.weight"]], dim=1)
        return {f"{to}.mlp.experts.gate_up_proj": both}
    if part == "ffn_down_exps.weight":
        return {f"{to}.mlp.experts.down_proj": weight}
    return {f"{to}.{LAYER[part]}": weight} if part in LAYER else {}


def gradients(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    """HF's gradients of the next-token loss over `ids` [B, T], under GGUF's names."""
    model.zero_grad()
    model(ids, labels=ids).loss.backward()
    found = {name: each.grad for name, each in model.named_parameters()}
    by_gguf = {
        "token_embd.weight": found["model.embed_tokens.weight"],
        "output_norm.weight": found["model.norm.weight"],
    }
    if "lm_head.weight" in found:
        by_gguf["output.weight"] = found["lm_head.weight"]
    names = {to: part for part, to in LAYER.items()}
    for name, gradient in found.items():
        _, _, rest = name.partition("model.layers.")
        layer, _, part = rest.partition(".")
        if part in names:
            by_gguf[f"blk.{layer}.{names[part]}"] = gradient
        if part == "mlp.experts.gate_up_proj":
            gate, up = gradient.chunk(2, dim=1)
            by_gguf[f"blk.{layer}.ffn_gate_exps.weight"] = gate
            by_gguf[f"blk.{layer}.ffn_up_exps.weight"] = up
        if part == "mlp.experts.down_proj":
            by_gguf[f"blk.{layer}.ffn_down_exps.weight"] = gradient
    return by_gguf
