"""Tries to refute how contracts are read.

Oracles: the edit that made a contract bad, whose line the test finds by itself; the transitive
closure of a graph; a table of YAML 1.2 scalars; and jsonschema.
"""

import faulthandler
import itertools
import json
import math
import multiprocessing
import random
import resource
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from falsifiers.bad_contracts import BAD, GOOD, Bad
from falsifiers.documents import CONTRACTS, FULL, ODD, mutants, with_one_odd_value
from falsifiers.small_project import SmallProject
from falsifiers.thorough import THOROUGH
from tollens import contract, evidence, source
from tollens.contract import Contract
from tollens.errors import ContractError

ROOT = Path(__file__).parents[1]
FORK = multiprocessing.get_context("fork")
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
