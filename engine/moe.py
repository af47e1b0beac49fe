"""Mixture of experts: which experts each token goes to, and what they make of it.

Knows the router's rule and the SwiGLU expert; knows nothing of layers, caches or files.
Qwen3 (arXiv 2505.09388): softmax over all experts, take the top k, renormalise.
"""

import torch
from torch import Tensor
from torch.nn.functional import silu

from engine.errors import TensorError
from engine.quant import Weight, linear


def route(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Choose `k` experts for each token from router logits [T, E].

    Returns weights (float32 [T, K], each row sums to 1) and experts (int64 [T, K]), the largest
    logit first; of equal logits the lowest index goes first. Raises `TensorError`.
    """
    if logits.dim() != 2:
        raise TensorError(f"router logits: found shape {list(logits.shape)}, expected [T, E]")
    if not 1 <= k <= logits.shape[1]:
        raise TensorError(f"router: found k = {k}, expected 1 to {logits.shape[1]} experts")
    # Ranked by logit: far below the maximum, different experts have the same probability, 0.
    experts = torch.sort(logits, dim=-1, descending=True, stable=True).indices[:, :k]  # [T, K]
    weights = torch.softmax(logits.float(), dim=-1).gather(1, experts)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    return weights, experts


def expert_feed_forward(x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
    """One expert, SwiGLU: [T, H] to [T, H]."""
    return linear(silu(linear(x, gate)) * linear(x, up), down)


def moe_feed_forward(
    x: Tensor, router: Weight, gate: Weight, up: Weight, down: Weight, k: int
) -> Tensor:
    """Each token through its `k` experts, summed by the router's weights: [T, H] to [T, H].

    `router` is [E, H]; `gate` and `up` are [E, F, H] and `down` is [E, H, F], F an expert's
    width. Only experts that some token chose are decoded, one at a time.
    """
    weights, experts = route(linear(x, router), k)
    out = torch.zeros_like(x)
    for expert in torch.unique(experts).tolist():
        token, rank = torch.where(experts == expert)
        y = expert_feed_forward(x[token], gate[expert], up[expert], down[expert])
        out.index_add_(0, token, y * weights[token, rank, None])
    return out
