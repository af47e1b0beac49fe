"""An independent forward pass: HF transformers in float32 on a GGUF's dequantised weights.

Reads and decodes with the `gguf` package alone; knows nothing of the engine.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from torch import Tensor, nn
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

# GGUF name in a block -> HF name in a layer, for tensors that need no change.
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}


def hf_model(path: Path) -> nn.Module:
    """The HF model holding the weights of the GGUF at `path`; all are loaded, or it fails."""
    reader = GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    weights = {
        t.name.removesuffix(".weight"): torch.from_numpy(
            dequantize(t.data, t.tensor_type).reshape(tuple(reversed(t.shape.tolist()))).copy()
        )
        for t in reader.tensors
    }
    model = _empty_model(fields, tied="output" not in weights)
    model.load_state_dict(_state(weights), strict=True)
    return model.eval()


def hf_logits(model: nn.Module, ids: Sequence[int]) -> Tensor:
    """Float32 logits [T, V] of `ids` at every position."""
    with torch.no_grad():
        return model(torch.tensor([list(ids)])).logits[0].float()


def _empty_model(fields: dict[str, Any], tied: bool) -> nn.Module:
    architecture = fields["general.architecture"]

    def get(key: str) -> Any:
        return fields[f"{architecture}.{key}"]

    shared = {
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "hidden_size": get("embedding_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": get("attention.head_count"),
        "num_key_value_heads": get("attention.head_count_kv"),
        "head_dim": get("attention.key_length"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": get("rope.freq_base")},
        "max_position_embeddings": get("context_length"),
        "tie_word_embeddings": tied,
        "attn_implementation": "eager",
        "dtype": torch.float32,
    }
    if architecture == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**shared, intermediate_size=get("feed_forward_length")))
    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **shared,
            num_experts=get("expert_count"),
            num_experts_per_tok=get("expert_used_count"),
            moe_intermediate_size=get("expert_feed_forward_length"),
            norm_topk_prob=True,
        )
    )


def _state(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {
        "model.embed_tokens.weight": weights["token_embd"],
        "model.norm.weight": weights["output_norm"],
        "lm_head.weight": weights.get("output", weights["token_embd"]),
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
    if part == "ffn_gate_exps":  # HF stacks gate and up: [E, 2F, H]
        both = torch.cat([weight, weights[f"{block}.ffn_up_exps"]], dim=1)
        return {f"{to}.mlp.experts.gate_up_proj": both}
    if part == "ffn_down_exps":
        return {f"{to}.mlp.experts.down_proj": weight}
    return {f"{to}.{LAYER[part]}.weight": weight} if part in LAYER else {}
