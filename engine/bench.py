"""How quickly a model reads a prompt and writes tokens, how it starts, what memory it takes.

Knows clocks and whose turn it is; knows nothing of text or printing. Samples come one by one and
interleaved: in each run every prompt length, at each length the engine, the peer if there is one,
and the memory's bandwidth, so that a machine that slows down slows all alike and an interrupted
measurement is still one. The prompts are random tokens from a seed.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from engine.cache import KVCache
from engine.checkpoint import open_checkpoint
from engine.child import Child
from engine.errors import EngineError
from engine.inspection import files_of
from engine.memory import memory_over, watching
from engine.model import Model
from engine.peer import Peer
from engine.route import Route
from engine.routes import choose
from engine.traffic import Reader

Clock = Callable[[], float]
ENGINE, MEMORY = "engine", "memory"  # whose turn it is, besides a peer's
FIRST_TOKEN = "first token"
# Seconds between turns: threads that wait for more work keep a processor busy for a while.
PAUSE = 0.2


@dataclass(frozen=True)
class Plan:
    """What to measure: prefill of each prompt length and the `tokens` decoded after it, `runs`
    times."""

    prompt_tokens: tuple[int, ...] = (128, 512)
    tokens: int = 32
    runs: int = 5

    def __post_init__(self) -> None:
        for name, sizes in (("prompt tokens", self.prompt_tokens), ("tokens", (self.tokens,))):
            if not sizes or min(sizes) < 1:
                raise EngineError(f"{name}: found {list(sizes)}, expected at least 1 of each")
        if self.runs < 1:
            raise EngineError(f"runs: found {self.runs}, expected at least 1")

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(self.prompt_tokens)

    @property
    def positions(self) -> int:
        """Of the longest prompt with what is decoded after it."""
        return self.longest + self.tokens

    def samples(self, *, compared: bool) -> int:
        """How many there are to come."""
        per_size = 5 if compared else 3
        return self.runs * (per_size * len(self.prompt_tokens) + (2 if compared else 0))

    def require_room(self, model: Model) -> None:
        """Refuse a plan that the model's context has no room for."""
        context = model.config.context_length
        if self.positions > context:
            raise EngineError(
                f"prompt tokens: found {self.longest} and {self.tokens} to decode, "
                f"expected at most {context} together, the model's context"
            )


class Sample(NamedTuple):
    """One measurement by `side`: an `amount` of tokens, or of bytes that were read, in `seconds`.

    `prompt_tokens` is 0 where there is no prompt.
    """

    stage: Literal["prefill", "decode", "first token", "read"]
    prompt_tokens: int
    amount: int
    seconds: float
    side: str = ENGINE


@dataclass(frozen=True)
class Start:
    """From a process that is up to the first token; whether the file was in the page cache is not
    known."""

    load_seconds: float
    first_token_seconds: float  # the loading and a prompt of `prompt_tokens` included
    prompt_tokens: int


def start(
    path: Path,
    plan: Plan,
    device: str = "cpu",
    route: Route | None = None,
    clock: Clock = time.perf_counter,
) -> tuple[Model, Start]:
    """Load the model and make one token, which also warms up what is warmed by a first pass."""
    began = clock()
    model = Model.from_checkpoint(open_checkpoint(path), device, route)
    loaded = clock()
    plan.require_room(model)
    size = min(plan.prompt_tokens)
    _next_token(model, prompt(model, size), model.new_cache(size))
    return model, Start(loaded - began, clock() - began, size)


def decoding_memory(model: Model, plan: Plan, path: Path) -> int | None:
    """The most bytes over the model's mapped files that were seen while it decoded after the
    longest prompt; not timed. None where the system does not tell."""
    files = files_of(path)
    ids = prompt(model, plan.longest)
    cache = model.new_cache(plan.positions)
    token = _next_token(model, ids, cache)
    with watching(lambda: memory_over(files)) as seen:
        for _ in range(plan.tokens):
            token = _next_token(model, [token], cache)
    return max(seen, default=None)


@dataclass(frozen=True)
class Rival:
    """A peer to measure alongside, and how this engine is started afresh as the peer is."""

    peer: Peer
    launch: Callable[[], float]  # seconds to the first token


def samples(
    model: Model,
    plan: Plan,
    reader: Reader,
    rival: Rival | None = None,
    clock: Clock = time.perf_counter,
) -> Iterator[Sample]:
    """Measure as planned; each sample is given as soon as it is made."""
    for _ in range(plan.runs):
        for turn in _turns(model, plan, reader, rival, clock):
            time.sleep(PAUSE)
            yield from turn


def _turns(
    model: Model, plan: Plan, reader: Reader, rival: Rival | None, clock: Clock
) -> Iterator[Iterator[Sample]]:
    """Of one run. A peer that has just been started is the one that is measured in that run."""
    if rival is not None:
        yield _launches(rival, prompt(model, min(plan.prompt_tokens)))
    for size in plan.prompt_tokens:
        ids = prompt(model, size)
        yield _samples_after(model, ids, plan.tokens, clock)
        if rival is not None:
            yield _peer_samples(rival.peer, ids, plan.tokens)
        yield _reading(reader)


def _launches(rival: Rival, ids: Sequence[int]) -> Iterator[Sample]:
    yield Sample("first token", len(ids), 1, rival.launch())
    yield Sample("first token", len(ids), 1, rival.peer.launch(ids), rival.peer.name)


def _samples_after(model: Model, ids: Sequence[int], tokens: int, clock: Clock) -> Iterator[Sample]:
    cache = model.new_cache(len(ids) + tokens)
    began = clock()
    token = _next_token(model, ids, cache)
    yield Sample("prefill", len(ids), len(ids), clock() - began)
    began = clock()
    for _ in range(tokens):
        token = _next_token(model, [token], cache)
    yield Sample("decode", len(ids), tokens, clock() - began)


def _peer_samples(peer: Peer, ids: Sequence[int], tokens: int) -> Iterator[Sample]:
    times = peer.run(ids, tokens)
    yield Sample("prefill", len(ids), len(ids), times.prefill, peer.name)
    yield Sample("decode", len(ids), tokens, times.decode, peer.name)


def _reading(reader: Reader) -> Iterator[Sample]:
    yield Sample("read", 0, reader.bytes, reader.seconds(), MEMORY)


def _next_token(model: Model, ids: Sequence[int], cache: KVCache) -> int:
    """Greedy; to read the token is to wait for the device."""
    return int(model.forward(ids, cache, last_only=True)[-1].argmax())


def prompt(model: Model, size: int) -> list[int]:
    """Random ids, the same for the same size."""
    generator = torch.Generator().manual_seed(0)
    ids: list[int] = torch.randint(
        model.config.vocabulary_size, (size,), generator=generator
    ).tolist()
    return ids


def launch(
    path: Path, plan: Plan, device: str, route: str, clock: Clock = time.perf_counter
) -> float:
    """Seconds from the start of a fresh Python process to its first token, after the shortest
    prompt; Python's own start and all imports are in it."""
    request = [str(path), min(plan.prompt_tokens), device, route, torch.get_num_threads()]
    code = "from engine.bench import answer_first_token; answer_first_token()"
    began = clock()
    child = Child("the engine", ["-c", code])
    try:
        child.ask(request)
        return clock() - began
    finally:
        child.close()


def read_through(path: Path) -> None:
    """Bring the model's files into the page cache, as far as it has room."""
    piece = bytearray(1 << 24)
    for each in files_of(path):
        with each.open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass


def answer_first_token() -> None:
    """What the fresh process of `launch` does: takes the request from stdin, prints the token."""
    path, size, device, route, threads = json.loads(sys.stdin.readline())
    torch.set_num_threads(threads)
    plan = Plan((size,), tokens=1)
    model = Model.from_checkpoint(open_checkpoint(path), device, choose(route, device).route)
    plan.require_room(model)
    print(_next_token(model, prompt(model, size), model.new_cache(size)), flush=True)


def host() -> dict[str, Any]:
    """What the numbers hold for."""
    return {
        "processor": _processor(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
