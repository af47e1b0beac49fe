"""The command `bench`: what is measured, in which order, and what is left of it after Ctrl-C.

Knows options, progress and exit codes; knows nothing of clocks or medians.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import MofNCompleteColumn

from engine import bench as benching
from engine.bench import Plan, Rival, Sample
from engine.bench_report import Memory, summary
from engine.bench_table import bench_text
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
from engine.cli_progress import progress
from engine.errors import EngineError
from engine.memory import memory_over, peak_memory
from engine.model import Model
from engine.peer import PEERS, open_peer
from engine.profile import Spent
from engine.profile import profile as profile_of
from engine.traffic import Reader

EPILOG = "Example: python -m engine bench tiny.gguf --prompt-tokens 64,256 --compare llama.cpp"


def bench(
    model: ModelPath,
    prompt_tokens: Annotated[str, typer.Option(help="Lengths of prompts.")] = "128,512",
    tokens: Annotated[int, typer.Option(help="Tokens to decode after each.")] = 32,
    runs: Annotated[int, typer.Option(help="How often to measure each.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; else as many as torch takes.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option(metavar="|".join(PEERS), help="Another engine, in turn.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Where a decoded token's time goes, too.")
    ] = False,
    json_to: JsonFile = None,
    device: Device = "cpu",
    route: RouteName = "auto",
) -> None:
    """Measure prefill, decode, bandwidth, start and memory; Ctrl-C prints what was measured."""
    check_json(json_to)
    plan = Plan(_sizes(prompt_tokens), tokens, runs)
    if threads is not None:
        torch.set_num_threads(threads)
    found: list[Sample] = []
    with _rival(compare, model, plan, device, route) as rival:
        choice = open_route(route, device)
        reader = Reader(device)  # before anything else takes memory, so that the peak has it too
        before = memory_over([])
        loaded, start = benching.start(model, plan, device, choice.route)
        spent = _profile(loaded, plan) if profile else None
        if rival is not None:
            benching.read_through(model)
        memory = benching.decoding_memory(loaded, plan, model)
        source = benching.samples(loaded, plan, reader, rival)
        complete = _collect(source, found, plan.samples(compared=rival is not None))
    report = summary(
        loaded,
        model,
        plan,
        start,
        found,
        route=choice.reason,
        peer=None if rival is None else rival.peer.name,
        memory=Memory(peak_memory(), before, memory).without(reader.held),
        profile=spent,
        complete=complete,
    )
    put(json_to, to_json(report.to_dict()), bench_text(report))
    raise typer.Exit(0 if complete else 130)


@contextmanager
def _rival(
    name: str | None, path: Path, plan: Plan, device: str, route: str
) -> Iterator[Rival | None]:
    """The other engine, which ends with the body."""
    if name is None:
        yield None
        return
    threads, batch = torch.get_num_threads(), plan.longest
    peer = open_peer(name, path, threads=threads, context=plan.positions, batch=batch)
    try:
        yield Rival(peer, lambda: benching.launch(path, plan, device, route))
    finally:
        peer.close()


def _profile(model: Model, plan: Plan) -> list[Spent]:
    ids = benching.prompt(model, plan.longest)
    return profile_of(model, ids, plan.tokens)


def _collect(source: Iterator[Sample], into: list[Sample], count: int) -> bool:
    """Whether all came, before an interrupt."""
    try:
        with progress("measuring", count, MofNCompleteColumn()) as advance:
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
