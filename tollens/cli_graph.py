"""`tollens graph`: which contract rests on which, and where each stands."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tollens import graph_forms, unbound
from tollens.cli_options import Paths, given_contracts, json_text, print_lines, write_text
from tollens.graph import Graph
from tollens.graph import graph as graph_of
from tollens.inspection import Inspection
from tollens.project import load_together


class GraphFormat(StrEnum):
    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"
    SVG = "svg"
    JSON = "json"


def graph(
    paths: Paths = None,
    form: Annotated[
        GraphFormat, typer.Option("--format", help="text of 80 columns, or what programs draw")
    ] = GraphFormat.TEXT,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="where to write; else standard output")
    ] = None,
) -> None:
    """Draw which contract rests on which, with their statuses, foundations first.

    \b
    Examples:
      tollens graph
      tollens graph --format svg -o contracts.svg
      tollens graph --format mermaid
    """
    project, files = given_contracts(paths)
    inspection = Inspection(project)
    contracts = load_together(project, files)
    found = graph_of(map(inspection.standing, contracts.loaded))
    if contracts.foreign:
        typer.echo(f"not drawn{unbound.beside(contracts.foreign)}", err=True)
    text = drawn(found, form)
    if out:
        write_text(out, f"{text}\n")
        print_lines([f"{out}: {len(found.standings)} contract(s)"])
    else:
        print_lines([text])


def drawn(found: Graph, form: GraphFormat) -> str:
    if form is GraphFormat.JSON:
        return json_text(graph_forms.as_json(found))
    if form is GraphFormat.SVG:
        return graph_forms.svg(found)
    lines = {"text": graph_forms.text, "mermaid": graph_forms.mermaid, "dot": graph_forms.dot}
    return "\n".join(lines[form](found))
