"""The `tollens` command: checks, shows and verifies; pytest, not this command, runs falsifiers.

Exit codes: 0 it holds, 1 it does not, 2 bad usage or nothing found.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tollens import contract as contract_file
from tollens import evidence as evidence_file
from tollens.bounds import show
from tollens.cli_options import (
    AsFormat,
    Format,
    Paths,
    fail,
    given_contracts,
    print_json,
    print_lines,
)
from tollens.contract import Falsifier, Loaded, load
from tollens.difference import compare, given, needed
from tollens.errors import ContractError, ProjectError, TollensError
from tollens.lint import Inspection, check
from tollens.project import Project, find_project, load_all, read_all
from tollens.rules import RULES
from tollens.scaffold import write_scaffold
from tollens.source import parse
from tollens.standing import Standing
from tollens.verdicts import denominator
from tollens.verification import verify as verify_evidence

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=__doc__,
)


@app.command("check")
def check_command(paths: Paths = None, form: AsFormat = Format.TEXT) -> None:
    """Check contracts: schema, bindings, saboteurs, evidence and its freshness.

    \b
    Examples:
      tollens check
      tollens check contracts/moe-router-v1.yaml --format json
    """
    project, files = given_contracts(paths)
    inspection = Inspection(project)
    loaded, findings = read_all(project, files)
    findings += check(inspection, loaded, whole=not paths and not findings)
    errors = sum(finding.severity == "error" for finding in findings)
    if form is Format.JSON:
        print_json({"findings": [finding.as_json() for finding in findings]})
    else:
        print_lines(map(str, findings))
        warnings = len(findings) - errors
        print_lines([f"{len(files)} contract(s): {errors} error(s), {warnings} warning(s)"])
    raise typer.Exit(1 if errors else 0)


@app.command()
def status(paths: Paths = None, form: AsFormat = Format.TEXT) -> None:
    """Show where each contract stands today: status, discharges, gates.

    Exits with 1 where a contract is FALSIFIED; `tollens check` finds everything else.

    \b
    Examples:
      tollens status
      tollens status contracts/chat-template-v1.yaml --format json
    """
    project, files = given_contracts(paths)
    inspection = Inspection(project)
    standings = [inspection.standing(each) for each in load_all(project, files)]
    if form is Format.JSON:
        print_json({"contracts": [_standing_as_json(each) for each in standings]})
    else:
        print_lines(line for each in standings for line in _standing_lines(each))
    raise typer.Exit(1 if any(each.status == "FALSIFIED" for each in standings) else 0)


@app.command()
def verify(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="evidence files or folders; all if omitted")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="follow the chain of evidence through git")
    ] = False,
    form: AsFormat = Format.TEXT,
) -> None:
    """Verify evidence: schema, digests, attachments, and that the status follows from it.

    \b
    Examples:
      tollens verify
      tollens verify evidence/moe-router-v1/evidence.json --history
    """
    project = find_project(Path.cwd())
    files = _evidence_paths(project, paths)
    loaded = {each.path.stem: each for each in load_all(project, given_contracts(None)[1])}
    results = [
        verify_evidence(project, path, loaded.get(path.parent.name), history) for path in files
    ]
    if form is Format.JSON:
        print_json({"evidence": [{**vars(each), "holds": each.holds} for each in results]})
    else:
        for each in results:
            print_lines([f"{'holds' if each.holds else 'FAILS':<6} {each.path}"])
            print_lines(f"       {problem}" for problem in each.problems)
            print_lines(f"       note: {note}" for note in each.notes)
        held = sum(each.holds for each in results)
        print_lines([f"{held} of {len(results)} evidence files hold"])
    raise typer.Exit(0 if all(each.holds for each in results) else 1)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="the id of a falsifier or gate, or a rule of check")],
    form: AsFormat = Format.TEXT,
) -> None:
    """Explain a falsifier, a gate or a rule: what it says, where it stands, how to run it.

    \b
    Examples:
      tollens explain FALSIFY-MOE-ROUTER-003
      tollens explain stale
    """
    if name in RULES:
        facts: dict[str, Any] = {"rule": name, "says": RULES[name][0], "do": RULES[name][1]}
    else:
        facts = _explain_id(name)
    if form is Format.JSON:
        print_json(facts)
    else:
        print_lines(_fact_lines(facts))


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="a contract, or REVISION:PATH in git")],
    new: Annotated[str, typer.Argument(help="a contract, or REVISION:PATH in git")],
    form: AsFormat = Format.TEXT,
) -> None:
    """Show what changed in the claims and the version bump that it needs.

    Exits with 1 where the new version is lower than the change needs.

    \b
    Examples:
      tollens diff HEAD:contracts/moe-router-v1.yaml contracts/moe-router-v1.yaml
    """
    before, after = _revision(old).contract, _revision(new).contract
    changes = compare(before, after)
    need, gave = needed(changes), given(before, after)
    if form is Format.JSON:
        rows = [{"key": c.key, "what": c.what, "bump": c.bump.name.lower()} for c in changes]
        print_json({"changes": rows, "needs": need.name.lower(), "given": gave.name.lower()})
    else:
        print_lines(map(str, changes) if changes else ["no claim changed"])
        versions = f"{before.version} -> {after.version}"
        print_lines([f"needs {need.name.lower()}; the version {versions} gives {gave.name.lower()}"])
    raise typer.Exit(0 if gave >= need else 1)


@app.command()
def new(
    contract_id: Annotated[str, typer.Argument(help="the contract's id, like tokenizer-v1")],
    subject: Annotated[str, typer.Option(help="the module under test, like engine.tokenizer")],
    form: AsFormat = Format.TEXT,
) -> None:
    """Start a contract: the YAML, a test that fails until it measures, and a saboteur.

    \b
    Examples:
      tollens new tokenizer-v1 --subject engine.tokenizer
    """
    project = find_project(Path.cwd())
    written = [project.shown(path) for path in write_scaffold(project, contract_id, subject)]
    if form is Format.JSON:
        print_json({"written": written})
    else:
        print_lines(f"wrote {path}" for path in written)


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(help="contract or evidence")] = "contract",
    form: AsFormat = Format.JSON,
) -> None:
    """Print a JSON Schema (draft 2020-12), for editors and other programs.

    \b
    Examples:
      tollens schema > contract.schema.json
      tollens schema evidence
    """
    schemas = {"contract": contract_file.json_schema, "evidence": evidence_file.json_schema}
    if kind not in schemas:
        fail(f"no schema of {kind!r}; expected one of {', '.join(schemas)}", 2)
    print_json(schemas[kind]())


@app.callback(invoke_without_command=True)
def version(
    show_version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if show_version:
        print_lines([f"tollens {importlib.metadata.version('tollens')}"])
        raise typer.Exit


def main() -> None:
    """Run the command; an error of the harness is one message on stderr, not a traceback."""
    try:
        app()
    except ContractError as error:
        fail(str(error), 1)
    except ProjectError as error:
        fail(f"tollens: {error}", 2)
    except TollensError as error:
        fail(f"tollens: {error}", 1)


def _evidence_paths(project: Project, paths: list[Path] | None) -> list[Path]:
    found: list[Path] = []
    for path in paths or [project.root / project.evidence]:
        found += sorted(path.glob("*/evidence.json")) if path.is_dir() else [path]
    if not found:
        raise ProjectError("no evidence found; record some with `pytest --contract contracts`")
    return [path.resolve() for path in found]


def _standing_lines(standing: Standing) -> Iterator[str]:
    contract = standing.contract
    verdicts = [each.verdict for each in standing.falsifiers]
    yield f"{contract.id} {contract.version}  {standing.status}"
    yield f"  {denominator(verdicts)}"
    for each in standing.falsifiers:
        stale = "  stale" if each.stale and not each.results else ""
        yield f"  {each.discharge:<23}  {each.falsifier.id}{stale}"
    for gate, passed in standing.gates.items():
        yield f"  {'passed' if passed else 'not passed':<23}  {gate}"


def _standing_as_json(standing: Standing) -> dict[str, Any]:
    return {
        "id": standing.contract.id,
        "version": standing.contract.version,
        "status": standing.status,
        "gates": standing.gates,
        "falsifiers": [
            {
                "id": each.falsifier.id,
                "verdict": each.verdict,
                "discharge": each.discharge,
                "level": each.level,
                "stale": sorted(each.stale),
                "kills": {name: kill.outcome for name, kill in each.kills.items()},
            }
            for each in standing.falsifiers
        ],
    }


def _explain_id(name: str) -> dict[str, Any]:
    project, files = given_contracts(None)
    inspection = Inspection(project)
    for loaded in load_all(project, files):
        for falsifier in loaded.contract.falsifiers:
            if falsifier.id == name:
                return _explain_falsifier(inspection, loaded, falsifier)
        for gate in loaded.contract.gates:
            if gate.id == name:
                passed = inspection.standing(loaded).gates[name]
                return {**gate.model_dump(), "contract": loaded.source.path, "passed": passed}
    raise ProjectError(f"{name} is no falsifier, gate or rule; rules: {', '.join(RULES)}")


def _explain_falsifier(
    inspection: Inspection, loaded: Loaded, falsifier: Falsifier
) -> dict[str, Any]:
    standing = inspection.standing(loaded)[falsifier.id]
    index = loaded.contract.falsifiers.index(falsifier)
    tests = [f"{b.path}::{b.name}" for b in inspection.bindings if b.falsifier == falsifier.id]
    observed = {
        f"{name} ({level})": f"{show(measure.value)} {measure.bound}"
        for level, result in standing.results.items()
        for name, measure in result.measures.items()
    }
    saboteurs = {
        name: inspection.saboteurs[name].summary if name in inspection.saboteurs else "undefined"
        for name in falsifier.kills
    }
    return {
        "id": falsifier.id,
        "contract": f"{loaded.source.path}:{loaded.source.line(('falsifiers', index))}",
        "rule": falsifier.rule,
        "prediction": falsifier.prediction,
        "bounds": {name: str(measure) for name, measure in falsifier.measures.items()},
        "needs": [str(need) for need in falsifier.needs],
        "level": falsifier.level,
        "verdict": standing.verdict,
        "discharge": standing.discharge,
        "reasons": [each.reason for each in standing.results.values() if each.reason],
        "observed": observed,
        "tests": tests,
        "saboteurs": saboteurs,
        "if it fails": falsifier.if_fails,
        "run": f"pytest --contract {loaded.source.path} {' '.join(tests)}".strip(),
    }


def _fact_lines(facts: dict[str, Any]) -> Iterator[str]:
    for name, value in facts.items():
        if isinstance(value, dict):
            yield f"{name}:"
            yield from (f"  {key}: {each}" for key, each in value.items())
        elif isinstance(value, list):
            yield f"{name}: {', '.join(value) or 'none'}"
        else:
            yield f"{name}: {value}"


def _revision(name: str) -> Loaded:
    """A contract from a path, or from `REVISION:PATH` in git."""
    if Path(name).exists():
        return load(Path(name))
    revision, _, path = name.partition(":")
    done = subprocess.run(
        ["git", "show", f"{revision}:./{path}"], capture_output=True, text=True, check=False
    )
    if not path or done.returncode != 0:
        raise ProjectError(f"{name}: no such file, nor REVISION:PATH in git")
    return contract_file.validate(Path(path), parse(done.stdout, name))
