"""Contracts as JSON documents: drawn at random, altered in one place, and spoiled on purpose.

Knows which keys a contract and its evidence may lack; decides nothing about what is accepted.
"""

import functools
import random
from collections.abc import Iterator

import yaml
from hypothesis import strategies as st

from falsifiers.bad_contracts import GOOD

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
