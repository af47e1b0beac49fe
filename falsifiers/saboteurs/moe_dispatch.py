"""Faults in the way of tokens through their experts, beyond those of the router."""

import torch
from torch.nn import functional

from engine import moe


def _weighed(weights, token, rank):
    return weights[token, rank, None]


def _loop(put, *, of_all=list, index=None, weigh=_weighed, fed=None, kept=slice(None)):
    """The dispatch again, with one part of it changed.

    `of_all` gives the experts to run of those chosen, `index` the expert whose matrices are read,
    `weigh` the weights [n, 1] of an expert's n tokens, `fed` what goes in, `kept` which tokens.
    """

    def faulty(x, router, gate, up, down, k, see=moe.unseen):
        weights, experts = moe.route(moe.linear(x, router), k)
        out = torch.zeros_like(x)
        for expert in of_all(torch.unique(experts).tolist()):
            token, rank = (each[kept] for each in torch.where(experts == expert))
            read = index(expert, gate.shape[0]) if index else expert
            share = weigh(weights, token, rank)
            inputs = fed(x[token], share) if fed else x[token]
            y = moe.expert_feed_forward(inputs, gate[read], up[read], down[read])
            out = out.index_add(0, token, y if fed else y * share)
        return out

    put("engine.moe.moe_feed_forward", lambda original: faulty)


def experts_swapped(plant):
    """Experts 0 and 1 have each other's matrices."""
    _loop(plant, index=lambda expert, count: expert ^ 1 if expert < 2 <= count else expert)


def expert_gate_and_up_swapped(plant):
    """The gate's matrix is taken for the up projection's, and the other way round."""

    def fault(feed_forward):
        return lambda x, gate, up, down, *see: feed_forward(x, up, gate, down, *see)

    plant("engine.moe.expert_feed_forward", fault)


def expert_weights_not_applied(plant):
    """The chosen experts' results are added as they are."""
    _loop(plant, weigh=lambda weights, token, rank: torch.ones(len(token), 1))


def expert_weights_by_wrong_rank(plant):
    """The first expert gets the last one's weight, and so on."""
    _loop(plant, weigh=lambda w, token, rank: w[token, w.shape[1] - 1 - rank, None])


def expert_weights_of_the_next_token(plant):
    """Each token's results are weighed by the weights of the next token in the batch."""
    _loop(plant, weigh=lambda w, token, rank: w[(token + 1) % len(w), rank, None])


def expert_weights_applied_to_the_input(plant):
    """An expert gets its input scaled, and its result is not: SwiGLU is not linear."""
    _loop(plant, fed=lambda x, share: x * share)


def last_expert_skipped(plant):
    """The loop over the chosen experts ends one too early."""
    _loop(plant, of_all=lambda experts: experts[:-1])


def expert_capacity_of_four(plant):
    """An expert takes four tokens of a batch and drops the others, as in some training code."""
    _loop(plant, kept=slice(4))


def expert_chosen_twice(plant):
    """Every place of a token holds its first expert."""

    def fault(route):
        def faulty(logits, k):
            weights, experts = route(logits, k)
            return weights, experts[:, :1].expand_as(experts)

        return faulty

    plant("engine.moe.route", fault)


def expert_index_unchecked(plant):
    """An expert that is not there is looked up all the same, from the end if it is negative."""
    plant("engine.weights.require_index", lambda check: lambda weight, index: None)


def expert_in_float16(plant):
    """An expert works in float16, which ends at 65,504."""

    def fault(feed_forward):
        def faulty(x, gate, up, down, *see):
            g, u, d = (each.dequantise().half() for each in (gate, up, down))
            h = functional.silu(functional.linear(x.half(), g)) * functional.linear(x.half(), u)
            return functional.linear(h, d).float()

        return faulty

    plant("engine.moe.expert_feed_forward", fault)


def silu_by_exponential(plant):
    """SiLU is x e^x / (1 + e^x), which overflows from 89 on."""
    plant("engine.moe.silu", lambda silu: lambda x: x * x.exp() / (1 + x.exp()))
