"""The contract: what is claimed, which observation would refute it, and the bounds.

Knows how a contract is written and read; knows neither tests nor evidence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from tollens.bounds import Measure, Strict
from tollens.dialect import foreign_finding, is_foreign
from tollens.errors import ContractError, Finding
from tollens.source import Location, Source, parse, read_text
from tollens.verdicts import Discharge, Level, Status

SCHEMA_ID = "tollens/contract/v1"

Text = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1)]
SLUG = r"^[a-z0-9]+(-[a-z0-9]+)*$"
Slug = Annotated[str, StringConstraints(strict=True, pattern=SLUG)]
SEMANTIC = r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$"
FALSIFIER_ID = r"^[A-Z][A-Z0-9]*([-_][A-Z0-9]+)+$"
FalsifierId = Annotated[str, StringConstraints(strict=True, pattern=FALSIFIER_ID)]
Version = Annotated[str, StringConstraints(strict=True, pattern=SEMANTIC)]
Sha256 = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
MeasureName = Annotated[str, StringConstraints(strict=True, pattern=r"^[a-z][a-z0-9_]*$")]


class Need(Strict):
    """Something that must be there before the falsifier can run; exactly one of the keys."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    env: Text | None = None
    """An environment variable that is set and not empty."""
    device: Literal["cuda"] | None = None
    """A device that torch can use."""
    module: Text | None = None
    """A Python module that can be imported."""
    command: Text | None = None
    """A command on the PATH."""
    file: Text | None = None
    """A file or folder; `$NAME` is expanded from the environment."""

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        given = self.model_dump(exclude_unset=True)
        if len(given) != 1 or None in given.values():
            raise ValueError("exactly one of env, device, module, command, file is expected")
        return self

    def __str__(self) -> str:
        [(kind, value)] = self.model_dump(exclude_unset=True).items()
        return f"{kind} {value}"


class Equation(Strict):
    """A formula that the claims rest on, with its domain and invariants."""

    formula: Text
    """The formula, as text."""
    domain: str = ""
    """Where it holds."""
    invariants: list[Text] = []
    """What follows from it, in words."""


class Falsifier(Strict):
    """One claim and the observation that would refute it."""

    id: FalsifierId
    """What a test cites in `@pytest.mark.falsifies`; unique in the project."""
    rule: Text
    """The claim, in one sentence."""
    prediction: Text
    """What is observed if the claim holds."""
    level: Level = Level.ALGORITHM
    """The level at which a pass discharges it."""
    needs: list[Need] = []
    """What must be there; where it is not, the verdict is BLOCKED."""
    measures: Annotated[dict[MeasureName, Measure], Field(min_length=1)]
    """What the test observes, and the bound of each."""
    kills: list[Slug] = []
    """The saboteurs that it must notice, by their names with dashes."""
    if_fails: str = ""
    """Where to look first."""
    freshness: Literal["strict", "warn"] | None = None
    """Whether stale evidence fails `tollens check`; by level if not given."""

    def strict_freshness(self, level: Level) -> bool:
        """Whether stale evidence of a level fails `tollens check`: by default if cheap to redo."""
        if self.freshness is None:
            return level is Level.ALGORITHM
        return self.freshness == "strict"


class Gate(Strict):
    """A decision that passes when all the falsifiers that it requires are DISCHARGED."""

    id: FalsifierId
    """The name of the decision; unique in the project."""
    requires: Annotated[list[FalsifierId], Field(min_length=1)]
    """Ids of falsifiers of this contract."""
    ship_blocking: StrictBool = False
    """Whether nothing may be released before it passes."""


class HistoryEntry(Strict):
    """One transition, written by machine."""

    date: Text
    """When it was recorded, in UTC."""
    version: Version
    """Of the claims."""
    from_: Annotated[Status, Field(alias="from")]
    """The status before."""
    to: Status
    """The status that follows from the evidence."""
    evidence: Text
    """Path of the evidence file."""
    sha256: Sha256
    """Of the evidence file as recorded."""
    claims: Sha256
    """Digest of the claims: the contract without its history."""
    commit: str | None
    """The commit that was run on; null outside git."""
    dirty: StrictBool
    """Whether files differed from that commit."""
    summary: Text
    """How many are corroborated, of how many."""
    verdicts: dict[FalsifierId, Discharge] = {}
    """Falsifiers whose discharge changed, and to what."""


class Contract(Strict):
    """A contract as written; `load` adds where it came from."""

    schema_: Annotated[Literal["tollens/contract/v1"], Field(alias="schema")]
    """Names this format."""
    id: Slug
    """The file's stem."""
    version: Version
    """Semantic version of the claims; a changed claim needs a higher one."""
    title: Text
    """What is claimed, in one line."""
    description: str = ""
    """Why it matters, and what is left out."""
    references: list[Text] = []
    """Papers and specifications that the claims rest on."""
    depends_on: list[Slug] = []
    """Ids of contracts whose claims these rest on."""
    subject: Annotated[list[Text], Field(min_length=1)]
    """The code under test: modules by dotted name, or files by path; digested into the evidence."""
    equations: dict[MeasureName, Equation] = {}
    """Formulas that the claims rest on, by name."""
    falsifiers: Annotated[list[Falsifier], Field(min_length=1)]
    """The claims, each with the observation that would refute it."""
    gates: list[Gate] = []
    """Decisions that need several claims."""
    status_history: list[HistoryEntry] = []
    """Written by machine, append-only; keep it last."""

    def falsifier(self, name: str) -> Falsifier:
        return next(each for each in self.falsifiers if each.id == name)

    @cached_property
    def claims(self) -> str:
        """Digest of the claims: the contract without its history."""
        return digest(self.model_dump(mode="json", by_alias=True, exclude={"status_history"}))

    def claim(self, falsifier: Falsifier) -> str:
        """Digest of one falsifier's claim; a new version of the contract is a new claim."""
        return digest([self.id, self.version, falsifier.model_dump(mode="json")])


@dataclass(frozen=True)
class Loaded:
    """A valid contract together with the text that it came from."""

    path: Path
    contract: Contract
    source: Source


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load(path: Path, shown: str | None = None) -> Loaded:
    """Read and validate one contract.

    Raises ContractError with every finding: file, line, key, found, expected.
    """
    name = shown or str(path)
    return validate(path, parse(read_text(path, name), name))


def validate(path: Path, source: Source) -> Loaded:
    """The contract that `source` holds; its id is the stem of `path`. Raises ContractError."""
    if is_foreign(source.data):
        raise ContractError([foreign_finding(source)])
    if source.odd:
        raise ContractError(source.odd)
    try:
        contract = Contract.model_validate(_mapping(source))
    except ValidationError as error:
        raise ContractError(_explain(source, error.errors(include_url=False))) from error
    findings = list(_inconsistencies(contract, source, path.stem))
    if findings:
        raise ContractError(findings)
    return Loaded(path, contract, source)


def _mapping(source: Source) -> Mapping[str, Any]:
    if isinstance(source.data, dict):
        return source.data
    kind = "nothing" if source.data is None else f"a {type(source.data).__name__}"
    raise ContractError([source.finding("schema", (), kind, "a mapping with schema, id, …")])


def _explain(source: Source, errors: Iterable[ErrorDetails]) -> list[Finding]:
    """Validation errors as findings, one for each place (a union fails once for each member)."""
    places: dict[Location, list[ErrorDetails]] = {}
    for error in errors:
        places.setdefault(_in_text(error["loc"]), []).append(error)
    return [_finding(source, at, each) for at, each in places.items()]


def _in_text(location: Location) -> Location:
    """Where an error stands in the text: without what pydantic adds for a key or a union."""
    if location[-1:] == ("[key]",):
        return location[:-1]
    return location[:-1] if location[-2:-1] == ("eq",) else location


def _finding(source: Source, at: Location, errors: list[ErrorDetails]) -> Finding:
    kind, value = errors[0]["type"], errors[0]["input"]
    if kind == "extra_forbidden":
        return source.finding("schema", at, "an unknown key", _known_keys(at))
    if kind == "missing":
        return source.finding("schema", at, "nothing", f"the key {at[-1]!r}")
    expected = "; or ".join(dict.fromkeys(_plain(error["msg"]) for error in errors))
    return source.finding("schema", at, f"{value!r:.120}", expected)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input should be ")


MODELS_BY_PARENT: dict[str, type[Strict]] = {
    "falsifiers": Falsifier,
    "gates": Gate,
    "equations": Equation,
}
MODELS_BY_PARENT |= {"measures": Measure, "needs": Need, "status_history": HistoryEntry}


def _known_keys(at: Location) -> str:
    parents = [part for part in at[:-1] if part in MODELS_BY_PARENT]
    model = MODELS_BY_PARENT[str(parents[-1])] if parents else Contract
    names = [field.alias or name for name, field in model.model_fields.items()]
    return f"one of {', '.join(names)}"


def _inconsistencies(contract: Contract, source: Source, stem: str) -> Iterator[Finding]:
    if contract.id != stem:
        yield source.finding("schema", ("id",), contract.id, f"the file's stem, {stem}")
    ids: set[str] = set()
    for at, name in _ids(contract):
        if name in ids:
            yield source.finding("schema", at, f"the id {name} a second time", "each id once")
        ids.add(name)
    known = {falsifier.id for falsifier in contract.falsifiers}
    for i, gate in enumerate(contract.gates):
        for j, required in enumerate(gate.requires):
            if required not in known:
                at = ("gates", i, "requires", j)
                yield source.finding("schema", at, required, f"one of {', '.join(sorted(known))}")


def _ids(contract: Contract) -> Iterator[tuple[Location, str]]:
    for i, falsifier in enumerate(contract.falsifiers):
        yield ("falsifiers", i, "id"), falsifier.id
    for i, gate in enumerate(contract.gates):
        yield ("gates", i, "id"), gate.id


def across(contracts: Iterable[Loaded], known: Iterable[str]) -> Iterator[Finding]:
    """What is wrong between contracts: an id declared twice, a dangling or circular depends_on.

    `known` are the ids of contracts that exist beside those given.
    """
    loaded = list(contracts)
    by_id = {each.contract.id: each.contract for each in loaded}
    owners: dict[str, str] = {}
    for each in loaded:
        for at, name in _ids(each.contract):
            if name in owners:
                found = f"the id {name}, which {owners[name]} declares too"
                yield each.source.finding("schema", at, found, "each id once in the project")
            owners[name] = each.source.path
        for i, dependency in enumerate(each.contract.depends_on):
            at = ("depends_on", i)
            if dependency not in by_id and dependency not in set(known):
                yield each.source.finding("schema", at, dependency, "the id of a contract")
            elif each.contract.id in _reachable(dependency, by_id):
                found = f"{dependency}, which depends on {each.contract.id} in turn"
                yield each.source.finding("schema", at, found, "no cycle")


def _reachable(start: str, by_id: Mapping[str, Contract]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += by_id[name].depends_on if name in by_id else []
    return seen


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a contract, for editors."""
    schema = Contract.model_json_schema(by_alias=True)
    for model in (schema, *schema["$defs"].values()):
        for field in model.get("properties", {}).values():
            if "patternProperties" in field:
                field["additionalProperties"] = False
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA_ID.replace('/', ':')}",
        **schema,
    }
