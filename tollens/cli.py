"""The `tollens` command: checks, shows and verifies; pytest, not this command, runs falsifiers.

Exit codes: 0 it holds, 1 it does not, 2 bad usage or nothing found.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tollens import contract as contract_file
from tollens import evidence as evidence_file
from tollens import unbound
from tollens.bounds import show
from tollens.cli_check import check_command
from tollens.cli_diff import diff
from tollens.cli_graph import graph
from tollens.cli_import import import_command
from tollens.cli_options import (
    AsFormat,
    Format,
    evidence_paths,
    fail,
    given_contracts,
    print_json,
    print_lines,
    uncollected,
)
from tollens.cli_report import report
from tollens.cli_sign import export, sign
from tollens.cli_status import status
from tollens.contract import Falsifier, Loaded
from tollens.errors import ContractError, ProjectError, TollensError
from tollens.inspection import Inspection
from tollens.project import find_project, load_contracts
from tollens.rule_page import lines as example_lines
from tollens.rule_page import page
from tollens.rules import RULES
from tollens.scaffold import write_scaffold
from tollens.signing import public_keys
from tollens.verification import verify as verify_evidence

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=__doc__,
)


app.command("check")(check_command)
app.command()(status)
app.command()(report)
app.command()(graph)
app.command()(diff)
app.command()(sign)
app.command()(export)
app.command("import")(import_command)


@app.command()
def verify(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="evidence files or folders; all if omitted")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="follow the chain of evidence through git")
    ] = False,
    keys: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="public key of a signer to trust; repeatable"),
    ] = None,
    form: AsFormat = Format.TEXT,
) -> None:
    """Verify evidence: schema, digests, attachments, and that the status follows from it.

    With --key, what no such key has signed does not hold either.

    \b
    Examples:
      tollens verify
      tollens verify --key key.pub.pem
      tollens verify evidence/moe-router-v1/evidence.json --history
    """
    trusted = public_keys(keys) if keys else None
    project = find_project(Path.cwd())
    files = evidence_paths(project, paths)
    known = load_contracts(project, given_contracts(None)[1]).loaded
    loaded = {each.path.stem: each for each in known}
    results = [
        verify_evidence(project, path, loaded.get(path.parent.name), history, trusted)
        for path in files
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
    name: Annotated[
        str, typer.Argument(help="the id of a falsifier or gate, or a rule of check")
    ] = "",
    rules: Annotated[bool, typer.Option("--rules", help="all rules, as Markdown")] = False,
    form: AsFormat = Format.TEXT,
) -> None:
    """Explain a falsifier, a gate or a rule: what it says, where it stands, how to run it.

    \b
    Examples:
      tollens explain FALSIFY-MOE-ROUTER-003
      tollens explain stale
      tollens explain --rules > docs/rules.md
    """
    if rules == bool(name):
        raise ProjectError("expected one of an ID, a RULE and --rules")
    if rules:
        facts: dict[str, Any] = {"rules": {rule: _explain_rule(rule) for rule in RULES}}
    elif name in RULES:
        facts = _explain_rule(name)
    else:
        facts = _explain_id(name)
    if form is Format.JSON:
        print_json(facts)
    elif rules:
        print_lines([page().rstrip()])
    else:
        print_lines(_fact_lines(facts))


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
        with uncollected():
            app()
    except ContractError as error:
        fail(str(error), 1)
    except ProjectError as error:
        fail(f"tollens: {error}", 2)
    except TollensError as error:
        fail(f"tollens: {error}", 1)
    except OSError as error:
        where = error.filename2 or error.filename or "the system"
        fail(f"tollens: {where}: {error.strerror}; expected to read or write there", 2)


def _explain_rule(name: str) -> dict[str, Any]:
    says, do = RULES[name]
    example = "\n  ".join(["", *example_lines(name)])
    return {"rule": name, "says": says, "do": do, "example": example}


def _explain_id(name: str) -> dict[str, Any]:
    project, files = given_contracts(None)
    inspection = Inspection(project)
    read = load_contracts(project, files)
    for loaded in read.loaded:
        for falsifier in loaded.contract.falsifiers:
            if falsifier.id == name:
                return _explain_falsifier(inspection, loaded, falsifier)
        for gate in loaded.contract.gates:
            if gate.id == name:
                passed = inspection.standing(loaded).gates[name]
                return {**gate.model_dump(), "contract": loaded.source.path, "passed": passed}
    for foreign in read.foreign:
        for each in foreign.falsifiers:
            if each.id == name:
                return unbound.facts(foreign, each)
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
