"""What the samples of a measurement say: rates, bandwidth, and how a peer compares.

Knows medians; knows nothing of clocks or printing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from engine.bench import ENGINE, FIRST_TOKEN, MEMORY, Plan, Sample, Start, host
from engine.checkpoint import open_checkpoint
from engine.inspection import size_of
from engine.model import Model
from engine.profile import Spent
from engine.traffic import token_bytes


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
class Bandwidth:
    """Bytes per second that the memory gave to a plain reading of `bytes` of it."""

    bytes: int
    median: float
    least: float
    most: float
    seconds: tuple[float, ...]  # of each reading, in order


@dataclass(frozen=True)
class Traffic:
    """What decoding after a prompt takes of the memory's bandwidth, by its median."""

    prompt_tokens: int
    bytes_per_token: float
    bytes_per_second: float
    share: float | None  # of the bandwidth's median; None where that was not measured


@dataclass(frozen=True)
class Memory:
    """Bytes of memory; None for what the system does not tell."""

    peak: int | None  # with what is mapped
    before_model: int | None  # Python and its libraries, before the model is opened
    over_file: int | None  # at most, while decoding, but for the model's mapped files

    def without(self, held: int) -> "Memory":
        """But for so many bytes, which the measurement itself has held all the time."""
        figures = (self.peak, self.before_model, self.over_file)
        return Memory(*(None if figure is None else figure - held for figure in figures))


@dataclass(frozen=True)
class FirstTokens:
    """From the start of a fresh process to its first token, in each run."""

    prompt_tokens: int
    median: float  # seconds
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Ratio:
    """The engine's median over the peer's: of tokens per second, or of seconds for `first token`,
    where less is better."""

    stage: str
    prompt_tokens: int
    ratio: float


@dataclass(frozen=True)
class Compared:
    """The peer's part of the measurement; `first_token` is the engine's own."""

    peer: str
    rates: tuple[Rate, ...]
    first_token: FirstTokens | None
    peer_first_token: FirstTokens | None
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True)
class Report:
    """All that a measurement found; `complete` is False where it was interrupted."""

    file: str
    bytes: int
    architecture: str
    route: str
    host: Mapping[str, Any]
    start: Start
    plan: Plan
    rates: tuple[Rate, ...]
    bandwidth: Bandwidth | None
    traffic: tuple[Traffic, ...]
    memory: Memory
    compared: Compared | None
    profile: tuple[Spent, ...] | None
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema": "engine/bench/v1", **asdict(self)}


def summary(
    model: Model,
    path: Path,
    plan: Plan,
    start: Start,
    found: Sequence[Sample],
    *,
    route: str,
    peer: str | None,
    memory: Memory,
    profile: Sequence[Spent] | None,
    complete: bool,
) -> Report:
    """The report on the model at `path`, from the samples `found`."""
    own, read = rates(found), bandwidth(found)
    tensors, number = open_checkpoint(path).tensors, model.new_cache(1).keys.element_size()
    per_token = {
        size: token_bytes(model.config, tensors, range(size + 1, size + plan.tokens + 1), number)
        for size in plan.prompt_tokens
    }
    return Report(
        file=str(path),
        bytes=size_of(path),
        architecture=model.config.architecture,
        route=route,
        host=host(),
        start=start,
        plan=plan,
        rates=tuple(own),
        bandwidth=read,
        traffic=tuple(traffic(own, per_token, read)),
        memory=memory,
        compared=None if peer is None else compared(found, peer),
        profile=None if profile is None else tuple(profile),
        complete=complete,
    )


def rates(found: Sequence[Sample], side: str = ENGINE) -> list[Rate]:
    """A rate for each stage and prompt length that `side` was measured at, at least once."""
    groups: dict[tuple[str, int], list[Sample]] = {}
    for sample in found:
        if sample.side == side and sample.stage in ("prefill", "decode"):
            groups.setdefault((sample.stage, sample.prompt_tokens), []).append(sample)
    return [_rate(group) for group in groups.values()]


def _rate(group: Sequence[Sample]) -> Rate:
    stage, size, tokens = group[0][:3]
    speeds, seconds = _speeds(group)
    return Rate(stage, size, tokens, median(speeds), min(speeds), max(speeds), seconds)


def bandwidth(found: Sequence[Sample]) -> Bandwidth | None:
    """Of the readings; None where there is none."""
    group = [sample for sample in found if sample.side == MEMORY]
    if not group:
        return None
    speeds, seconds = _speeds(group)
    return Bandwidth(group[0].amount, median(speeds), min(speeds), max(speeds), seconds)


def _speeds(group: Sequence[Sample]) -> tuple[list[float], tuple[float, ...]]:
    """The amounts per second, and the seconds."""
    seconds = tuple(sample.seconds for sample in group)
    return [sample.amount / sample.seconds for sample in group], seconds


def traffic(
    own: Sequence[Rate], bytes_per_token: Mapping[int, float], read: Bandwidth | None
) -> list[Traffic]:
    """Of each decode among the rates; `bytes_per_token` is by the prompt's length."""
    found = []
    for rate in own:
        if rate.stage == "decode":
            size = bytes_per_token[rate.prompt_tokens]
            taken = size * rate.median
            share = None if read is None else taken / read.median
            found.append(Traffic(rate.prompt_tokens, size, taken, share))
    return found


def compared(found: Sequence[Sample], peer: str) -> Compared:
    """The engine against `peer`, as far as both were measured."""
    theirs = {(rate.stage, rate.prompt_tokens): rate for rate in rates(found, peer)}
    ratios = [
        Ratio(rate.stage, rate.prompt_tokens, rate.median / other.median)
        for rate in rates(found)
        if (other := theirs.get((rate.stage, rate.prompt_tokens)))
    ]
    own_start, peer_start = _first_tokens(found, ENGINE), _first_tokens(found, peer)
    if own_start and peer_start:
        ratio = own_start.median / peer_start.median
        ratios.append(Ratio(FIRST_TOKEN, own_start.prompt_tokens, ratio))
    return Compared(peer, tuple(theirs.values()), own_start, peer_start, tuple(ratios))


def _first_tokens(found: Sequence[Sample], side: str) -> FirstTokens | None:
    group = [each for each in found if each.stage == FIRST_TOKEN and each.side == side]
    seconds = tuple(each.seconds for each in group)
    return FirstTokens(group[0].prompt_tokens, median(seconds), seconds) if group else None
