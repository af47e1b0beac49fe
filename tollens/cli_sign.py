"""`tollens sign` and `tollens export`: evidence with a signature, and in in-toto's own terms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tollens.attestation import statement
from tollens.cli_options import AsFormat, Format, evidence_paths, print_json, print_lines
from tollens.contract import load
from tollens.errors import ProjectError
from tollens.evidence import read
from tollens.outcomes import sha256_of
from tollens.project import find_project
from tollens.signing import private_key
from tollens.signing import sign as sign_evidence


def sign(
    key: Annotated[Path, typer.Option(metavar="FILE", help="ed25519 private key, PEM")],
    paths: Annotated[
        list[Path] | None, typer.Argument(help="evidence files or folders; all if omitted")
    ] = None,
    form: AsFormat = Format.TEXT,
) -> None:
    """Sign evidence: write evidence.dsse.json, a DSSE envelope, beside each file.

    `tollens verify --key PUBLIC` then refuses what is unsigned, altered, or signed by another key.
    Needs the extra `sign`.

    \b
    Examples:
      openssl genpkey -algorithm ed25519 -out key.pem
      openssl pkey -in key.pem -pubout -out key.pub.pem
      tollens sign --key key.pem
      tollens verify --key key.pub.pem
    """
    secret = private_key(key)
    project = find_project(Path.cwd())
    written = [
        project.shown(sign_evidence(path, project.shown(path), secret))
        for path in evidence_paths(project, paths)
    ]
    if form is Format.JSON:
        print_json({"written": written})
    else:
        print_lines(f"signed {path}" for path in written)


def export(
    path: Annotated[Path, typer.Argument(help="an evidence file")],
    url: Annotated[str | None, typer.Option("--url", help="of the test run, if it has one")] = None,
) -> None:
    """Print evidence as an in-toto attestation of type test-result v0.1.

    Corroborated falsifiers are passedTests; blocked ones, and those without a result, warnedTests.

    \b
    Examples:
      tollens export evidence/moe-router-v1/evidence.json > test-result.json
    """
    project = find_project(path.absolute())
    evidence = read(path, project.shown(path)) if path.is_file() else None
    if evidence is None:
        raise ProjectError(f"{path}: no such file; expected an evidence file")
    contracts = {each.stem: each for each in project.contract_files()}
    name = evidence.predicate.contract.id
    if name not in contracts:
        raise ProjectError(f"{path}: evidence of {name}, of which there is no contract")
    loaded = load(contracts[name], project.shown(contracts[name]))
    files = [(project.shown(each), sha256_of(each)) for each in (loaded.path, path)]
    print_json(statement(loaded, evidence, files, url))
