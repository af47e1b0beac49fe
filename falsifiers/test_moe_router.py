"""The router's rule, from 8 to 128 experts and from top-1 to top-8, against float64 in numpy.

The oracle subtracts the maximum, exponentiates, divides and sorts by hand; it shares no code and
no library with the engine. A file of the true shapes, where one is given, lends its routers.
"""

import math

import numpy as np
import pytest
import torch

import engine
from engine.errors import TensorError
from engine.moe import route
from falsifiers.conftest import GIVEN

SIZES = [(8, 1), (8, 8), (16, 2), (60, 4), (128, 8)]  # E, K
TOKENS = 512


def chosen_experts(logits: np.ndarray, k: int) -> np.ndarray:
    """The k largest logits of each row [T, E], the lowest index first among equals."""
    rows = [sorted(range(len(row)), key=lambda e: (-row[e], e))[:k] for row in logits.tolist()]
    return np.array(rows)


def closed_form(logits: np.ndarray, k: int) -> np.ndarray:
    """softmax over all, the k chosen, divided by their sum; in float64: [T, K]."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    kept = np.take_along_axis(probabilities, chosen_experts(logits, k), axis=1)
    return kept / kept.sum(axis=1, keepdims=True)


def largest_difference(found: torch.Tensor, expected: np.ndarray) -> float:
    """Infinite where the shapes differ, NaN where a number is."""
    if tuple(found.shape) != expected.shape:
        return math.inf
    return float(np.abs(found.double().numpy() - expected).max())


def wrong_choices(found: torch.Tensor, expected: np.ndarray) -> int:
    """Places in [T, K] that hold another expert, all of them where the shapes differ."""
    same_shape = tuple(found.shape) == expected.shape
    return int((found.numpy() != expected).sum()) if same_shape else expected.size


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=[*SIZES, *GIVEN], ids=lambda p: p if p in GIVEN else f"{p[1]} of {p[0]}")
def case(request, random: np.random.Generator) -> tuple[tuple[int, int], np.ndarray]:
    """E and K, and ordinary router logits, float32 [T, E]."""
    if request.param in GIVEN:
        model = engine.load(request.getfixturevalue("shape_gguf"))
        size = model.config.expert_count, model.config.expert_used_count
        return size, said_by_routers(model, random)
    return request.param, random.normal(0, 3, (TOKENS, request.param[0])).astype(np.float32)


def said_by_routers(model: engine.Model, random: np.random.Generator) -> np.ndarray:
    """What the routers of all layers say, in turns, of tokens as a norm leaves them."""
    count = model.config.block_count
    x = random.normal(0, 1, (TOKENS, model.config.embedding_length)).astype(np.float32)
    routers = [model.weights[f"blk.{i}.ffn_gate_inp.weight"].dequantise() for i in range(count)]
    return np.concatenate([x[i::count] @ router.numpy().T for i, router in enumerate(routers)])


@pytest.fixture
def size(case) -> tuple[int, int]:
    return case[0]


@pytest.fixture
def logits(case) -> np.ndarray:
    return case[1]


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-001")
def test_softmax_is_stable_at_logits_of_ten_thousand(observe, size, logits):
    count, k = size
    levels = np.array([-1e4, 0, 1e4], dtype=np.float32)
    shifted = np.concatenate([logits + level for level in levels])
    mixed = logits + np.where(np.arange(count) % 2, 1e4, -1e4).astype(np.float32)
    extreme = np.concatenate([shifted, mixed])
    weights, _ = route(torch.from_numpy(extreme), k)
    observe("nonfinite_weights", int((~torch.isfinite(weights)).sum()))
    observe("max_abs_error", largest_difference(weights, closed_form(extreme, k)))


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-002")
def test_the_largest_are_chosen_and_ties_go_to_the_lowest_index(observe, random, size, logits):
    count, k = size
    tied = random.integers(-3, 4, (TOKENS, count)).astype(np.float32)
    far_apart = random.uniform(-1e4, 1e4, (TOKENS, count)).astype(np.float32)
    rows = np.concatenate([logits, tied, far_apart])
    _, experts = route(torch.from_numpy(rows), k)
    ranked = -np.sort(-tied, axis=1)
    # Between the last in and the first out; where all are in, anywhere: ties decide the order.
    border = ranked[:, k - 1 : k + 1] if k < count else ranked
    observe("experts_too_many_or_few", abs(experts.shape[1] - k))
    observe("wrong_choices", wrong_choices(experts, chosen_experts(rows, k)))
    observe("rows_with_a_tie", int((border[:, :-1] == border[:, 1:]).any(axis=1).sum()))


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-003")
def test_the_chosen_weights_sum_to_one(observe, size, logits):
    weights, _ = route(torch.from_numpy(logits), size[1])
    observe("max_sum_error", (weights.double().sum(dim=1) - 1).abs().max())
    observe("max_abs_error", largest_difference(weights, closed_form(logits, size[1])))


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-004")
def test_a_zero_router_gives_equal_shares_to_the_first_experts(observe, size):
    count, k = size
    weights, experts = route(torch.zeros(4, count), k)
    observe("max_abs_error", largest_difference(weights, np.full((4, k), 1 / k)))
    observe("wrong_choices", wrong_choices(experts, np.tile(np.arange(k), (4, 1))))


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-005")
def test_a_wrong_shape_is_a_tensor_error(observe):
    wrong = [((128,), 8), ((2, 3, 128), 8), ((), 8)]  # not [T, E]
    wrong += [((2, 128), 128 + 1), ((2, 4), 8), ((2, 128), 0), ((2, 128), -1)]
    outcomes = [outcome_of(shape, k) for shape, k in wrong]
    observe("accepted", outcomes.count("accepted"))
    observe("untyped_errors", sum(each not in ("accepted", "TensorError") for each in outcomes))


def outcome_of(shape: tuple[int, ...], k: int) -> str:
    try:
        route(torch.zeros(shape), k)
    except TensorError as error:
        return "TensorError" if "found" in str(error) else "a message that does not say what"
    except Exception as error:
        return type(error).__name__
    return "accepted"
