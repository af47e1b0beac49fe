"""The command `distill`: a student, a teacher and a corpus to a better student.

Knows options, terminals and exit codes; everything else is done by the modules that it calls.
Exit codes: 0 done, 2 bad input, 130 and 143 stopped by Ctrl-C and SIGTERM, saved.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn, ProgressColumn, Task
from rich.text import Text

from engine import plot
from engine.cli_options import RouteName, speaker, to_json
from engine.cli_progress import progress
from engine.distill import checkpoint
from engine.distill.curves import draw_curves
from engine.distill.journal import DISPATCH, read_metrics
from engine.distill.pace import Pace
from engine.distill.recipe import PRECISIONS, Recipe
from engine.distill.run import Plan, Ready, execute, prepare
from engine.distill.stop import Stop, listening
from engine.distill.workers import SHARDINGS, Workers, joined
from engine.errors import EngineError

CURVES = "curves.png"
DEFAULT = Recipe()
WHERE = ("device", "teacher_device", "route")
EPILOG = """Examples:

python -m engine distill --teacher big.gguf --student small.json --data corpus --out run

python -m engine distill --resume run

torchrun --nproc-per-node 2 -m engine distill --teacher big.gguf --student small.json \
--data corpus --out run --device cuda

python -m engine distill precompute --teacher big.gguf --data corpus --out cache

The student is a Hugging Face folder, or a config.json to start afresh from. RUN/best is the student
with the best held-out loss, RUN/last the newest; both are Hugging Face folders.
Exit codes: 0 done, 2 bad input, 130 or 143 stopped by Ctrl-C or SIGTERM, and saved."""


def train(
    context: typer.Context,
    teacher: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A GGUF, HF folder, cache; `fixture`, `none`."),
    ] = None,
    student: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A HF folder, or a config.json.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="A corpus, a folder of shards, `synthetic`.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="The folder to write.")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on where a run was stopped.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Updates of the student.")] = DEFAULT.steps,
    batch: Annotated[int, typer.Option(help="Windows of a step.")] = DEFAULT.batch,
    seq_len: Annotated[int, typer.Option(help="Tokens of a window.")] = DEFAULT.seq_len,
    accumulate: Annotated[
        int, typer.Option(help="Parts of a batch, one after the other.")
    ] = DEFAULT.accumulate,
    learning_rate: Annotated[float, typer.Option(help="At its peak.")] = DEFAULT.learning_rate,
    warmup: Annotated[int, typer.Option(help="Steps up to the peak.")] = DEFAULT.warmup,
    least: Annotated[float, typer.Option(help="Share of it at the end.")] = DEFAULT.least,
    weight_decay: Annotated[float, typer.Option(help="Of matrices.")] = DEFAULT.weight_decay,
    beta1: Annotated[float, typer.Option(help="AdamW's first.")] = DEFAULT.beta1,
    beta2: Annotated[float, typer.Option(help="AdamW's second.")] = DEFAULT.beta2,
    epsilon: Annotated[float, typer.Option(help="AdamW's.")] = DEFAULT.epsilon,
    clip: Annotated[float, typer.Option(help="Gradient's norm at most; 0: any.")] = DEFAULT.clip,
    temperature: Annotated[float, typer.Option(help="Of both sides.")] = DEFAULT.temperature,
    alpha: Annotated[
        float, typer.Option(help="Weight of the text; 1 - alpha is the teacher's.")
    ] = DEFAULT.alpha,
    precision: Annotated[
        str, typer.Option(metavar="|".join(PRECISIONS), help="Of products.")
    ] = DEFAULT.precision,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = DEFAULT.seed,
    heldout_every: Annotated[int, typer.Option(help="Steps.")] = DEFAULT.heldout_every,
    heldout_windows: Annotated[int, typer.Option(help="At most.")] = DEFAULT.heldout_windows,
    save_every: Annotated[int, typer.Option(help="Steps.")] = DEFAULT.save_every,
    device: Annotated[str, typer.Option(help="The student's: cpu, cuda, cuda:1.")] = "cpu",
    teacher_device: Annotated[str | None, typer.Option(help="Else the student's.")] = None,
    route: RouteName = "auto",
    sharding: Annotated[
        str, typer.Option(metavar="|".join(SHARDINGS), help="Under torchrun.")
    ] = "ddp",
    ahead: Annotated[int, typer.Option(min=0, help="Parts that the teacher is ahead.")] = 2,
    allow_mirror: Annotated[
        bool, typer.Option("--allow-mirror", help="Though the teacher is the student.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look at everything.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Teach a small model what a large one knows."""
    if context.invoked_subcommand is not None:
        return
    run, new = chosen(context)
    plan = new or _as_begun(run, context)
    if not dry_run:
        plot.require_matplotlib()
    count, local = _processes()
    own = f"cuda:{local}" if count > 1 and plan.teacher_device == "cuda" else None
    ready = prepare(plan, run, resume=resume is not None, teacher_device=own)
    say = speaker(as_json)
    _introduce(ready, say)
    if dry_run:
        say("dry run: everything is there and fits; nothing was written")
        if as_json:
            print(to_json(ready.dispatch(Workers())))
        return
    _run(ready, run, say, as_json)


def chosen(context: typer.Context) -> tuple[Path, Plan | None]:
    """The run, and its plan where it is a new one; refuses what lacks or would be ignored."""
    given = context.params
    if given["resume"] is not None:
        _require_nothing_else(context)
        return given["resume"], None
    for name in ("out", "teacher", "student", "data"):
        if given[name] is None:
            raise EngineError(f"--{name}: found nothing, expected it, or --resume RUN: --help")
    recipe = Recipe(**{each.name: given[each.name] for each in fields(Recipe)})
    own = {each.name: given[each.name] for each in fields(Plan) if each.name != "recipe"}
    own["teacher_device"] = given["teacher_device"] or given["device"]
    return given["out"], Plan(**own, recipe=recipe)


def _require_nothing_else(context: typer.Context) -> None:
    """Refuse options beside --resume that would be ignored: the run's own plan counts."""
    looked = WHERE if context.params["dry_run"] else ()
    ignored = [
        name for name in _typed(context) if name not in ("resume", "dry_run", "as_json", *looked)
    ]
    if ignored:
        option = f"--{ignored[0].replace('_', '-')}"
        raise EngineError(
            f"{option}: found it beside --resume, expected none: what is in {DISPATCH} counts"
        )


def _as_begun(run: Path, context: typer.Context) -> Plan:
    """The plan of a run that goes on; a dry run may look at it elsewhere."""
    where = {name: context.params[name] for name in _typed(context) if name in WHERE}
    return replace(Plan.from_dispatch(run), **where)


def _typed(context: typer.Context) -> list[str]:
    """What was given on the command line, and is neither a default nor the environment's."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]


def _introduce(ready: Ready, say: Callable[[str], None]) -> None:
    recipe, config = ready.plan.recipe, ready.student.config
    tokens = recipe.steps * recipe.batch * recipe.seq_len
    epochs = recipe.steps * recipe.batch / len(ready.data)
    say(f"teacher   {ready.teacher.name}")
    say(f"student   {config.architecture}, {ready.parameters:,} parameters: {ready.plan.student}")
    say(f"data      {len(ready.data):,} windows, {len(ready.held_out):,} held out")
    say(f"steps     {recipe.steps:,}, {tokens:,} tokens, {epochs:.2g} epochs")
    if ready.saved is not None:
        say(f"resumed   after step {ready.saved.progress.step:,}")
    if ready.mirror:
        say("warning: the teacher is the student: there is nothing to learn from it")


def _run(ready: Ready, run: Path, say: Callable[[str], None], as_json: bool) -> None:
    plan, recipe = ready.plan, ready.plan.recipe
    count, local = _processes()
    with listening() as stop, joined(plan.device, plan.sharding, count, local) as workers:
        with _shown(recipe, workers, say) as see:
            found = execute(ready, run, workers, see, stop)
        if workers.first:
            plot.save(draw_curves({run.name: read_metrics(run)}), run / CURVES)
    if found.step < recipe.steps:
        say(f"stopped after step {found.step:,} and saved: python -m engine distill --resume {run}")
    elif found.best is not None:
        best = run / checkpoint.BEST
        say(f"best held-out loss {found.best:.4f} at step {found.best_step:,}: {best}")
    if as_json and workers.first:
        done = {"run": str(run), "steps": recipe.steps, "step": found.step, "best": found.best}
        print(to_json(done | {"best_step": found.best_step, "stopped": stop.signal or None}))
    if found.step < recipe.steps:
        raise typer.Exit(_code(stop))


def _processes() -> tuple[int, int]:
    """How many `torchrun` has started, and which this one is on its host."""
    count, local = os.environ.get("WORLD_SIZE", "1"), os.environ.get("LOCAL_RANK", "0")
    return int(count), int(local)


def _code(stop: Stop) -> int:
    """Of a process that stopped with the others, 130, though the signal was not its own."""
    return stop.exit_code if stop() else 130


class _Told(ProgressColumn):
    """The last loss, and tokens a second."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def render(self, task: Task) -> Text:
        return Text(self.text)


@contextmanager
def _shown(
    recipe: Recipe, workers: Workers, say: Callable[[str], None]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar of the steps, and a line for each held-out loss."""
    told, pace = _Told(), Pace()
    with progress("distilling", recipe.steps, MofNCompleteColumn(), told) as advance:

        def see(row: dict[str, Any]) -> None:
            line = pace.see(row)
            if "loss" in row:
                told.text = ", ".join([f"loss {row['loss']:.3f}", *pace.told()])
                advance(row["step"], recipe.steps)
            if line:
                say(line)

        yield see
