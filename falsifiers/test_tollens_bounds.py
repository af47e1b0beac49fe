"""Tries to refute how a measure is judged against its bound, and how much doubt is left to chance.

Oracles: the definition of each bound, the score test and published intervals of a rate, and the
chance that all samples lie on one side of the median.
"""

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falsifiers.bound_oracle import admits
from falsifiers.thorough import THOROUGH
from tollens import bounds, confidence
from tollens.bounds import Measure
from tollens.verdicts import Verdict

VALUES = (
    st.floats()
    | st.floats(-3, 3).map(lambda x: round(x, 1))
    | st.integers(-3, 3)
    | st.sampled_from([math.nan, math.inf, -math.inf, 2**53 + 1, -(10**400), 1.7e308, -1.7e308])
)
LIMITS = st.floats(-3, 3).map(lambda x: round(x, 1)) | st.sampled_from([2.0**53, 1.7e308, -1.7e308])
BOUNDS = st.tuples(st.sampled_from(["le", "lt", "ge", "gt", "eq"]), LIMITS).map(
    lambda b: {b[0]: b[1]}
) | st.lists(LIMITS, min_size=2, max_size=2).map(lambda ends: {"between": sorted(ends)})


@pytest.mark.falsifies("TOLLENS-BOUNDS-001")
def test_a_bound_holds_by_its_definition_and_the_margin_agrees(observe):
    wrong: dict[str, list] = {"held": [], "margin": [], "not finite": []}

    @settings(THOROUGH, max_examples=1000)
    @given(BOUNDS, VALUES)
    def compare(bound: dict, value: float) -> None:
        judged = bounds.judge_value(Measure(**bound), value)
        said = (judged.held, judged.verdict is Verdict.CORROBORATED)
        if said != (admits(bound, value),) * 2:
            wrong["held"].append((bound, value))
        if isinstance(value, float) and not math.isfinite(value):
            wrong["not finite"] += [bound] * (judged.held or judged.margin is not None)
        elif not agrees(bound, judged.margin, admits(bound, value)):
            wrong["margin"].append((bound, value, judged.margin))

    compare()
    observe("misjudged", len(wrong["held"]))
    observe("margins_that_disagree", len(wrong["margin"]))
    observe("non_finite_held", len(wrong["not finite"]))
    assert not any(wrong.values()), wrong


def agrees(bound: dict, margin: float, holds: bool) -> bool:
    """Positive inside, negative outside, zero on the bound itself, and always finite."""
    strict = bound.keys() & {"lt", "gt"}
    on_it = margin == 0 and holds != bool(strict)
    return math.isfinite(margin) and (on_it or margin != 0 and (margin > 0) == holds)


def quantile(confidence: float) -> float:
    """z with P(|Z| ≤ z) = confidence, by bisection on the error function."""
    low, high = 0.0, 10.0
    for _ in range(100):
        z = (low + high) / 2
        low, high = (z, high) if math.erf(z / math.sqrt(2)) < confidence else (low, z)
    return low


def are_settled(rate: float, trials: float, limits: list[float], confidence: float) -> bool:
    """Whether the score test (Wilson 1927) rejects each limit as the true rate."""
    z = quantile(confidence)
    return all(abs(rate - p) > z * math.sqrt(p * (1 - p) / trials) for p in limits)


PUBLISHED = [  # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3
    *[(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
    *[(0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
]


@pytest.mark.falsifies("TOLLENS-BOUNDS-002")
def test_the_interval_of_a_rate_is_wilsons(observe):
    published = max(
        max(abs(found.low - low), abs(found.high - high))
        for successes, trials, low, high in PUBLISHED
        for found in [confidence.wilson(successes, trials, 0.95)]
    )
    residual = max(
        abs(abs(s / n - end) - quantile(level) * math.sqrt(end * (1 - end) / n))
        for level in (0.8, 0.95, 0.99)
        for n in (1, 2, 7, 50, 1000)
        for s in sorted({0, 1, n // 3, n - 1, n})
        for found in [confidence.wilson(s, n, level)]
        for end in (found.low, found.high)
        if 0 < end < 1
    )
    observe("published_error", published)
    observe("score_test_residual", residual)
    assert published < 1e-4 and residual < 1e-7


@st.composite
def rates_near_a_bound(draw: st.DrawFn) -> tuple[dict, int, int]:
    """A bound, and successes of trials whose rate is near it."""
    trials = draw(st.integers(1, 400))
    successes = draw(st.integers(0, trials))
    near = [
        min(0.99, max(0.01, round(successes / trials + draw(st.floats(-0.2, 0.2)), 2)))
        for _ in range(2)
    ]
    kind = draw(st.sampled_from(["le", "lt", "ge", "gt", "between"]))
    return {kind: sorted(near) if kind == "between" else near[0]}, successes, trials


@pytest.mark.falsifies("TOLLENS-BOUNDS-003")
def test_a_rate_is_judged_at_the_worse_end_and_the_announced_trials_settle_it(observe):
    wrong: list[object] = []
    announced: list[bool] = []
    wasteful: list[object] = []

    @THOROUGH
    @given(rates_near_a_bound(), st.sampled_from([0.8, 0.95, 0.99]))
    def compare(case: tuple[dict, int, int], level: float) -> None:
        bound, successes, n = case
        p, limits = successes / n, bound.get("between", list(bound.values()))
        measure = Measure(**bound, confidence=level)
        judged = bounds.judge_estimate(measure, confidence.wilson(successes, n, level))
        if judged.verdict is not expected_of_rate(bound, p, are_settled(p, n, limits, level)):
            wrong.append((case, level, judged.verdict))
        if judged.verdict is Verdict.INCONCLUSIVE and p not in limits:
            more = trials_in(judged.note)
            announced.append(are_settled(p, n + more, limits, level))
            if more > 2 and are_settled(p, n + more - 2, limits, level):
                wasteful.append((case, level, more))

    compare()
    observe("misjudged", len(wrong))
    observe("announcements", len(announced))
    observe("announcements_that_settle", sum(announced) / max(1, len(announced)))
    observe("wasteful_announcements", len(wasteful))
    assert not wrong and not wasteful and all(announced), (wrong or wasteful)[:1]


def expected_of_rate(bound: dict, rate: float, settled: bool) -> Verdict:
    if not admits(bound, rate):
        return Verdict.FALSIFIED
    return Verdict.CORROBORATED if settled else Verdict.INCONCLUSIVE


def trials_in(note: str) -> int:
    """The number in `about 1,234 more trials would settle it`; 0 where there is none."""
    return int("".join(filter(str.isdigit, note)) or 0)


@pytest.mark.falsifies("TOLLENS-BOUNDS-004")
def test_the_interval_of_samples_covers_their_median_and_too_few_settle_nothing(observe):
    intervals = [bootstrap_of(random.Random(seed)) for seed in range(200)]
    covered = sum(low <= math.log(2) <= high for low, high in intervals)
    asymptotic = 2 * quantile(0.95) / math.sqrt(15)  # the density at the median is 1/2
    width = statistics.mean(high - low for low, high in intervals) / asymptotic
    rash = [n for n in range(1, 12) if is_rash(n)]
    observe("coverage", successes=covered, trials=len(intervals))
    observe("width_ratio", width)
    observe("rash_verdicts", len(rash))
    assert not rash and covered >= 0.85 * len(intervals), (rash, covered)


def bootstrap_of(generator: random.Random) -> tuple[float, float]:
    """The interval from 15 samples of the exponential distribution, whose median is ln 2."""
    found = confidence.bootstrap_median([generator.expovariate(1) for _ in range(15)], 0.95)
    return found.low, found.high


def is_rash(n: int) -> bool:
    """Whether n equal samples are taken for proof though they may miss the median by chance.

    All of n samples lie on one side of the median with probability 2**(1 - n). What a lack of
    samples announces must be enough; a sample that is not a number must refute.
    """
    measure = Measure(le=2.0, confidence=0.95)
    judged = bounds.judge_estimate(measure, bounds.estimate(measure, [1.0] * n, None))
    enough = 2.0 ** (1 - n) <= 0.05
    announced = n + trials_in(judged.note)
    spoilt = bounds.judge_estimate(measure, bounds.estimate(measure, [1.0] * n + [math.nan], None))
    right = (judged.verdict is Verdict.CORROBORATED) if enough else (2.0 ** (1 - announced) <= 0.05)
    refuted = spoilt.verdict is Verdict.FALSIFIED
    return not (right and refuted and enough == (judged.verdict is Verdict.CORROBORATED))
