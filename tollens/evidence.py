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
    sha256: Sha256


class Subject(Strict):
    name: str
    digest: DigestSet


class MeasureResult(Strict):
    """A measure as observed; a non-finite value is written as text (`nan`, `inf`, `-inf`)."""

    value: bool | int | float | str
    bound: str
    unit: str
    held: bool
    margin: float | None
    interval: list[float] | None = None
    method: str | None = None
    count: int | None = None


class ClaimDigests(Strict):
    claim: Sha256
    subject: Sha256
    test: Sha256

    def same(self, other: Digests) -> bool:
        return self.model_dump() == other.as_json()


class KillDigests(ClaimDigests):
    saboteur: Sha256

    def without_saboteur(self) -> ClaimDigests:
        return ClaimDigests(**self.model_dump(exclude={"saboteur"}))


class Attachment(Strict):
    name: str
    path: str
    sha256: Sha256


class Artifact(Strict):
    """The named real thing that a run observed."""

    name: str
    sha256: Sha256
    bytes: int


class Result(Strict):
    """What the freshest run at one level says of one falsifier."""

    falsifier: str
    level: Level
    verdict: Verdict
    measures: dict[str, MeasureResult]
    reason: str
    tests: list[str]
    digests: ClaimDigests
    seconds: float
    run: str
    attachments: list[Attachment] = []
    artifact: Artifact | None = None
    reproduce: str

    @property
    def key(self) -> tuple[str, str]:
        return self.falsifier, self.level


class KillResult(Strict):
    """What became of one saboteur under one falsifier."""

    falsifier: str
    saboteur: str
    outcome: Kill
    reason: str
    digests: KillDigests
    run: str

    @property
    def key(self) -> tuple[str, str]:
        return self.falsifier, self.saboteur


class Host(Strict):
    cpu: str
    cores: int
    memory_gib: float
    gpu: str | None
    driver: str | None
    system: str


class Run(Strict):
    """One pytest run: when, by which command, on which commit, host, packages and sources."""

    start: str
    end: str
    command: str
    commit: str | None
    dirty: bool
    host: Host
    python: str
    packages: dict[str, str]
    seed: int
    sources: dict[str, Sha256]


class About(Strict):
    id: str
    version: str
    claims: Sha256


class Predicate(Strict):
    contract: About
    results: list[Result]
    runs: dict[str, Run]
    severity: list[KillResult]
    previous: Sha256 | None
    digest: Sha256


class Evidence(Strict):
    """One evidence file."""

    type_: Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]
    subject: Annotated[list[Subject], Field(min_length=1)]
    predicateType: Literal["urn:tollens:evidence:v1"]
    predicate: Predicate


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
