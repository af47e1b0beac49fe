"""`tollens diff`: what changed in the claims of a contract, and the version bump that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tollens.cli_options import AsFormat, Format, print_json, print_lines
from tollens.contract import Loaded, load, validate
from tollens.difference import compare, given, needed
from tollens.digests import git
from tollens.errors import ProjectError
from tollens.source import parse
from tollens.wrapping import wrap


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
        told = (line for each in changes for line in wrap(str(each), rest=" " * 7))
        print_lines(told if changes else ["no claim changed"])
        versions = f"{before.version} -> {after.version}"
        print_lines(
            [f"needs {need.name.lower()}; the version {versions} gives {gave.name.lower()}"]
        )
    raise typer.Exit(0 if gave >= need else 1)


def _revision(name: str) -> Loaded:
    """A contract from a path, or from `REVISION:PATH` in git."""
    if Path(name).exists():
        return load(Path(name))
    revision, _, path = name.partition(":")
    text = git(Path.cwd(), "show", "--end-of-options", f"{revision}:./{path}") if path else None
    if text is None:
        raise ProjectError(f"{name}: no such file, nor REVISION:PATH in git")
    return validate(Path(path), parse(text, name))
