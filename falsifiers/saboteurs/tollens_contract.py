"""Planted faults in reading, judging and comparing contracts (contracts/tollens-contract-v1)."""

import copy
import math
import statistics
from dataclasses import replace

import yaml


def contract_line_off_by_one(plant):
    """Findings name the line below the one that is wrong."""
    plant("tollens.source.Source.line", lambda line: lambda *args: line(*args) + 1)


def contract_key_lost(plant):
    """Findings name no key."""
    plant("tollens.source.dotted", lambda dotted: lambda location: "")


def contract_duplicate_key_accepted(plant):
    """Of two equal keys the last one counts, silently."""

    def last_counts(pairs):
        def replacement(builder, node, at):
            last = {key.value: (key, value) for key, value in node.value}
            node.value = list(last.values())
            return pairs(builder, node, at)

        return replacement

    plant("tollens.source._Builder.pairs", last_counts)


def contract_inconsistency_accepted(plant):
    """A contract's own ids and references are not looked at."""
    plant("tollens.contract._inconsistencies", lambda original: lambda *args: iter(()))


def contract_cycle_unnoticed(plant):
    """Only a contract's direct dependencies are looked at."""
    plant("tollens.contract._reachable", lambda reachable: lambda start, by_id: {start})


def contract_dangling_accepted(plant):
    """A dependency on a contract that does not exist is let pass."""

    def silent(across):
        def replacement(*args):
            return (each for each in across(*args) if each.expected != "the id of a contract")

        return replacement

    plant("tollens.contract.across", silent)


def contract_hostile_composed(plant):
    """Text is composed as it comes: aliases expand and the parser's stack is not guarded."""
    plant("tollens.source._refuse_hostile", lambda refuse: lambda *args: None)


def contract_size_unguarded(plant):
    """A file is read and parsed however large it is."""

    def unlimited(original):
        def replacement(*args):
            globals_ = original.__globals__
            limit = globals_["MAX_BYTES"]
            globals_["MAX_BYTES"] = math.inf
            try:
                return original(*args)
            finally:
                globals_["MAX_BYTES"] = limit

        return replacement

    plant("tollens.source.read_text", unlimited)
    plant("tollens.source.parse", unlimited)


def contract_yaml_1_1(plant):
    """Scalars are read as YAML 1.1: `no` is false and `1e-6` is text."""

    def as_1_1(scalar):
        def replacement(node):
            try:
                return node.value if node.style else yaml.safe_load(node.value)
            except yaml.YAMLError:
                return node.value

        return replacement

    plant("tollens.source._scalar", as_1_1)


def contract_quotes_ignored(plant):
    """A quoted scalar is read as if it were plain."""

    def as_plain(scalar):
        def replacement(node):
            plain = copy.copy(node)
            plain.style = None
            return scalar(plain)

        return replacement

    plant("tollens.source._scalar", as_plain)


def _altered(change):
    def fault(json_schema):
        def replacement():
            schema = json_schema()
            change(schema)
            return schema

        return replacement

    return fault


def contract_schema_drifted(plant):
    """The models have a key that the published schema does not know."""
    plant(
        "tollens.contract.json_schema",
        _altered(lambda schema: schema["properties"].update(owner={"type": "string"})),
    )


def contract_schema_open(plant):
    """The schema lets unknown keys pass."""
    plant(
        "tollens.contract.json_schema",
        _altered(lambda schema: schema.pop("additionalProperties")),
    )


def contract_schema_narrow(plant):
    """The schema asks for a key that the models do without."""
    plant(
        "tollens.contract.json_schema",
        _altered(lambda schema: schema["required"].append("description")),
    )


def contract_infinity_holds(plant):
    """An infinite value keeps a one-sided bound."""

    def by_comparison(holds):
        def replacement(measure, value):
            infinite = isinstance(value, float) and math.isinf(value)
            return holds(measure, math.copysign(1e300, value) if infinite else value)

        return replacement

    plant("tollens.bounds.Measure.holds", by_comparison)


def contract_nan_holds(plant):
    """What is not a number is not found to break a bound."""

    def not_refuted(holds):
        return lambda measure, value: value != value or holds(measure, value)

    plant("tollens.bounds.Measure.holds", not_refuted)


def contract_strict_bound_admits_limit(plant):
    """`lt` and `gt` admit their own limit."""

    def inclusive(holds):
        return lambda measure, value: value == measure.limit or holds(measure, value)

    plant("tollens.bounds.Measure.holds", inclusive)


def contract_margin_unsigned(plant):
    """The margin does not say on which side of the bound a value lies."""

    def unsigned(margin):
        def replacement(measure, value):
            found = margin(measure, value)
            return found if found is None else abs(found)

        return replacement

    plant("tollens.bounds.Measure.margin", unsigned)


def contract_wald_interval(plant):
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


def contract_one_sided_quantile(plant):
    """The quantile leaves all of the doubt on one side."""
    plant(
        "tollens.confidence._quantile",
        lambda quantile: lambda confidence: statistics.NormalDist().inv_cdf(confidence),
    )


def contract_interval_ignored(plant):
    """A noisy measure is judged by its estimate alone."""

    def by_estimate(judge_estimate):
        def replacement(measure, estimate):
            return judge_estimate(
                measure, replace(estimate, low=estimate.value, high=estimate.value)
            )

        return replacement

    plant("tollens.bounds.judge_estimate", by_estimate)


def contract_trials_understated(plant):
    """Half of the trials that are still needed are announced."""

    def halved(trials_to_settle):
        def replacement(*args):
            more = trials_to_settle(*args)
            return more and max(1, more // 2)

        return replacement

    plant("tollens.confidence.trials_to_settle", halved)


def contract_bootstrap_too_narrow(plant):
    """The interval of the median is half as wide as it should be."""

    def narrow(bootstrap_median):
        def replacement(samples, confidence):
            found = bootstrap_median(samples, confidence)
            low, high = ((found.value + end) / 2 for end in (found.low, found.high))
            return replace(found, low=low, high=high)

        return replacement

    plant("tollens.confidence.bootstrap_median", narrow)


def contract_one_sample_proves(plant):
    """A single sample is enough for an interval."""
    plant("tollens.confidence.fewest_samples", lambda fewest: lambda confidence: 1)


def contract_loosened_is_minor(plant):
    """A loosened bound is taken for a tightened one."""

    def softened(measure):
        def replacement(*args):
            for change in measure(*args):
                yield replace(change, bump=min(change.bump, type(change.bump).MINOR))

        return replacement

    plant("tollens.difference._measure", softened)


def contract_openness_ignored(plant):
    """`lt 1` and `le 1` are taken to admit the same."""

    def closed(interval):
        def replacement(measure):
            found = interval(measure)
            return found and tuple((end, True) for end, _ in found)

        return replacement

    plant("tollens.difference._interval", closed)


def contract_removal_unseen(plant):
    """What was removed from the claims is not looked for."""

    def additions(members):
        def replacement(*args):
            return (each for each in members(*args) if "removed" not in each.what)

        return replacement

    plant("tollens.difference._members", additions)


def contract_dropped_saboteur_unseen(plant):
    """A saboteur that need not be killed any more is no change."""

    def forgiving(falsifier):
        def replacement(*args):
            return (each for each in falsifier(*args) if "any more" not in each.what)

        return replacement

    plant("tollens.difference._falsifier", forgiving)


def contract_versions_as_text(plant):
    """Versions are compared as text, so that 1.10.0 comes before 1.9.0."""

    def as_text(given):
        def replacement(old, new):
            bump = given(old, new)
            return bump if old.version < new.version else type(bump).NONE

        return replacement

    plant("tollens.difference.given", as_text)
