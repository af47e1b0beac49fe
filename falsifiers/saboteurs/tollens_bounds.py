"""Planted faults in bounds and their confidence (contracts/tollens-bounds-v1)."""

import math
import statistics
from dataclasses import replace


def bounds_infinity_holds(plant):
    """An infinite value keeps a one-sided bound."""

    def by_comparison(holds):
        def replacement(measure, value):
            infinite = isinstance(value, float) and math.isinf(value)
            return holds(measure, math.copysign(1e300, value) if infinite else value)

        return replacement

    plant("tollens.bounds.Measure.holds", by_comparison)


def bounds_nan_holds(plant):
    """What is not a number is not found to break a bound."""

    def not_refuted(holds):
        return lambda measure, value: value != value or holds(measure, value)

    plant("tollens.bounds.Measure.holds", not_refuted)


def bounds_strict_bound_admits_limit(plant):
    """`lt` and `gt` admit their own limit."""

    def inclusive(holds):
        return lambda measure, value: value == measure.limit or holds(measure, value)

    plant("tollens.bounds.Measure.holds", inclusive)


def bounds_margin_unsigned(plant):
    """The margin does not say on which side of the bound a value lies."""

    def unsigned(margin):
        def replacement(measure, value):
            found = margin(measure, value)
            return found if found is None else abs(found)

        return replacement

    plant("tollens.bounds.Measure.margin", unsigned)


def bounds_wald_interval(plant):
    """The interval of a rate is the rate plus and minus z standard errors."""

    def wald(wilson):
        def replacement(successes, trials, confidence):
            found = wilson(successes, trials, confidence)
            z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
            half = z * math.sqrt(found.value * (1 - found.value) / trials)
            low, high = max(0.0, found.value - half), min(1.0, found.value + half)
            return replace(found, low=low, high=high)

        return replacement

    plant("tollens.confidence.wilson", wald)


def bounds_one_sided_quantile(plant):
    """The quantile leaves all of the doubt on one side."""
    plant(
        "tollens.confidence._quantile",
        lambda quantile: lambda confidence: statistics.NormalDist().inv_cdf(confidence),
    )


def bounds_interval_ignored(plant):
    """A noisy measure is judged by its estimate alone."""

    def by_estimate(judge_estimate):
        def replacement(measure, estimate):
            return judge_estimate(
                measure, replace(estimate, low=estimate.value, high=estimate.value)
            )

        return replacement

    plant("tollens.bounds.judge_estimate", by_estimate)


def bounds_trials_understated(plant):
    """Half of the trials that are still needed are announced."""

    def halved(trials_to_settle):
        def replacement(*args):
            more = trials_to_settle(*args)
            return more and max(1, more // 2)

        return replacement

    plant("tollens.confidence.trials_to_settle", halved)


def bounds_bootstrap_too_narrow(plant):
    """The interval of the median is half as wide as it should be."""

    def narrow(bootstrap_median):
        def replacement(samples, confidence):
            found = bootstrap_median(samples, confidence)
            low, high = ((found.value + end) / 2 for end in (found.low, found.high))
            return replace(found, low=low, high=high)

        return replacement

    plant("tollens.confidence.bootstrap_median", narrow)


def bounds_one_sample_proves(plant):
    """A single sample is enough for an interval."""
    plant("tollens.confidence.fewest_samples", lambda fewest: lambda confidence: 1)
