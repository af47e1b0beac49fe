"""Faults in the router: how experts are ranked, chosen and weighted."""

import torch


def _by_rank(logits, k, weigh, flip=False):
    """Weights by `weigh` and experts by logit, with ties by the highest index if `flip`."""
    seen = logits.flip(1) if flip else logits
    experts = torch.sort(seen, dim=-1, descending=True, stable=True).indices[:, :k]
    experts = logits.shape[1] - 1 - experts if flip else experts
    chosen = weigh(logits).gather(1, experts)
    return chosen / chosen.sum(dim=-1, keepdim=True), experts


def router_not_renormalised(plant):
    """The chosen experts' weights stay shares of all experts and sum to less than one."""

    def fault(route):
        def faulty(logits, k):
            _, experts = route(logits, k)
            return torch.softmax(logits.float(), dim=-1).gather(1, experts), experts

        return faulty

    plant("engine.moe.route", fault)


def router_top_7(plant):
    """One expert too few is chosen; the seven are renormalised, so their weights look right."""
    plant("engine.moe.route", lambda route: lambda logits, k: route(logits, max(k - 1, 1)))


def router_sigmoid(plant):
    """Experts are weighted by the sigmoid of their logit, as other families do it."""
    plant(
        "engine.moe.route",
        lambda route: lambda logits, k: _by_rank(logits, k, lambda x: torch.sigmoid(x.float())),
    )


def router_softmax_without_max(plant):
    """The exponentials are taken without subtracting the maximum and overflow."""

    def naive(logits):
        exponentials = logits.float().exp()
        return exponentials / exponentials.sum(dim=-1, keepdim=True)

    plant("engine.moe.route", lambda route: lambda logits, k: _by_rank(logits, k, naive))


def router_ties_by_highest_index(plant):
    """Of equal logits, the expert with the highest index is chosen first."""

    def softmax(logits):
        return torch.softmax(logits.float(), dim=-1)

    plant("engine.moe.route", lambda route: lambda logits, k: _by_rank(logits, k, softmax, True))


def router_in_bfloat16(plant):
    """The weights are computed in bfloat16, with three significant digits."""

    def fault(route):
        def faulty(logits, k):
            weights, experts = route(logits, k)
            return weights.bfloat16().float(), experts

        return faulty

    plant("engine.moe.route", fault)


def router_shape_accepted(plant):
    """Logits of any shape and any k are made to fit instead of refused."""

    def fault(route):
        def faulty(logits, k):
            rows = logits.reshape(-1, logits.shape[-1] if logits.dim() else 1)
            return route(rows, min(max(k, 1), rows.shape[1]))

        return faulty

    plant("engine.moe.route", fault)
