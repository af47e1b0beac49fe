"""The command `bench-agent`: a model at work on tasks. Knows options, progress and exit codes."""

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn

from engine.agent.endpoint import Endpoint
from engine.agent.tasks import TASKS, choose
from engine.agent_bench import Bench, Budget, Record, Records, describe, digest
from engine.cli_options import JsonFile, check_json, put, require_permission, to_json
from engine.cli_progress import Rate, progress
from engine.errors import EngineError
from engine.evaluation.sandbox import Limits, Sandbox

EPILOG = (
    "Example: python -m engine bench-agent --url http://127.0.0.1:8000 --out bench "
    "--allow-code-execution"
)
USUAL = Budget()
PATIENCE = 10.0  # seconds for a check, and to be told which models there are


def bench_agent(
    url: Annotated[str, typer.Option(help="Where OpenAI's chat API is served.")],
    out: Annotated[
        Path, typer.Option(help="Keep scores and transcripts there, and resume from it.")
    ],
    model: Annotated[str | None, typer.Option(help="Its name; else the only one served.")] = None,
    fixtures: Annotated[int, typer.Option(help=f"Tasks to attempt, of {len(TASKS)}.")] = len(TASKS),
    max_turns: Annotated[int, typer.Option(help="Replies for a task at most.")] = USUAL.max_turns,
    wall_seconds: Annotated[float, typer.Option(help="For the whole run.")] = USUAL.wall_seconds,
    turn_seconds: Annotated[float, typer.Option(help="For a reply.")] = USUAL.turn_seconds,
    turn_tokens: Annotated[int, typer.Option(help="Of a reply.")] = USUAL.turn_tokens,
    command_seconds: Annotated[
        float, typer.Option(help="For a command of the model's.")
    ] = USUAL.command_seconds,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Sent along, where it is drawn.")] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Tasks at once; more only if the server takes them.")
    ] = 1,
    api_key: Annotated[
        str | None, typer.Option(envvar="ENGINE_API_KEY", help="Sent as a bearer token.")
    ] = None,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Run what the model writes.")
    ] = False,
    json_to: JsonFile = None,
) -> None:
    """Let a served model work on small coding tasks, and score what it leaves.

    It reads, writes and runs commands in a sandbox, turn by turn. Whoever is cut off by a budget
    has not solved the task. Ctrl-C keeps what is in --out; the same command goes on from there.
    """
    check_json(json_to)
    require_permission("bench-agent", allow_code_execution)
    budget = Budget(turn_seconds, turn_tokens, command_seconds, max_turns, wall_seconds)
    tasks, endpoint = choose(fixtures), Endpoint(url, api_key)
    fields: dict[str, object] = {
        "model": model or only_model(endpoint),
        "max_tokens": turn_tokens,
        "temperature": temperature,
    }
    fields |= {} if seed is None else {"seed": seed}
    about = {**fields, **vars(budget), "tasks": digest(TASKS)}
    records = Records(out, about, tasks)
    with Sandbox.for_commands(Limits(PATIENCE)) as sandbox:
        bench = Bench(endpoint, fields, budget, sandbox)
        try:
            whole = _watch(bench.run(records, workers), len(tasks), len(records.found))
        finally:
            found = records.write_scores()
    put(json_to, to_json(found), _table(found, out))
    if not whole:
        typer.echo("interrupted: the same command goes on from there", err=True)
        raise typer.Exit(130)


def only_model(endpoint: Endpoint) -> str:
    """The name of the model that is served."""
    names = endpoint.models(PATIENCE)
    if len(names) != 1:
        raise EngineError(
            f"{endpoint.url}: found {len(names)} models ({', '.join(names):.200}), expected one; "
            "name it with --model"
        )
    return names[0]


def _watch(source: Generator[Record, None, None], total: int, done: int) -> bool:
    """Whether it ended before an interrupt; a line for each task that ends."""
    try:
        with closing(source), progress("tasks", total, MofNCompleteColumn(), Rate()) as advance:
            for number, record in enumerate(source, start=done + 1):
                turns = f"{record.turns} turn{'s' * (record.turns != 1)}"
                typer.echo(
                    f"{record.task:<18} {describe(record)}, {turns}, {record.seconds:.1f} s",
                    err=True,
                )
                advance(number, total)
    except KeyboardInterrupt:
        return False
    return True


def _table(found: dict[str, Any], out: Path) -> Iterator[str]:
    of = found["fixtures"]
    yield f"{of} tasks: {found['solved']} solved"
    if not found["complete"]:
        yield f"incomplete: {found['attempted']} of {of} attempted; no rate until all are"
    else:
        low, high = found["interval_95"]
        rate = found["student_pass_rate"]
        yield f"student_pass_rate {rate:.1%}   (95 %: {low:.1%} to {high:.1%})"
    for kind, counts in found["kinds"].items():
        yield f"  {kind:<8} {counts['solved']} of {counts['fixtures']}"
    for outcome, count in found["outcomes"].items():
        yield f"{count:6} × {outcome}"
    yield f"scores: {out / 'scores.json'}; transcripts beside it"
