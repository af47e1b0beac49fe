"""The evidence file: an in-toto Statement with results, runs and severity.

Knows how evidence is shaped, merged, sealed and checked; knows no pytest. The format of the
envelope is in-toto Statement v1 (in-toto attestation framework, spec/v1/statement.md).
"""

from __future__ import annotations

import copy
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
from pydantic import Field

from tollens.bounds import Judged, Strict
from tollens.contract import Sha256, digest
from tollens.digests import Digests
from tollens.errors import EvidenceError
from tollens.verdicts import Kill, Level, Verdict

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:tollens:evidence:v1"


class DigestSet(Strict):
    """Digests of one thing, by algorithm."""

    sha256: Sha256
    """In hexadecimal."""


class Subject(Strict):
    """A part of the code under test."""

    name: str
    """As the contract lists it."""
    digest: DigestSet
    """Of its source and of what that imports from the project."""


class MeasureResult(Strict):
    """A measure as observed; a non-finite value is written as text (`nan`, `inf`, `-inf`)."""

    value: bool | int | float | str
    """As observed; with several tests, the worst."""
    bound: str
    """The bound as it was judged."""
    unit: str
    """The contract's."""
    held: bool
    """Whether the bound held."""
    margin: float | None
    """Distance from the bound, negative where it is broken; null where there is no distance."""
    interval: list[float] | None = None
    """Low and high end, of a measure with `confidence`."""
    method: str | None = None
    """How the interval was made, and at which confidence."""
    count: int | None = None
    """How many samples or trials."""


class ClaimDigests(Strict):
    """What a result rests on; where one differs from today's, the result is stale."""

    claim: Sha256
    """Of the falsifier's entry, with the contract's id and version."""
    subject: Sha256
    """Of the code under test, with the project modules that it imports."""
    test: Sha256
    """Of the test's file, with what it imports from the test folder, and the conftests."""

    def same(self, other: Digests) -> bool:
        return self.model_dump() == other.as_json()


class KillDigests(ClaimDigests):
    """What a kill rests on."""

    saboteur: Sha256
    """Of the saboteur's file, with what it imports from the test folder."""

    def without_saboteur(self) -> ClaimDigests:
        return ClaimDigests(**self.model_dump(exclude={"saboteur"}))


class Attachment(Strict):
    """A file that a test added to the evidence."""

    name: str
    """The name that the test gave it."""
    path: str
    """Where it lies, beside the evidence."""
    sha256: Sha256
    """Of the file."""


class Artifact(Strict):
    """The named real thing that a run observed."""

    name: str
    """The file's name."""
    sha256: Sha256
    """Of the file."""
    bytes: int
    """Its size."""


class Result(Strict):
    """What the freshest run at one level says of one falsifier."""

    falsifier: str
    """Its id."""
    level: Level
    """The level at which the run observed."""
    verdict: Verdict
    """The worst of all its tests."""
    measures: dict[str, MeasureResult]
    """What was observed, by name."""
    reason: str
    """Why the verdict is not CORROBORATED; else empty."""
    tests: list[str]
    """Node ids of the tests."""
    digests: ClaimDigests
    """What the result rests on."""
    seconds: float
    """How long the tests took."""
    run: str
    """The name of the run in `runs`."""
    attachments: list[Attachment] = []
    """Files that the tests added."""
    artifact: Artifact | None = None
    """The real thing observed, at level runtime."""
    reproduce: str
    """The line that runs it again."""

    @property
    def key(self) -> tuple[str, str]:
        return self.falsifier, self.level


class KillResult(Strict):
    """What became of one saboteur under one falsifier."""

    falsifier: str
    """Its id."""
    saboteur: str
    """The name of the planted fault."""
    outcome: Kill
    """What became of it."""
    reason: str
    """What the falsifier said under the fault."""
    digests: KillDigests
    """What the kill rests on."""
    run: str
    """The name of the run in `runs`."""

    @property
    def key(self) -> tuple[str, str]:
        return self.falsifier, self.saboteur


class Host(Strict):
    """The machine of a run."""

    cpu: str
    """Model of the processor."""
    cores: int
    """How many of them."""
    memory_gib: float
    """In GiB."""
    gpu: str | None
    """Name of the first GPU."""
    driver: str | None
    """The GPU's driver."""
    system: str
    """Operating system."""


class Run(Strict):
    """One pytest run: when, by which command, on which commit, host, packages and sources."""

    start: str
    """In UTC."""
    end: str
    """In UTC."""
    command: str
    """As it was typed."""
    commit: str | None
    """The commit that was run on; null outside git."""
    dirty: bool
    """Whether files differed from that commit."""
    host: Host
    """The machine."""
    python: str
    """Its version."""
    packages: dict[str, str]
    """Versions of the packages that matter."""
    seed: int
    """The project's."""
    sources: dict[str, Sha256]
    """Digest of every file that a result rests on."""


class About(Strict):
    """The contract that the evidence is of."""

    id: str
    """The contract's."""
    version: str
    """Of its claims."""
    claims: Sha256
    """Digest of all claims."""


class Predicate(Strict):
    """What was found: the results, the runs that made them, and what became of the saboteurs."""

    contract: About
    """What it is evidence of."""
    results: list[Result]
    """One for each falsifier and level."""
    runs: dict[str, Run]
    """The runs that results and kills refer to."""
    severity: list[KillResult]
    """One for each falsifier and saboteur."""
    previous: Sha256 | None
    """sha256 of the evidence file that this one replaced."""
    digest: Sha256
    """Over everything else in the file."""


class Evidence(Strict):
    """One evidence file."""

    type_: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    """An in-toto Statement, version 1."""
    subject: Annotated[list[Subject], Field(min_length=1)]
    """The code under test."""
    predicateType: Literal["urn:tollens:evidence:v1"]
    """Names this format."""
    predicate: Predicate
    """What was found."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of an evidence file."""
    schema = Evidence.model_json_schema(by_alias=True)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": PREDICATE}
    return {**head, **schema}


@cache
def _validator() -> jsonschema.Draft202012Validator:
    text = resources.files("tollens").joinpath("schema", "evidence.schema.json").read_text()
    return jsonschema.Draft202012Validator(json.loads(text))


def measure_result(judged: Judged) -> MeasureResult:
    return MeasureResult(
        value=_jsonable(judged.value),
        bound=judged.bound,
        unit=judged.unit,
        held=judged.held,
        margin=judged.margin,
        interval=list(judged.interval) if judged.interval else None,
        method=judged.method,
        count=judged.count,
    )


def _jsonable(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def statement(
    about: About,
    subjects: Mapping[str, str],
    results: Iterable[Result],
    runs: Mapping[str, Run],
    severity: Iterable[KillResult],
    previous: str | None,
) -> Evidence:
    """Put an evidence file together: sorted, without unreferenced runs, sealed by its digest."""
    results, severity = sorted(results, key=_key), sorted(severity, key=_key)
    used = {each.run for each in results} | {each.run for each in severity}
    predicate = {
        "contract": about.model_dump(),
        "results": [each.model_dump(mode="json") for each in results],
        "runs": {name: run.model_dump() for name, run in runs.items() if name in used},
        "severity": [each.model_dump(mode="json") for each in severity],
        "previous": previous,
    }
    subject = [{"name": name, "digest": {"sha256": sha}} for name, sha in sorted(subjects.items())]
    document: dict[str, Any] = {
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": predicate,
    }
    predicate["digest"] = digest(document)
    return Evidence.model_validate(document)


def _key(each: Result | KillResult) -> tuple[str, str]:
    return each.key


def dump(evidence: Evidence) -> bytes:
    """The file's bytes: keys sorted, two-space indent, newline at the end, checked by schema."""
    document = evidence.model_dump(mode="json", by_alias=True)
    _check_schema(document, "the evidence about to be written")
    return _canonical(document)


def _canonical(document: Any) -> bytes:
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def read(path: Path, shown: str | None = None) -> Evidence | None:
    """Read and verify one evidence file; None where there is none.

    Raises EvidenceError where it is malformed or its digest does not match its content.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return parse(data, shown or str(path))


def parse(data: bytes, shown: str) -> Evidence:
    """Verify the bytes of an evidence file: JSON, canonical form, schema, digest."""
    try:
        document = json.loads(data)
        canonical = _canonical(document)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{shown}: not JSON: {error}") from error
    if canonical != data:
        raise EvidenceError(f"{shown}: altered: not the bytes that the harness writes")
    _check_schema(document, shown)
    unsealed = copy.deepcopy(document)
    claimed = unsealed["predicate"].pop("digest")
    found = digest(unsealed)
    if found != claimed:
        raise EvidenceError(f"{shown}: altered: its digest says {claimed}, its content {found}")
    return Evidence.model_validate(document)


def _check_schema(document: Any, shown: str) -> None:
    error = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if error is not None:
        raise EvidenceError(f"{shown}: {error.json_path}: {error.message:.200}")


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that a kill at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
