"""Intervals for noisy measures: Wilson for rates, bootstrap of the median for samples.

Knows numbers only. Sources: Wilson 1927 (JASA 22, 209-212); Efron 1979, percentile method.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

RESAMPLES = 2000
MAX_TRIALS = 10**9


@dataclass(frozen=True)
class Estimate:
    """A noisy measure: the point estimate, its interval, and what it was computed from."""

    value: float
    low: float
    high: float
    count: int
    method: Literal["wilson", "bootstrap-median"]
    confidence: float


def wilson(successes: int, trials: int, confidence: float) -> Estimate:
    """Wilson's score interval for `successes` of `trials`, both in [0, 1]."""
    rate = successes / trials
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    half /= 1 + z * z / trials
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(rate, low, high, trials, "wilson", confidence)


def bootstrap_median(samples: Sequence[float], confidence: float) -> Estimate:
    """Percentile-bootstrap interval of the median; the resampling is seeded, so it repeats."""
    generator = random.Random(len(samples))
    medians = sorted(
        statistics.median(generator.choices(samples, k=len(samples))) for _ in range(RESAMPLES)
    )
    tail = (1 - confidence) / 2
    low, high = medians[int(tail * RESAMPLES)], medians[math.ceil((1 - tail) * RESAMPLES) - 1]
    middle = statistics.median(samples)
    return Estimate(middle, low, high, len(samples), "bootstrap-median", confidence)


def trials_to_settle(estimate: Estimate, limit: float) -> int | None:
    """How many more trials would put `limit` outside the interval if the estimate stays.

    Assumes a width that shrinks with the square root of the count; None where the estimate lies
    on the limit, so that no number of trials settles it.
    """
    distance = abs(estimate.value - limit)
    width = max(estimate.high - estimate.value, estimate.value - estimate.low)
    if distance == 0 or not math.isfinite(width):
        return None
    needed = math.ceil(estimate.count * (width / distance) ** 2)
    return max(1, min(needed, MAX_TRIALS) - estimate.count)
