"""The router's rule, at the true size (128 experts, 8 chosen), against float64 in numpy.

The oracle subtracts the maximum, exponentiates, divides and sorts by hand; it shares no code and
no library with the engine.
"""

import math

import numpy as np
import pytest
import torch

from engine.errors import TensorError
from engine.moe import route

EXPERTS, CHOSEN, TOKENS = 128, 8, 512


def chosen_experts(logits: np.ndarray, k: int = CHOSEN) -> np.ndarray:
    """The k largest logits of each row [T, E], the lowest index first among equals."""
    rows = [sorted(range(len(row)), key=lambda e: (-row[e], e))[:k] for row in logits.tolist()]
    return np.array(rows)


def closed_form(logits: np.ndarray, k: int = CHOSEN) -> np.ndarray:
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


@pytest.fixture
def logits(random: np.random.Generator) -> np.ndarray:
    """Ordinary router logits: float32 [T, E]."""
    return random.normal(0, 3, (TOKENS, EXPERTS)).astype(np.float32)


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-001")
def test_softmax_is_stable_at_logits_of_ten_thousand(observe, logits):
    levels = np.array([-1e4, 0, 1e4], dtype=np.float32)
    shifted = np.concatenate([logits + level for level in levels])
    mixed = logits + np.where(np.arange(EXPERTS) % 2, 1e4, -1e4).astype(np.float32)
    extreme = np.concatenate([shifted, mixed])
    weights, _ = route(torch.from_numpy(extreme), CHOSEN)
    observe("nonfinite_weights", int((~torch.isfinite(weights)).sum()))
    observe("max_abs_error", largest_difference(weights, closed_form(extreme)))


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-002")
def test_the_eight_largest_are_chosen_and_ties_go_to_the_lowest_index(observe, random, logits):
    tied = random.integers(-3, 4, (TOKENS, EXPERTS)).astype(np.float32)
    far_apart = random.uniform(-1e4, 1e4, (TOKENS, EXPERTS)).astype(np.float32)
    rows = np.concatenate([logits, tied, far_apart])
    _, experts = route(torch.from_numpy(rows), CHOSEN)
    border = -np.sort(-rows, axis=1)[:, CHOSEN - 1 : CHOSEN + 1]  # the last in and the first out
    observe("experts_per_token", experts.shape[1])
    observe("wrong_choices", wrong_choices(experts, chosen_experts(rows)))
    observe("ties_at_the_border", int((border[:, 0] == border[:, 1]).sum()))


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-003")
def test_the_chosen_weights_sum_to_one(observe, logits):
    weights, _ = route(torch.from_numpy(logits), CHOSEN)
    observe("max_sum_error", (weights.double().sum(dim=1) - 1).abs().max())
    observe("max_abs_error", largest_difference(weights, closed_form(logits)))


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-004")
def test_a_zero_router_gives_an_eighth_to_each_of_the_first_eight(observe):
    weights, experts = route(torch.zeros(4, EXPERTS), CHOSEN)
    observe("max_abs_error", largest_difference(weights, np.full((4, CHOSEN), 0.125)))
    observe("wrong_choices", wrong_choices(experts, np.tile(np.arange(CHOSEN), (4, 1))))


@pytest.mark.falsifies("FALSIFY-MOE-ROUTER-005")
def test_a_wrong_shape_is_a_tensor_error(observe):
    wrong = [((EXPERTS,), 8), ((2, 3, EXPERTS), 8), ((), 8)]  # not [T, E]
    wrong += [((2, EXPERTS), EXPERTS + 1), ((2, 4), 8), ((2, EXPERTS), 0), ((2, EXPERTS), -1)]
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
