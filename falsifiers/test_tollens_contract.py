"""Tries to refute how contracts are read, judged and compared.

Oracles: the edit that made a contract bad, whose line the test finds by itself; a table of YAML 1.2
scalars; jsonschema; the definition of each bound; the score test and published intervals; and,
for a loosened bound, a value that only the new one admits.
"""

import faulthandler
import functools
import itertools
import json
import math
import multiprocessing
import random
import resource
import statistics
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from falsifiers.bad_contracts import BAD, GOOD, Bad
from falsifiers.small_project import SmallProject
from tollens import bounds, confidence, contract, difference, evidence, source
from tollens.bounds import Measure
from tollens.contract import Contract
from tollens.difference import Bump
from tollens.errors import ContractError
from tollens.verdicts import Verdict

ROOT = Path(__file__).parents[1]
FORK = multiprocessing.get_context("fork")
THOROUGH = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.falsifies("TOLLENS-CONTRACT-001")
def test_a_bad_contract_is_refused_at_its_line_and_key(observe, tmp_path):
    path = tmp_path / "bad-v1.yaml"
    path.write_text(GOOD)
    good = refusal(path)
    missed = [bad for bad in BAD if not is_pinpointed(bad, path)]
    observe("cases", len(BAD))
    observe("pinpointed_share", 1 - len(missed) / len(BAD))
    observe("good_refused", len(good))
    assert not good and not missed, missed[0]


def is_pinpointed(bad: Bad, path: Path) -> bool:
    assert GOOD.count(bad.old) == 1, bad
    text = GOOD.replace(bad.old, bad.new)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    line = 1 + text[: text.index(bad.at)].count("\n")
    match refusal(path):
        case [(name, said, key, found, expected)]:
            where = (name, said, key) == (path.name, line, bad.key)
            return where and bad.found in found and bad.expected in expected
    return False


def refusal(path: Path) -> list[tuple[str, int, str, str, str]]:
    """What is said of a contract: (file, line, key, found, expected) of each finding."""
    try:
        contract.load(path, path.name)
    except ContractError as error:
        return [(f.path, f.line, f.key, f.found, f.expected) for f in error.findings]
    except Exception as error:  # whatever else is raised says nothing to the reader
        return [(type(error).__name__, 0, "", "", "")]
    return []


NODES = "abcd"
GRAPHS = st.sets(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES + "x")), max_size=6)
DEPENDENT = """\
schema: tollens/contract/v1
id: {id}
version: 1.0.0
title: A contract with dependencies
subject: [small.part]
falsifiers:
  - id: F-{upper}-001
    rule: r
    prediction: p
    measures: {{error: {{le: 1}}}}
depends_on:
{rows}"""


@pytest.mark.falsifies("TOLLENS-CONTRACT-002")
def test_a_circular_or_dangling_dependency_is_found_where_it_is_written(observe):
    wrong: list[object] = []

    @settings(THOROUGH, max_examples=200)
    @given(GRAPHS)
    def compare(edges: set[tuple[str, str]]) -> None:
        rows = {id_: sorted(to for start, to in edges if start == id_) for id_ in NODES}
        loaded = [dependent(id_, after) for id_, after in rows.items()]
        found = {(f.path, f.line, f.key) for f in contract.across(loaded, [])}
        if found != expected_of_graph(rows):
            wrong.append((rows, found))

    compare()
    observe("misjudged_graphs", len(wrong))
    assert not wrong, wrong[0]


def dependent(id_: str, after: list[str]) -> contract.Loaded:
    rows = "".join(f"  - {each}\n" for each in after) or "  []\n"
    text = DEPENDENT.format(id=id_, upper=id_.upper(), rows=rows)
    parsed = source.parse(text, id_)
    return contract.Loaded(Path(id_), Contract.model_validate(parsed.data), parsed)


def expected_of_graph(rows: dict[str, list[str]]) -> set[tuple[str, int, str]]:
    """An edge is wrong that leads nowhere, or from whose end a path leads back to its start."""
    reach = {(a, b) for a in rows for b in rows[a]}
    for k, i, j in itertools.product(rows, repeat=3):  # Warshall 1962
        if (i, k) in reach and (k, j) in reach:
            reach.add((i, j))
    return {
        (a, 12 + i, f"depends_on[{i}]")
        for a in rows
        for i, b in enumerate(rows[a])
        if b not in rows or b == a or (b, a) in reach
    }


ALIASES = [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 1000)]
HOSTILE = {
    "aliases of aliases": "a0: &a0 [x, x]\n" + "".join(ALIASES),
    "ten megabytes": GOOD.replace("bad-v1", "hostile-v1") + "# and so on\n" * 840_000,
    "nested brackets": "[" * 200_000,
    "nested braces": "{a: " * 200_000,
    "nested blocks": "\n".join(" " * i + "a:" for i in range(1_400)),
    "nested dashes": "- " * 200_000,
    "nested questions": "? " * 200_000,
    "a million values": "[" + "1," * 500_000 + "]",
    "many keys": "".join(f"key{i}: 1\n" for i in range(10_000)),
    "a long number": "version: " + "1" * 1_000_000,
    "many anchors": "".join(f"- &a{i} x\n" for i in range(50_000)),
}


@forks
@pytest.mark.falsifies("TOLLENS-CONTRACT-003")
def test_hostile_text_is_refused_at_once(observe, tmp_path):
    seconds = [refused_after(text, tmp_path) for text in HOSTILE.values()]
    unrefused = [name for name, took in zip(HOSTILE, seconds, strict=True) if took is None]
    observe("unrefused", len(unrefused))
    observe("worst_seconds", max((took for took in seconds if took is not None), default=0.0))
    assert not unrefused, unrefused


def refused_after(text: str, folder: Path) -> float | None:
    """Processor seconds until a process refused `text`; None where it crashed, hung or took it."""
    path = folder / "hostile-v1.yaml"
    path.write_text(text)
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=refuse, args=(path, sender))
    child.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(60) else None
    except EOFError:
        return None
    finally:
        child.kill()
        child.join()


def refuse(path: Path, sender: Connection) -> None:
    faulthandler.disable()
    started = time.process_time()
    limit = math.ceil(started) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    refused = any(line > 0 for _, line, *_ in refusal(path))
    sender.send(time.process_time() - started if refused else None)


SCALARS: list[tuple[str, object]] = [
    *[(text, None) for text in ("~", "null", "Null", "NULL", "")],
    *[(text, True) for text in ("true", "True", "TRUE")],
    *[(text, False) for text in ("false", "False", "FALSE")],
    *[("1e-6", 1e-6), ("1E3", 1000.0), ("1.", 1.0), (".5", 0.5), ("-1.5e+2", -150.0), ("+.5", 0.5)],
    *[("0", 0), ("-7", -7), ("+7", 7), ("017", 17), ("0o17", 15), ("0x1F", 31), ("1.0", 1.0)],
    *[(".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf)],
    *[(text, text) for text in ("no", "No", "yes", "on", "off", "y", "n", "NO", "tRue", "nil")],
    *[(text, text) for text in ("1.0.0", "1_000", "12:30", "0b11", "2026-01-01", "1e", "e3", ".")],
    *[(text, text) for text in ("<<", "=", "nan", "inf", "0o8", "0xg", "1 2")],
    *[("'1'", "1"), ('"no"', "no"), ("'~'", "~"), ('"true"', "true"), ("''", ""), ("|\n  1", "1")],
]


@pytest.mark.falsifies("TOLLENS-CONTRACT-004")
def test_scalars_are_read_as_yaml_1_2_says(observe):
    misread = [(text, value) for text, value in SCALARS if not is_read_as(text, value)]
    nan = source.parse("a: .NaN", "x").data["a"]
    observe("scalars", len(SCALARS) + 1)
    observe("misread", len(misread) + (nan == nan))
    assert not misread, misread


def is_read_as(text: str, value: object) -> bool:
    data = source.parse(f"a: {text}", "x").data["a"]
    return type(data) is type(value) and data == value


SCHEMAS = {"contract": contract, "evidence": evidence}


def published(kind: str) -> dict:
    return json.loads((ROOT / "tollens" / "schema" / f"{kind}.schema.json").read_text())


@pytest.mark.falsifies("TOLLENS-CONTRACT-005")
def test_the_published_schemas_are_the_models_and_hold_for_the_repository(observe, tmp_path):
    drifted = [kind for kind, module in SCHEMAS.items() if published(kind) != module.json_schema()]
    documents = [*repository(), ("contract", FULL), ("evidence", an_evidence(tmp_path))]
    validators = {kind: jsonschema.Draft202012Validator(published(kind)) for kind in SCHEMAS}
    refused = [document for kind, document in documents if not validators[kind].is_valid(document)]
    for validator in validators.values():
        validator.check_schema(validator.schema)
    observe("drifted_schemas", len(drifted))
    observe("documents", len(documents))
    observe("refused_documents", len(refused))
    assert not drifted and not refused


def repository() -> Iterator[tuple[str, object]]:
    for path in sorted(ROOT.glob("contracts/*.yaml")):
        yield "contract", source.parse(path.read_text(), path.name).data
    for path in sorted(ROOT.glob("evidence/*/evidence.json")):
        yield "evidence", json.loads(path.read_text())


def an_evidence(root: Path) -> dict:
    small = SmallProject(root).build(kills="a-fault")
    small.record(small.said("F-SMALL-001"), kills={("F-SMALL-001", "a-fault"): ("killed", "")})
    return json.loads(small.evidence_path.read_text())


WORDS = st.sampled_from(["a", "naïve 😀", "two words", "1.0", "x" * 100])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
ORDERED = st.sampled_from(["le", "lt", "ge", "gt"]).flatmap(
    lambda kind: st.fixed_dictionaries(
        {kind: NUMBERS}, optional={"unit": WORDS, "confidence": st.floats(0.51, 0.99)}
    )
)
MEASURES = (
    ORDERED
    | st.fixed_dictionaries({"eq": NUMBERS | st.booleans() | WORDS}, optional={"unit": WORDS})
    | st.fixed_dictionaries({"between": st.lists(NUMBERS, min_size=2, max_size=2).map(sorted)})
)
NEEDS = st.sampled_from([{"env": "A"}, {"device": "cuda"}, {"file": "b"}, {"module": "c"}])
FALSIFIERS = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["F-A-001", "FALSIFY-B_C-2", "A-1"]),
        "rule": WORDS,
        "prediction": WORDS,
        "measures": st.dictionaries(st.sampled_from(["a", "b_1"]), MEASURES, min_size=1),
    },
    optional={
        "level": st.sampled_from(["algorithm", "functional", "runtime"]),
        "needs": st.lists(NEEDS, max_size=2),
        "kills": st.lists(st.sampled_from(["a", "a-fault-2"]), max_size=2),
        "if_fails": WORDS,
        "freshness": st.sampled_from(["strict", "warn", None]),
    },
)
ENTRY = {
    "date": "2026-01-01T00:00:00Z",
    "version": "1.0.0",
    "from": "PROPOSED",
    "to": "FALSIFIED",
    "evidence": "evidence/a-v1/evidence.json",
    "sha256": "0" * 64,
    "claims": "1" * 64,
    "commit": None,
    "dirty": False,
    "summary": "0 of 1 corroborated",
    "verdicts": {"F-A-001": "FALSIFIED"},
}
CONTRACTS = st.fixed_dictionaries(
    {
        "schema": st.just("tollens/contract/v1"),
        "id": st.sampled_from(["a-v1", "long-name-2-v10"]),
        "version": st.sampled_from(["1.0.0", "0.10.2"]),
        "title": WORDS,
        "subject": st.lists(WORDS, min_size=1, max_size=2),
        "falsifiers": st.lists(FALSIFIERS, min_size=1, max_size=2),
    },
    optional={
        "description": WORDS,
        "references": st.lists(WORDS, max_size=2),
        "depends_on": st.lists(st.sampled_from(["b-v1", "c"]), max_size=2),
        "equations": st.dictionaries(
            st.just("law"), st.fixed_dictionaries({"formula": WORDS}, optional={"domain": WORDS})
        ),
        "gates": st.just([{"id": "GATE-A", "requires": ["F-A-001"], "ship_blocking": True}]),
        "status_history": st.just([ENTRY]),
    },
)
ODD = st.sampled_from(
    [None, True, 0, 1, 1.5, -1, "", " ", "x", "true", "1", [], {}, ["x"], [1.0, 2]]
)
OPEN = {"measures", "equations", "verdicts", "runs", "packages", "sources"}
OPTIONAL = {
    *("description", "references", "depends_on", "equations", "gates", "status_history", "domain"),
    *("level", "needs", "kills", "if_fails", "freshness", "unit", "confidence", "invariants"),
    *("ship_blocking", "verdicts", "attachments", "artifact", "interval", "method", "count"),
}
FULL = yaml.safe_load(GOOD) | {"status_history": [ENTRY]}


@pytest.mark.falsifies("TOLLENS-CONTRACT-006")
def test_the_schema_accepts_what_the_models_accept_and_no_mutant(observe, tmp_path):
    schemas = [contract.json_schema(), evidence.json_schema()]
    of_contract, of_evidence = map(jsonschema.Draft202012Validator, schemas)
    accepted = {"as drawn": 0, "altered": 0}
    refused: list[object] = []

    @settings(THOROUGH, max_examples=250)
    @given(CONTRACTS, st.randoms(use_true_random=False), ODD)
    def compare(data: dict, random: random.Random, odd: object) -> None:
        altered = with_one_odd_value(data, random, odd)
        for kind, document in (("as drawn", data), ("altered", altered)):
            if model_accepts(document):
                accepted[kind] += 1
                refused.extend([] if of_contract.is_valid(document) else [document])

    compare()
    tried = [(of_contract, each) for each in mutants(FULL)]
    tried += [(of_evidence, each) for each in mutants(an_evidence(tmp_path))]
    survivors = [mutant for schema, mutant in tried if schema.is_valid(mutant)]
    observe("accepted_by_models", sum(accepted.values()))
    observe("altered_and_accepted", accepted["altered"])
    observe("refused_by_schema", len(refused))
    observe("mutants", len(tried))
    observe("mutants_accepted", len(survivors))
    assert not refused and not survivors, (refused or survivors)[0]


def model_accepts(document: object) -> bool:
    try:
        Contract.model_validate(document)
    except ValueError:
        return False
    return True


def places(value: object, at: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside `value`, its own first."""
    yield at
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*at, key))


def changed(value: object, at: tuple, change: object) -> object:
    """A copy of a JSON value in which `change` has been applied to what is at `at`."""
    if not at:
        return change(value)
    copy = value.copy()
    copy[at[0]] = changed(value[at[0]], at[1:], change)
    return copy


def with_one_odd_value(data: dict, random: random.Random, odd: object) -> object:
    return changed(data, random.choice(list(places(data))), lambda value: odd)


def mutants(document: dict) -> Iterator[object]:
    """Copies with a value of no admissible type, an unknown key, or a required key missing."""
    for at in places(document):
        yield changed(document, at, lambda value: [[]])
        name, parent = (at or (None,))[-1], at[-2:-1]
        here = functools.reduce(lambda value, key: value[key], at, document)
        if isinstance(here, dict) and name not in OPEN:
            yield changed(document, at, lambda value: value | {"an unknown key": 1})
        if isinstance(name, str) and name not in OPTIONAL and not OPEN.intersection(parent):
            yield changed(document, at[:-1], functools.partial(without, name))


def without(key: str, value: dict) -> dict:
    return {name: each for name, each in value.items() if name != key}


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
ADMITS = {
    "le": lambda value, limit: value <= limit,
    "lt": lambda value, limit: value < limit,
    "ge": lambda value, limit: value >= limit,
    "gt": lambda value, limit: value > limit,
    "eq": lambda value, limit: value == limit,
    "between": lambda value, ends: ends[0] <= value <= ends[1],
}


def admits(bound: dict, value: float) -> bool:
    """The definition of a bound; what is not a finite number is never admitted."""
    [(kind, limit)] = bound.items()
    finite = isinstance(value, int) or math.isfinite(value)
    return finite and ADMITS[kind](value, limit)


@pytest.mark.falsifies("TOLLENS-CONTRACT-007")
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


@pytest.mark.falsifies("TOLLENS-CONTRACT-008")
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


@pytest.mark.falsifies("TOLLENS-CONTRACT-009")
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


@pytest.mark.falsifies("TOLLENS-CONTRACT-010")
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


LIMITED = [-1.0, 0.0, 0.5, 1.0, 1.0000001, 2.0]
ENDS = st.sampled_from(LIMITED)
INTERVALS = st.tuples(st.sampled_from(["le", "lt", "ge", "gt"]), ENDS).map(
    lambda bound: {bound[0]: bound[1]}
) | st.lists(ENDS, min_size=2, max_size=2).map(lambda ends: {"between": sorted(ends)})
PROBES = [end + step for end in LIMITED for step in (-1e-9, 0.0, 1e-9)]


@pytest.mark.falsifies("TOLLENS-CONTRACT-011")
def test_a_bound_is_loosened_where_it_admits_a_value_that_it_refused(observe):
    wrong: list[object] = []

    @THOROUGH
    @given(INTERVALS, INTERVALS)
    def compare(old: dict, new: dict) -> None:
        found = difference.needed(difference.compare(spoiled(old), spoiled(new)))
        if found is not expected_bump(old, new):
            wrong.append((old, new, found))

    compare()
    observe("misjudged_bounds", len(wrong))
    assert not wrong, wrong[0]


def spoiled(bound: dict) -> Contract:
    at = ("falsifiers", 0, "measures", "error")
    return Contract.model_validate(changed(FULL, at, lambda value: bound))


def expected_bump(old: dict, new: dict) -> Bump:
    if any(admits(new, value) and not admits(old, value) for value in PROBES):
        return Bump.MAJOR
    tighter = any(admits(old, value) and not admits(new, value) for value in PROBES)
    return Bump.MINOR if tighter or old != new else Bump.NONE


ANOTHER = "{id: F-N-1, rule: r, prediction: p, measures: {a: {le: 1}}}"
PATCHES = [  # edits of GOOD
    *[("title: A", "title: The"), ("rule: first", "rule: 1st"), ("is small", "is tiny")],
    *[("y = x", "y = 2 x"), ("{formula: y = x}", "{formula: y = x}\n  more: {formula: z}")],
]
MINORS = [
    ("      span:", "      more: {ge: 0}\n      span:"),
    ("[some-fault]", "[some-fault, another]"),
    ("\ngates:", f"  - {ANOTHER}\n\ngates:"),
    ("rule: second", "rule: second\n    freshness: strict\n    level: runtime"),
]
MAJORS = [
    *[("[small.part]", "[small.other]"), ("depends_on: []", "depends_on: [other-v1]")],
    *[("      span: {between: [1, 2]}\n", ""), ("span:", "width:")],
    *[("[some-fault]", "[]"), ("[some-fault]", "[another]")],
    *[("env: HOME", "env: PATH"), ("[{env: HOME}]", "[{env: HOME}, {env: PATH}]")],
    *[("0.95", "0.9"), ("0.95", "0.99"), (", confidence: 0.95", "")],
    *[("{le: 1.0}", "{le: 1.0, unit: s}"), ("{le: 1.0}", "{eq: 1.0}")],
    *[("rule: second", "rule: second\n    freshness: warn"), ("ing: true", "ing: false")],
]
NONE = [("\n", "\n# a comment\n"), ("version: 1.0.0", "version: 2.0.0")]
CHANGES = {Bump.PATCH: PATCHES, Bump.MINOR: MINORS, Bump.MAJOR: MAJORS, Bump.NONE: NONE}
GIVEN = {
    Bump.NONE: [("1.0.0", "1.0.0"), ("1.0.0", "0.9.9"), ("10.0.0", "9.9.9")],
    Bump.PATCH: [("1.2.3", "1.2.4"), ("0.0.9", "0.0.10")],
    Bump.MINOR: [("1.2.3", "1.3.0"), ("1.9.0", "1.10.0")],
    Bump.MAJOR: [("1.9.9", "2.0.0"), ("9.0.0", "10.0.0")],
}


@pytest.mark.falsifies("TOLLENS-CONTRACT-012")
def test_each_change_of_the_claims_is_seen_and_needs_its_bump(observe):
    good = Contract.model_validate(yaml.safe_load(GOOD))
    wrong = [
        (bump, edit, found)
        for bump, edits in CHANGES.items()
        for edit in edits
        for found in [difference.needed(difference.compare(good, edited(*edit)))]
        if found is not bump
    ]
    swapped = good.model_copy(update={"falsifiers": good.falsifiers[::-1]})
    unseen = difference.needed(difference.compare(good, swapped)) is Bump.NONE
    misread = [
        pair
        for bump, pairs in GIVEN.items()
        for pair in pairs
        if difference.given(*map(with_version, pair)) is not bump
    ]
    observe("misjudged_changes", len(wrong))
    observe("unseen_reordering", unseen)
    observe("misread_versions", len(misread))
    assert not wrong and not unseen and not misread, (wrong, misread)


def edited(old: str, new: str) -> Contract:
    return Contract.model_validate(source.parse(GOOD.replace(old, new, 1), "x").data)


def with_version(version: str) -> Contract:
    return edited("1.0.0", version)
