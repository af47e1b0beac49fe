"""The command `distill precompute`: a teacher's most probable tokens, once and for all.

Knows options and what is told; everything else is done by the modules that it calls.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn, TaskProgressColumn

from engine.cli_options import Device, JsonFile, RouteName, check_json, open_route, put, to_json
from engine.cli_progress import progress
from engine.distill.data import HELD_OUT, TRAIN, open_data
from engine.distill.precompute import precompute as write_cache
from engine.distill.precompute import recipe_of
from engine.distill.teachers import open_teacher
from engine.distill.topk import Recipe
from engine.errors import EngineError

EPILOG = """Examples:

python -m engine distill precompute --teacher big.gguf --data corpus --out cache

python -m engine distill precompute --teacher big.gguf --data corpus --out cache --dry-run

A run that was stopped goes on with the same command. Exit codes: 0 done, 2 bad input."""


def precompute(
    teacher: Annotated[str, typer.Option(metavar="MODEL", help="A GGUF, a HF folder, `fixture`.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="A corpus, or a folder of shards.")],
    out: Annotated[Path, typer.Option(metavar="CACHE", help="The folder to write or finish.")],
    seq_len: Annotated[int, typer.Option(min=1, help="Tokens of a window.")] = 512,
    top_k: Annotated[int, typer.Option(min=1, help="Tokens kept at each position.")] = 64,
    split: Annotated[str, typer.Option(metavar=f"{TRAIN}|{HELD_OUT}", help="Of the data.")] = TRAIN,
    held_out: Annotated[
        float, typer.Option(help="Part that is held out, where the folder is no corpus.")
    ] = 0.05,
    batch: Annotated[int, typer.Option(min=1, help="Windows at a time.")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say its size.")] = False,
    json_to: JsonFile = None,
    device: Device = "cpu",
    route: RouteName = "auto",
) -> None:
    """Keep a teacher's K most probable tokens at every position, for runs to learn from."""
    check_json(json_to)
    if split not in (TRAIN, HELD_OUT):
        raise EngineError(f"--split: found {split!r}, expected {TRAIN} or {HELD_OUT}")
    open_route(route, device)
    judge = open_teacher(teacher, device=device, route=route)
    halves = open_data(data, seq_len, vocabulary_size=judge.vocabulary_size, held_out=held_out)
    source = halves[split == HELD_OUT]
    recipe = recipe_of(judge, source, top_k)
    print(_size(out, recipe), file=sys.stderr, flush=True)
    if not dry_run:
        columns = (MofNCompleteColumn(), TaskProgressColumn(show_speed=True))
        with progress("windows", len(source), *columns) as advance:
            write_cache(judge, source, out, k=top_k, batch=batch, progress=advance)
    told = {**asdict(recipe), "bytes": recipe.bytes(), "folder": str(out), "written": not dry_run}
    put(json_to, to_json(told), _table(out, recipe, dry_run))


def _size(out: Path, recipe: Recipe) -> str:
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    return f"size: {recipe.bytes():,} bytes of shards, of {free:,} that are free"


def _table(out: Path, recipe: Recipe, dry_run: bool) -> Iterator[str]:
    yield f"{out}: {'not written' if dry_run else 'written'}, {recipe.bytes():,} bytes of shards"
    yield f"windows   {recipe.windows:,} of {recipe.seq_len:,} tokens"
    yield f"kept      {recipe.k:,} of {recipe.vocabulary_size:,} tokens at each position"
    yield f"teacher   {recipe.teacher}"
    yield f"data      {recipe.data}"
