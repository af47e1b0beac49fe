"""Mixture of experts: which experts each token goes to, and what they make of it.

Knows the router's rule and the SwiGLU expert; knows nothing of layers, caches or files.
Qwen3 (arXiv 2505.09388): softmax over all experts, take the top k, renormalise.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import silu

from engine.errors import TensorError
from engine.weights import Weight, linear

See = Callable[[str, Tensor], None]  # takes a stage's name and what it made


def unseen(stage: str, made: Tensor) -> None:
    """The `See` of a forward pass that nobody traces."""


def swiglu(x: Tensor, gate: Weight, up: Weight, down: Weight, see: See = unseen) -> Tensor:
    """SwiGLU (arXiv 2002.05202): [..., H] to [..., H], F wide in between."""
    g, u = linear(x, gate), linear(x, up)  # [..., F]
    s = silu(g)
    h = s * u
    for stage, made in (("ffn_gate", g), ("ffn_up", u), ("ffn_silu", s), ("ffn_swiglu", h)):
        see(stage, made)
    return linear(h, down)


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


def expert_feed_forward(
    x: Tensor, gate: Weight, up: Weight, down: Weight, see: See = unseen
) -> Tensor:
    """One expert, SwiGLU: [T, H] to [T, H]."""
    return swiglu(x, gate, up, down, see)


def moe_feed_forward(
    x: Tensor, router: Weight, gate: Weight, up: Weight, down: Weight, k: int, see: See = unseen
) -> Tensor:
    """Each token through its `k` experts, summed by the router's weights: [T, H] to [T, H].

    `router` is [E, H]; `gate` and `up` are [E, F, H] and `down` is [E, H, F], F an expert's
    width. Only experts that some token chose are decoded, one at a time.
    """
    weights, experts = route(linear(x, router), k)
    see("router_weights", weights)
    see("router_experts", experts)
    out, gathered = torch.zeros_like(x), _Gathered(see, experts)
    for expert in torch.unique(experts).tolist():
        token, rank = torch.where(experts == expert)
        inside = gathered.at(token, rank)
        y = expert_feed_forward(x[token], gate[expert], up[expert], down[expert], inside)
        out = out.index_add(0, token, y * weights[token, rank, None])
    gathered.done()
    return out


class _Gathered:
    """Puts what the experts made into one tensor [T, K, F] per stage, by token and rank."""

    def __init__(self, see: See, experts: Tensor) -> None:
        self._see = see
        self._places = experts.shape
        self._stages: dict[str, Tensor] = {}

    def at(self, token: Tensor, rank: Tensor) -> See:
        """The `See` of one expert; nothing is kept where nobody looks."""

        def put(stage: str, made: Tensor) -> None:
            shape = (*self._places, made.shape[-1])
            self._stages.setdefault(stage, made.new_zeros(shape))[token, rank] = made

        return unseen if self._see is unseen else put

    def done(self) -> None:
        """Show each stage whole."""
        for stage, made in self._stages.items():
            self._see(stage, made)
