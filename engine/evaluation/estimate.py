"""pass@k from counts, and how sure one can be of it; knows numbers only.

Source: Chen et al. 2021, Evaluating Large Language Models Trained on Code, section 2.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt

from engine.errors import EngineError

Z = 1.959963984540054  # the standard normal's 97.5 % point


@dataclass(frozen=True)
class Estimate:
    """pass@k over all problems, and its 95 % interval."""

    k: int
    value: float
    low: float
    high: float


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate for one problem: 1 − ∏(1 − k/i), i from samples − passed + 1 on.

    That is the probability that k of the samples, drawn without putting back, hold one that passed.
    """
    if not (0 <= passed <= samples and 1 <= k <= samples):
        raise EngineError(
            f"pass@{k}: found {passed} passed of {samples} samples, "
            "expected at most all, and at least k samples"
        )
    failed = samples - passed
    if failed < k:
        return 1.0
    return 1.0 - prod(1.0 - k / i for i in range(failed + 1, samples + 1))


def wilson(mean: float, trials: int) -> tuple[float, float]:
    """The 95 % interval of a rate; of a mean of numbers in [0, 1] it is one that is not too small.

    Such a mean varies most where each number is 0 or 1, and then it is a rate.
    """
    shrink = 1 + Z * Z / trials
    middle = (mean + Z * Z / (2 * trials)) / shrink
    half = Z / shrink * sqrt(mean * (1 - mean) / trials + Z * Z / (4 * trials * trials))
    low, high = round(middle - half, 15), round(middle + half, 15)  # of 0 exactly 0, of 1 exactly 1
    return max(0.0, low), min(1.0, high)


def estimate(counts: Sequence[tuple[int, int]], k: int) -> Estimate:
    """From (samples, passed) of each problem; problems are what the interval takes as drawn."""
    if not counts:
        raise EngineError(f"pass@{k}: found no problem, expected at least one")
    each = [pass_at_k(samples, passed, k) for samples, passed in counts]
    mean = sum(each) / len(each)
    return Estimate(k, mean, *wilson(mean, len(each)))
