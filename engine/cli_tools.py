"""The commands `inspect` and `fixture`, which look at models and make them.

Knows options and exit codes; everything else is done by the modules that it calls.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import DownloadColumn, TransferSpeedColumn

from engine.checkpoint import open_checkpoint
from engine.cli_options import JsonFile, ModelPath, check_json, put, to_json
from engine.cli_progress import progress
from engine.config import ARCHITECTURES
from engine.errors import EngineError
from engine.fixture import SHAPES, FixtureShape, write_fixture
from engine.inspection import inspect as inspect_model
from engine.mixes import MIXES
from engine.tables import inspection_text

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog="Example: python -m engine inspect tiny.gguf --tensors")
def inspect(
    model: ModelPath,
    tensors: Annotated[bool, typer.Option("--tensors", help="Every tensor on its line.")] = False,
    json_to: JsonFile = None,
) -> None:
    """Show what is in a model file: sizes, types, tensors, tokenizer, template, what is amiss."""
    check_json(json_to)
    found = inspect_model(open_checkpoint(model))
    put(json_to, to_json(found.to_dict()), inspection_text(found, every_tensor=tensors))


@app.command(
    epilog="Example: python -m engine fixture slice.gguf --shape qwen3-30b-a3b --layers 12"
)
def fixture(
    out: Annotated[Path, typer.Argument(metavar="OUT.gguf", help="The file to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights.")] = 0,
    architecture: Annotated[
        str, typer.Option(metavar="|".join(ARCHITECTURES), help="The family.")
    ] = "qwen3moe",
    shape: Annotated[str, typer.Option(metavar="|".join(SHAPES), help="The sizes.")] = "tiny",
    layers: Annotated[int | None, typer.Option(min=1, help="Instead of the shape's.")] = None,
    mix: Annotated[
        str | None, typer.Option(metavar="|".join(MIXES), help="The types; else Q4_K_M.")
    ] = None,
) -> None:
    """Write a real model with random weights; the same seed gives the same bytes."""
    sizes = _shape(shape, architecture)
    sizes = replace(sizes, layers=layers or sizes.layers, mix=mix or sizes.mix)
    columns = (DownloadColumn(), TransferSpeedColumn())
    with progress(f"writing {out.name}", None, *columns) as advance:
        path = write_fixture(out, seed, architecture=architecture, shape=sizes, progress=advance)
    print(f"{path}: {path.stat().st_size} bytes")


def _shape(name: str, architecture: str) -> FixtureShape:
    if name not in SHAPES:
        raise EngineError(f"--shape: found {name!r}, expected one of {', '.join(SHAPES)}")
    shape = SHAPES[name]
    whole = architecture == "qwen2"  # whose heads are hidden / heads wide by definition
    return replace(shape, head_dim=shape.hidden // shape.heads) if whole else shape
