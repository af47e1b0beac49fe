"""Tries to refute the way of tokens through their experts, on 8 to 128 of them, top-1 to top-8.

The oracle is a loop over tokens and experts in float64, written here with numpy alone. A file of
the true shapes, where one is given, lends it a layer.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

import engine
from engine import moe
from engine.errors import TensorError
from engine.model import dense_feed_forward
from engine.moe import moe_feed_forward
from engine.quant import quantise
from engine.weights import Blocks, Floats, Weight
from falsifiers.conftest import GIVEN
from falsifiers.differences import relative_error

SIZES = [(8, 1), (8, 8), (16, 2), (60, 4), (128, 8)]  # E, K
HIDDEN, WIDTH, TOKENS = 64, 32, 33


class Experts:
    """Random matrices of a mixture; varied by `changed`."""

    def __init__(self, router: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> None:
        self.router, self.gate, self.up, self.down = router, gate, up, down  # [E, ...]

    @classmethod
    def drawn(cls, count: int) -> "Experts":
        generator = torch.Generator().manual_seed(count)
        shapes = [(count, HIDDEN), *2 * [(count, WIDTH, HIDDEN)], (count, HIDDEN, WIDTH)]
        drawn = [torch.randn(s, generator=generator) / math.sqrt(s[-1]) for s in shapes]
        return cls(drawn[0] * 2, *drawn[1:])

    def taken(self, order: Tensor, routers: Tensor | None = None) -> "Experts":
        """Those of `order`, with the router's rows of `routers` or of `order` too."""
        rows = self.router[order if routers is None else routers]
        return Experts(rows, self.gate[order], self.up[order], self.down[order])

    def feed(self, x: Tensor, k: int) -> Tensor:
        weights = (Floats("w", each) for each in (self.router, self.gate, self.up, self.down))
        return moe_feed_forward(x, *weights, k)


def swiglu(x: np.ndarray, gate: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """One token [H] through one expert, in float64."""
    g = gate @ x
    return down @ (g / (1 + np.exp(-g)) * (up @ x))


def naive(experts: Experts, x: Tensor, k: int) -> Tensor:
    """Token by token and expert by expert, in float64."""
    parts = (experts.router, experts.gate, experts.up, experts.down)
    router, gate, up, down = (each.double().numpy() for each in parts)
    rows = []
    for token in x.double().numpy():
        logits = router @ token
        chosen = sorted(range(len(logits)), key=lambda e: (-logits[e], e))[:k]
        shares = np.exp(logits[chosen] - logits.max())
        made = [swiglu(token, gate[e], up[e], down[e]) for e in chosen]
        rows.append(sum(s * y for s, y in zip(shares / shares.sum(), made, strict=True)))
    return torch.from_numpy(np.stack(rows))


@pytest.fixture
def x() -> Tensor:
    """Tokens [T, H]."""
    return torch.randn(TOKENS, HIDDEN, generator=torch.Generator().manual_seed(0))


@pytest.mark.falsifies("FALSIFY-MOE-DISPATCH-001")
@pytest.mark.parametrize(("count", "k"), [(1, 1), (8, 1), (8, 8), (128, 8)])
def test_one_expert_or_equal_ones_are_a_dense_feed_forward(observe, x, count, k):
    one = Experts.drawn(1)
    equal = one.taken(torch.zeros(count, dtype=torch.long))
    equal.router = Experts.drawn(count).router
    dense = dense_feed_forward(x, *(Floats("w", w[0]) for w in (one.gate, one.up, one.down)))
    observe("max_relative_error", relative_error(equal.feed(x, k), dense))


@pytest.mark.falsifies("FALSIFY-MOE-DISPATCH-002")
@pytest.mark.parametrize(("count", "k"), SIZES)
def test_a_router_that_says_nothing_averages_the_first_experts(observe, x, count, k):
    experts = Experts.drawn(count)
    experts.router = torch.zeros_like(experts.router)
    parts = [each.double().numpy() for each in (experts.gate, experts.up, experts.down)]
    rows = [
        np.mean([swiglu(token, *(part[e] for part in parts)) for e in range(k)], axis=0)
        for token in x.double().numpy()
    ]
    expected = torch.from_numpy(np.stack(rows))
    observe("max_relative_error", relative_error(experts.feed(x, k), expected))


@pytest.mark.falsifies("FALSIFY-MOE-DISPATCH-003")
@pytest.mark.parametrize(("count", "k"), SIZES)
def test_the_order_of_the_experts_is_irrelevant(observe, x, count, k):
    experts = Experts.drawn(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    expected, rows = experts.feed(x, k), torch.arange(count)
    observe("max_relative_error", relative_error(experts.taken(order).feed(x, k), expected))
    # The control: experts that change places without their rows of the router are noticed.
    wrong = experts.taken(order, routers=rows).feed(x, k)
    observe("effect_of_a_wrong_order", relative_error(wrong, expected))


@pytest.mark.falsifies("FALSIFY-MOE-DISPATCH-004")
@pytest.mark.parametrize(("count", "k"), SIZES)
def test_experts_are_in_bounds_and_others_are_refused(observe, monkeypatch, x, count, k):
    logits = torch.randn(512, count, generator=torch.Generator().manual_seed(2))
    rows = torch.cat([logits, logits.round(), logits * 1e30, torch.zeros_like(logits)])
    _, chosen = moe.route(rows, k)
    observe("out_of_bounds", int(((chosen < 0) | (chosen >= count)).sum()))
    observe("chosen_twice", sum(len(set(row)) < k for row in chosen.tolist()))
    experts = Experts.drawn(count)
    raw = experts.gate.numpy().view(np.uint8).reshape(-1)
    stacks = [Floats("gate", experts.gate), Blocks("gate", (raw,), "F32", experts.gate.shape)]
    said = [outcome_of(stack, index) for stack in stacks for index in (-1, count, 2**40)]
    for wrong in (-1, count):  # a router that is wrong
        ids = torch.full((TOKENS, k), wrong)
        monkeypatch.setattr(moe, "route", lambda *_, ids=ids: (torch.ones(TOKENS, k) / k, ids))
        said.append(outcome_of_feed(experts, x, k))
    observe("accepted", said.count("accepted"))
    observe("untyped_errors", sum(each not in ("accepted", "TensorError") for each in said))


def outcome_of(stack: Weight, index: int) -> str:
    try:
        stack[index]
    except TensorError as error:
        return "TensorError" if str(index) in str(error) else "a message that does not say what"
    except Exception as error:
        return type(error).__name__
    return "accepted"


def outcome_of_feed(experts: Experts, x: Tensor, k: int) -> str:
    try:
        experts.feed(x, k)
    except Exception as error:
        return type(error).__name__
    return "accepted"


@pytest.mark.falsifies("FALSIFY-MOE-DISPATCH-005")
@pytest.mark.parametrize(("count", "k"), SIZES)
def test_what_comes_out_is_finite(observe, x, count, k):
    experts = Experts.drawn(count)
    for scale in (0.0, 1e-30, 1.0, 1e4, 1e8):  # router logits of ±1e4 and more
        made = experts.feed(x * scale, k)
        observe("nonfinite_numbers", int((~made.isfinite()).sum()))
        observe("shape_is_kept", made.shape == x.shape)
    observe("largest_logit", (x * 1e4 @ experts.router.T).abs().max())


@pytest.mark.falsifies("FALSIFY-MOE-DISPATCH-006")
@pytest.mark.parametrize(("count", "k"), SIZES)
def test_a_token_does_not_depend_on_the_others(observe, x, count, k):
    experts = Experts.drawn(count)
    whole, order = experts.feed(x, k), torch.arange(TOKENS - 1, -1, -1)
    observe("max_relative_error", relative_error(experts.feed(x[order], k)[order], whole))
    alone = torch.cat([experts.feed(x[t : t + 1], k) for t in range(0, TOKENS, 4)])
    observe("max_relative_error", relative_error(alone, whole[::4]))
    crowd = experts.feed(torch.cat([x[:1].expand(64, -1), x]), k)
    observe("max_relative_error", relative_error(crowd[64:], whole))


@pytest.mark.falsifies("FALSIFY-MOE-DISPATCH-007")
@pytest.mark.parametrize("case", [*itertools.product(SIZES, ("F32", "Q8_0")), *GIVEN], ids=str)
def test_tokens_go_through_experts_as_in_a_naive_loop(request, observe, case):
    if case in GIVEN:
        router, stacks, k = first_layer(engine.load(request.getfixturevalue("shape_gguf")))
    else:
        (count, k), kind = case
        router, stacks = encoded(Experts.drawn(count), kind)
    x = torch.randn(TOKENS, router.shape[1], generator=torch.Generator().manual_seed(0))
    found = moe_feed_forward(x, router, *stacks, k)
    expected = naive(Experts(router.dequantise(), *map(decoded, stacks)), x, k)
    observe("max_relative_error", relative_error(found, expected))
    observe("tokens", len(x))


def encoded(experts: Experts, kind: str) -> tuple[Weight, list[Blocks]]:
    """The router, and the stacks of gate, up and down in blocks of `kind`."""
    parts = [experts.gate, experts.up, experts.down]
    stacks = [Blocks("w", (quantise(p, kind).numpy(),), kind, tuple(p.shape)) for p in parts]
    return Floats("router", experts.router), stacks


def first_layer(model: engine.Model) -> tuple[Weight, list[Blocks], int]:
    """The router and the stacks of layer 0, and how many experts it chooses."""
    names = [
        f"blk.0.ffn_{part}.weight" for part in ("gate_inp", "gate_exps", "up_exps", "down_exps")
    ]
    router, *stacks = (model.weights[name] for name in names)
    return router, stacks, model.config.expert_used_count


def decoded(stack: Blocks) -> Tensor:
    """A stack [E, out, in] as the `gguf` package decodes it."""
    raw = stack.parts[0].reshape(*stack.shape[:2], -1)
    return torch.from_numpy(dequantize(raw, GGMLQuantizationType[stack.type]))
