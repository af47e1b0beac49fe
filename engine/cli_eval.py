"""The command `eval`: what a model is worth. Knows options, progress and exit codes."""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn

from engine.checkpoint import open_checkpoint
from engine.cli_options import (
    Device,
    JsonFile,
    RouteName,
    check_json,
    open_route,
    put,
    require_permission,
    to_json,
)
from engine.cli_progress import Rate, progress
from engine.errors import EngineError, FormatError, naming
from engine.evaluation.completing import Completer, Drawing
from engine.evaluation.humaneval import Complete, Score, run, score
from engine.evaluation.ledger import Ledger
from engine.evaluation.problems import read_lines, read_problems
from engine.evaluation.sandbox import Limits, Sandbox
from engine.inspection import files_of
from engine.model import Model
from engine.tokenizer import Tokenizer

app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Measure what a model is worth."
)
EPILOG = (
    "Example: python -m engine eval humaneval --problems HumanEval.jsonl.gz --model student.gguf "
    "--samples 20 --temperature 0.2 --out rows.jsonl --allow-code-execution"
)


@app.callback()
def group() -> None:
    """Measure what a model is worth."""


@app.command(epilog=EPILOG)
def humaneval(
    problems: Annotated[Path, typer.Option(help="HumanEval's file, .jsonl or .jsonl.gz.")],
    model: Annotated[Path | None, typer.Option(help="A GGUF file or a HF folder.")] = None,
    completions: Annotated[
        Path | None, typer.Option(help="Instead of a model: JSON lines of task_id, completion.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Completions of each problem.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the most probable mass.")] = 1.0,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a completion at most.")] = 512,
    seed: Annotated[int, typer.Option(help="Makes the drawing repeatable.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Keep every sample and verdict there, and resume from it.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for each candidate.")] = 3.0,
    memory: Annotated[int, typer.Option(min=64, help="MiB for each candidate.")] = 1024,
    workers: Annotated[int | None, typer.Option(min=1, help="Candidates at once.")] = None,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Run what the model writes.")
    ] = False,
    weak_sandbox: Annotated[
        bool, typer.Option("--weak-sandbox", help="Even where files cannot be held off.")
    ] = False,
    json_to: JsonFile = None,
    device: Device = "cpu",
    route: RouteName = "auto",
) -> None:
    """Complete HumanEval's problems, run the answers in a sandbox, and score them.

    Ctrl-C keeps what is in --out; the same command goes on from there. The problems' own tests run
    as this user: take the file from where you trust it.
    """
    check_json(json_to)
    require_permission("eval humaneval", allow_code_execution)
    source = model or completions
    if source is None or (model and completions):
        raise EngineError("--model, --completions: found both or neither, expected one of them")
    drawing = Drawing(samples, temperature, top_p, max_tokens, seed)
    limits = Limits(timeout, memory << 20)
    listed = read_problems(problems)
    about: dict[str, Any] = {**vars(drawing), "problems": digest([problems]), "timeout": timeout}
    about |= {"memory": memory, "completions": digest(files_of(source))}
    ledger = Ledger(out, about)
    with Sandbox.open(limits, weak=weak_sandbox) as sandbox:
        typer.echo(f"sandbox: {sandbox.statement}", err=True)
        if completions:
            complete = read_completions(completions)
        else:
            complete = open_completer(source, drawing, device, route)
        atonce = workers or os.cpu_count() or 1
        judged = run(listed, samples, complete, sandbox, ledger, workers=atonce)
        whole = _watch(judged, len(listed) * samples)
    found = score(listed, samples, ledger)
    put(json_to, to_json({**found.to_dict(), "run": about}), _table(found))
    if not whole:
        typer.echo("interrupted: the same command with --out goes on from there", err=True)
        raise typer.Exit(130)


def _watch(source: Generator[int, None, None], total: int) -> bool:
    """Whether it ended before an interrupt."""
    try:
        with closing(source), progress("judged", total, MofNCompleteColumn(), Rate()) as advance:
            for done in source:
                advance(done, total)
    except KeyboardInterrupt:
        return False
    return True


def open_completer(path: Path, drawing: Drawing, device: str, route: str) -> Complete:
    """The model at `path`, to complete with."""
    file = open_checkpoint(path)
    with naming(path):
        tokenizer = Tokenizer.from_metadata(file.metadata)
    model = Model.from_checkpoint(file, device, open_route(route, device).route)
    return Completer(model, tokenizer, drawing)


def read_completions(path: Path) -> Complete:
    """Completions that were made elsewhere; the n-th of a problem is its sample n."""
    found: dict[str, list[str]] = {}
    for where, row in read_lines(path):
        texts = row.get("task_id"), row.get("completion")
        if not all(isinstance(each, str) for each in texts):
            raise FormatError(f"{where}: found {texts!r:.60}, expected task_id and completion")
        found.setdefault(row["task_id"], []).append(row["completion"])

    def complete(name: str, prompt: str, sample: int) -> str:
        if sample >= len(found.get(name, ())):
            raise FormatError(
                f"{path}: found {len(found.get(name, ()))} completions of {name}, "
                f"expected at least {sample + 1}"
            )
        return found[name][sample]

    return complete


def digest(paths: list[Path]) -> str:
    """Sha256 of each file, so that a run goes on with the same files only."""
    made = []
    for path in sorted(paths):
        try:
            with path.open("rb") as file:
                made.append(file_digest(file, "sha256").hexdigest())
        except OSError as error:
            raise FormatError(f"{path}: found {error.strerror}, expected a file") from error
    return " ".join(made)


def _table(found: Score) -> Iterator[str]:
    of = found.problems * found.samples
    yield f"{found.problems} problems × {found.samples}: {found.passed} passed of {of}"
    if not found.complete:
        yield f"incomplete: {found.judged} of {of} judged; no score until all are"
    for each in found.estimates:
        interval = f"95 %: {each.low:.1%} to {each.high:.1%}"
        yield f"pass@{each.k:<4} {each.value:6.1%}   ({interval})"
    for reason, count in found.reasons.items():
        yield f"{count:6} × {reason}"
