"""`tollens import`: writes a contract of ours from one in the provable-contracts dialect."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from tollens.cli_options import AsFormat, Format, print_json, print_lines
from tollens.contract import SLUG, validate
from tollens.dialect import NAME, Foreign, findings, is_foreign
from tollens.errors import ContractError, ProjectError
from tollens.evidence import write_atomically
from tollens.importing import Imported, convert
from tollens.project import Project, find_project
from tollens.scaffold import put_schema, refuse_existing, schema_for
from tollens.source import parse, read_text
from tollens.wrapping import wrap


def import_command(
    file: Annotated[Path, typer.Argument(help=f"a contract in the {NAME} dialect")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="the file to write; by default in contracts"),
    ] = None,
    subject: Annotated[
        str, typer.Option(help="the module under test; FILE itself stands in for it if omitted")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="write over a file that exists")] = False,
    form: AsFormat = Format.TEXT,
) -> None:
    """Write a contract from one in the provable-contracts dialect; its claims stay unbound.

    What has no key here is carried as text and listed. Exits with 1 where a value could not be
    carried, or where FILE is no valid contract in its own dialect: then nothing is written.

    \b
    Examples:
      tollens import their/softmax-v1.yaml
      tollens import their/softmax-v1.yaml -o contracts/softmax-v1.yaml --subject engine.softmax
    """
    project = find_project(Path.cwd())
    foreign = _read(file, project)
    target = (out or project.root / project.contracts / f"{_slug(file.stem)}.yaml").absolute()
    if not re.fullmatch(SLUG, target.stem):
        raise ProjectError(f"{target.name}: the id {target.stem!r}; expected lower-case words")
    if not force:
        refuse_existing(project, [target])
    named = subject or _stand_in(project, file, target)
    known = {path.stem for path in project.contract_files()} - {target.stem}
    imported = convert(foreign, target.stem, [named], known)
    _write(project, target, imported)
    shown = project.shown(target)
    if form is Format.JSON:
        print_json({"written": shown, **_as_json(imported)})
    else:
        print_lines(_lines(shown, imported, subject))
    raise typer.Exit(1 if imported.left_out else 0)


def _read(file: Path, project: Project) -> Foreign:
    """The contract in `file`. Raises ContractError where it is none in its own dialect."""
    shown = project.shown(file)
    if not file.is_file():
        raise ProjectError(f"{shown}: no such file; expected a contract in the {NAME} dialect")
    source = parse(read_text(file, shown), shown)
    if not is_foreign(source.data):
        raise ProjectError(f"{shown}: no contract in the {NAME} dialect; nothing was written")
    foreign = Foreign(file, source)
    wrong = [each for each in findings(foreign) if each.severity == "error"]
    if not foreign.falsifiers:
        wrong.append(source.finding("dialect", (), "no falsifier", "something to refute"))
    if wrong:
        raise ContractError(wrong)
    return foreign


def _slug(stem: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", stem.lower()))


def _stand_in(project: Project, file: Path, target: Path) -> str:
    """The imported file, in the place of the code under test that nobody has named."""
    if file.resolve() == target.resolve():
        raise ProjectError(f"{project.shown(target)} is FILE itself; name the code by --subject")
    return Path(os.path.relpath(file.resolve(), project.root)).as_posix()


def _write(project: Project, target: Path, imported: Imported) -> None:
    """Write what reads back as what was made, or raise ContractError and write nothing."""
    schema, shown = schema_for(target), project.shown(target)
    text = imported.text(schema)
    source = parse(text, shown)
    validate(target, source)
    if source.data != imported.data:
        raise ProjectError(f"{shown}: would not read back as it was written; nothing was written")
    write_atomically(target, text.encode())
    put_schema(target)


def _as_json(imported: Imported) -> dict[str, Any]:
    kinds = ("as_text", "changed", "left_out")
    notes = {kind: [note.as_json() for note in getattr(imported, kind)] for kind in kinds}
    return {**notes, "unbound": [each["id"] for each in imported.data["falsifiers"]]}


def _lines(shown: str, imported: Imported, subject: str) -> Iterator[str]:
    kinds = {"as text": imported.as_text, "changed": imported.changed, "lost": imported.left_out}
    yield f"wrote {shown}"
    for kind, notes in kinds.items():
        for note in notes:
            told = f"{kind:<8} line {note.line}: {note.key} -> {note.became}"
            yield from wrap(told, rest=" " * 9)
    count = len(imported.data["falsifiers"])
    yield f"{count} falsifier(s), none bound: write tests, saboteurs and real measures"
    if not subject:
        yield "the subject is the imported file until you name the code under test"
    yield f"{len(imported.left_out)} value(s) could not be carried"
