"""How quickly a model reads a prompt and writes tokens, how it starts, how much memory it takes.

Knows clocks and the process's memory; knows nothing of text or printing. Samples come one by one
and interleaved, every prompt length in each run, so that a machine that slows down slows all alike
and an interrupted measurement is still one. The prompts are random tokens from a seed.
"""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import torch

from engine.cache import KVCache
from engine.checkpoint import open_checkpoint
from engine.errors import EngineError
from engine.model import Model
from engine.route import Route

Clock = Callable[[], float]


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

    def require_room(self, model: Model) -> None:
        """Refuse a plan that the model's context has no room for."""
        context = model.config.context_length
        if max(self.prompt_tokens) + self.tokens > context:
            raise EngineError(
                f"prompt tokens: found {max(self.prompt_tokens)} and {self.tokens} to decode, "
                f"expected at most {context} together, the model's context"
            )


class Sample(NamedTuple):
    """One measurement: so many `tokens` in `seconds`."""

    stage: Literal["prefill", "decode"]
    prompt_tokens: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class Start:
    """From nothing to the first token; whether the file was in the page cache is not known."""

    load_seconds: float
    first_token_seconds: float  # the loading and a prompt of `prompt_tokens` included
    prompt_tokens: int


@dataclass(frozen=True)
class Rate:
    """Tokens per second over the runs."""

    stage: str
    prompt_tokens: int
    tokens: int
    median: float
    least: float
    most: float
    seconds: tuple[float, ...]  # of each run, in order


@dataclass(frozen=True)
class Report:
    """All that a measurement found; `complete` is False where it was interrupted."""

    file: str
    bytes: int
    architecture: str
    route: str  # what ran and why
    host: Mapping[str, Any]
    start: Start
    plan: Plan
    rates: tuple[Rate, ...]
    peak_bytes: int | None
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema": "engine/bench/v1", **asdict(self)}


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


def samples(model: Model, plan: Plan, clock: Clock = time.perf_counter) -> Iterator[Sample]:
    """Measure as planned; each sample is given as soon as it is made."""
    for _ in range(plan.runs):
        for size in plan.prompt_tokens:
            yield from _samples_after(model, prompt(model, size), plan.tokens, clock)


def _samples_after(model: Model, ids: Sequence[int], tokens: int, clock: Clock) -> Iterator[Sample]:
    cache = model.new_cache(len(ids) + tokens)
    began = clock()
    token = _next_token(model, ids, cache)
    yield Sample("prefill", len(ids), len(ids), clock() - began)
    began = clock()
    for _ in range(tokens):
        token = _next_token(model, [token], cache)
    yield Sample("decode", len(ids), tokens, clock() - began)


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


def rates(found: Sequence[Sample]) -> list[Rate]:
    """A rate for each stage and prompt length that was measured at least once."""
    groups: dict[tuple[str, int], list[Sample]] = {}
    for sample in found:
        groups.setdefault((sample.stage, sample.prompt_tokens), []).append(sample)
    return [_rate(group) for group in groups.values()]


def _rate(group: Sequence[Sample]) -> Rate:
    stage, size, tokens, _ = group[0]
    speeds = [sample.tokens / sample.seconds for sample in group]
    seconds = tuple(sample.seconds for sample in group)
    return Rate(stage, size, tokens, median(speeds), min(speeds), max(speeds), seconds)


def peak_memory() -> int | None:
    """The most bytes of memory this process has held, mapped files included; None if not known."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return _peak_by_rusage()
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else _peak_by_rusage()


def _peak_by_rusage() -> int | None:
    """Second choice: where a process was started by a larger one it may be that one's."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def host() -> dict[str, Any]:
    """What the numbers hold for."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
