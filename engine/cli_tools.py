"""The commands that look at models and make them: `trace`, `inspect`, `bench`, `fixture`.

Knows options, progress bars and exit codes; everything else is done by the modules that it calls.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from engine import bench as benching
from engine import cli_trace
from engine.checkpoint import open_checkpoint
from engine.cli_options import (
    Device,
    JsonFile,
    ModelPath,
    RouteName,
    check_json,
    open_route,
    put,
    to_json,
)
from engine.config import ARCHITECTURES
from engine.errors import EngineError
from engine.fixture import MIXES, SHAPES, FixtureShape, write_fixture
from engine.inspection import inspect as inspect_model
from engine.inspection import size_of
from engine.tables import bench_text, inspection_text

app = typer.Typer()
app.command(epilog=cli_trace.EPILOG)(cli_trace.trace)


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


@app.command(epilog="Example: python -m engine bench tiny.gguf --prompt-tokens 64,256 --runs 3")
def bench(
    model: ModelPath,
    prompt_tokens: Annotated[str, typer.Option(help="Lengths of prompts.")] = "128,512",
    tokens: Annotated[int, typer.Option(help="Tokens to decode after each.")] = 32,
    runs: Annotated[int, typer.Option(help="How often to measure each.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; else as many as torch takes.")
    ] = None,
    json_to: JsonFile = None,
    device: Device = "cpu",
    route: RouteName = "auto",
) -> None:
    """Measure prefill, decode, start and memory; Ctrl-C prints what was measured so far."""
    check_json(json_to)
    plan = benching.Plan(_sizes(prompt_tokens), tokens, runs)
    if threads is not None:
        torch.set_num_threads(threads)
    choice = open_route(route, device)
    loaded, start = benching.start(model, plan, device, choice.route)
    samples: list[benching.Sample] = []
    complete = _collect(benching.samples(loaded, plan), samples, plan)
    report = benching.Report(
        file=str(model),
        bytes=size_of(model),
        architecture=loaded.config.architecture,
        route=choice.reason,
        host=benching.host(),
        start=start,
        plan=plan,
        rates=tuple(benching.rates(samples)),
        peak_bytes=benching.peak_memory(),
        complete=complete,
    )
    put(json_to, to_json(report.to_dict()), bench_text(report))
    raise typer.Exit(0 if complete else 130)


def _collect(
    source: Iterator[benching.Sample], into: list[benching.Sample], plan: benching.Plan
) -> bool:
    """Whether all came, before an interrupt."""
    count = 2 * plan.runs * len(plan.prompt_tokens)
    try:
        with _progress("measuring", count, MofNCompleteColumn()) as advance:
            for done, sample in enumerate(source, start=1):
                into.append(sample)
                advance(done, count)
    except KeyboardInterrupt:
        return False
    return True


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(each) for each in text.split(",")))
    except ValueError as error:
        raise EngineError(
            f"--prompt-tokens: found {text!r:.60}, expected numbers such as 128,512"
        ) from error


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
    with _progress(f"writing {out.name}", None, *columns) as advance:
        path = write_fixture(out, seed, architecture=architecture, shape=sizes, progress=advance)
    print(f"{path}: {path.stat().st_size} bytes")


def _shape(name: str, architecture: str) -> FixtureShape:
    if name not in SHAPES:
        raise EngineError(f"--shape: found {name!r}, expected one of {', '.join(SHAPES)}")
    shape = SHAPES[name]
    whole = architecture == "qwen2"  # whose heads are hidden / heads wide by definition
    return replace(shape, head_dim=shape.hidden // shape.heads) if whole else shape


@contextmanager
def _progress(
    what: str, total: int | None, *columns: ProgressColumn
) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; takes what is done and the whole."""
    shown = (TextColumn("{task.description}"), BarColumn(), *columns, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*shown, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
