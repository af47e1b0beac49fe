"""What each stage of a model makes, taken from HF transformers by hooks, in float64.

Inside HF's experts, which are one module, the stages are computed here from its weights. Knows
nothing of the engine but the stages' names.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from falsifiers.hf_oracle import hf_model

Stages = dict[tuple[int | None, str], Tensor]  # [T, n], or [T, K, n] inside experts

DENSE = {"ffn_gate": "gate_proj", "ffn_up": "up_proj", "ffn_silu": "act_fn"}


def hf_stages(path: Path, ids: Sequence[int]) -> Stages:
    """By layer (None: after the last) and stage; `router_experts` holds indices."""
    model = copy.deepcopy(hf_model(path))  # for its hooks
    stages: Stages = {}
    for layer, block in enumerate(model.model.layers):
        _watch_block(block, layer, stages)
    _watch(model.lm_head, stages, (None, "output"))
    with torch.no_grad():
        model(torch.tensor([list(ids)]))
        for layer, block in enumerate(model.model.layers):
            stages[layer, "qkv"] = torch.cat([stages.pop((layer, part)) for part in "qkv"], dim=-1)
            if hasattr(block.mlp, "experts"):
                _experts(block.mlp, layer, stages)
    return stages


def _watch_block(block: nn.Module, layer: int, stages: Stages) -> None:
    attention, mlp = block.self_attn, block.mlp
    _watch(block.input_layernorm, stages, (layer, "attn_norm"))
    for part in "qkv":
        _watch(getattr(attention, f"{part}_proj"), stages, (layer, part))
    _watch(attention, stages, (layer, "attn_out"))
    _watch(block.post_attention_layernorm, stages, (layer, "ffn_norm"))
    _watch(mlp, stages, (layer, "ffn_out"))
    if not hasattr(mlp, "experts"):
        for stage, name in DENSE.items():
            _watch(getattr(mlp, name), stages, (layer, stage))
        _watch(mlp.down_proj, stages, (layer, "ffn_swiglu"), before=True)


def _watch(
    module: nn.Module, stages: Stages, place: tuple[int | None, str], before: bool = False
) -> None:
    """Take what goes out of a module, or what goes in."""

    def take(module, given, made):
        tensor = given[0] if before else made
        tensor = tensor[0] if isinstance(tensor, tuple) else tensor
        stages[place] = tensor.double().reshape(-1, tensor.shape[-1])

    module.register_forward_hook(take)


def _experts(mlp: nn.Module, layer: int, stages: Stages) -> None:
    """Router and experts, in float64, from what went into them."""
    x = stages[layer, "ffn_norm"]
    scores, experts = (x @ mlp.gate.weight.double().T).softmax(dim=-1).topk(mlp.gate.top_k)
    stages[layer, "router_weights"] = scores / scores.sum(dim=-1, keepdim=True)
    stages[layer, "router_experts"] = experts
    both = torch.einsum("tkfh,th->tkf", mlp.experts.gate_up_proj.double()[experts], x)
    gate, up = both.chunk(2, dim=-1)
    made = {"ffn_gate": gate, "ffn_up": up, "ffn_silu": silu(gate), "ffn_swiglu": silu(gate) * up}
    stages.update({(layer, stage): tensor for stage, tensor in made.items()})
