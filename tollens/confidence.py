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
    z = _quantile(confidence)
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials**2))
    half /= 1 + z * z / trials
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Estimate(rate, low, high, trials, "wilson", confidence)


def bootstrap_median(samples: Sequence[float], confidence: float) -> Estimate:
    """Percentile-bootstrap interval of the median; the resampling is seeded, so it repeats.

    With too few samples the interval is unbounded; a sample that is not finite is the estimate.
    """
    n = len(samples)
    for each in samples:
        if not math.isfinite(each):
            return Estimate(each, each, each, n, "bootstrap-median", confidence)
    middle = statistics.median(samples)
    if n < fewest_samples(confidence):
        return Estimate(middle, -math.inf, math.inf, n, "bootstrap-median", confidence)
    generator = random.Random(n)
    medians = sorted(statistics.median(generator.choices(samples, k=n)) for _ in range(RESAMPLES))
    tail = (1 - confidence) / 2
    low, high = medians[int(tail * RESAMPLES)], medians[math.ceil((1 - tail) * RESAMPLES) - 1]
    return Estimate(middle, low, high, n, "bootstrap-median", confidence)


def fewest_samples(confidence: float) -> int:
    """Below this many samples even their whole range misses the median more often than allowed.

    All of n samples lie on one side of the median with probability 2**(1 - n).
    """
    return math.ceil(1 - math.log2(1 - confidence))


def trials_to_settle(estimate: Estimate, limits: Sequence[float]) -> int | None:
    """How many more trials would put the limits outside the interval if the estimate stays.

    None where the estimate lies on a limit, so that no number of trials settles it.
    """
    if estimate.value in limits:
        return None
    if not math.isfinite(estimate.low):
        return fewest_samples(estimate.confidence) - estimate.count
    settles = _settles_rate if estimate.method == "wilson" else _settles_median
    needed = math.floor(min(max(settles(estimate, limit) for limit in limits), MAX_TRIALS)) + 1
    return max(1, needed - estimate.count)


def _settles_rate(estimate: Estimate, limit: float) -> float:
    """The count at which `limit` is an end of Wilson's interval: the score test, solved for n."""
    z = _quantile(estimate.confidence)
    return z * z * max(0.0, limit * (1 - limit)) / (estimate.value - limit) ** 2


def _settles_median(estimate: Estimate, limit: float) -> float:
    """Assumes a width that shrinks with the square root of the count."""
    end = estimate.high if limit > estimate.value else estimate.low
    return estimate.count * ((end - estimate.value) / (limit - estimate.value)) ** 2


def _quantile(confidence: float) -> float:
    return statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
