"""What the falsifiers of bench measure with: clocks, a peer and a route whose costs are known."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pytest import MonkeyPatch
from torch import Tensor

from engine import bench, cli_bench
from engine.fixture import FixtureShape
from engine.peer import Times
from engine.weights import Weight
from falsifiers.sample_models import SMALL

BYTES_READ = {
    "experts, Q4_K_M": ("qwen3moe", FixtureShape()),
    "tied": ("qwen3moe", replace(SMALL, experts=6, experts_used=3, tied=True, mix="Q8_0")),
    "a window from layer 1 on": ("qwen3", replace(SMALL, window=24, window_from=1, mix="F16")),
    "dense, biases": ("qwen2", FixtureShape(heads=4)),
}
# Of the report as JSON.
KEYS = set(
    "schema file bytes architecture route host start plan rates bandwidth traffic memory "
    "compared profile complete".split()
)


class Turned:
    """A clock that only a forward pass moves: 1 ms per token, and longer with each run."""

    def __init__(self, forward) -> None:
        self.seconds, self.calls, self._forward = 0.0, [], forward

    def __call__(self) -> float:
        return self.seconds

    def forward(self, model, ids, cache=None, **options):
        self.calls.append((len(ids), cache.length))
        self.seconds += 0.001 * len(ids) * len(self.calls)
        return self._forward(model, ids, cache, **options)


class Scripted:
    """A peer, a launch and a reading whose times are known beforehand, no two alike."""

    name, bytes, held = "the peer", 1000, 0

    def __init__(self) -> None:
        self.launches, self.runs, self.readings, self.closed = [], [], [], 0

    def launch(self, ids=None) -> float:
        return self._next(self.launches, 5.0)

    def run(self, ids, tokens) -> Times:
        self.prompts = len(ids), tokens
        return Times(self._next(self.runs, 0.3), self._next(self.runs, 0.7), ())

    def seconds(self) -> float:
        return self._next(self.readings, 0.1)

    def _next(self, made: list[float], first: float) -> float:
        made.append(first * (1 + (7 * len(made)) % 5))  # not in order, so that a median is one
        return made[-1]

    def close(self) -> None:
        self.closed += 1


def play(monkeypatch: MonkeyPatch, scripted: Scripted) -> None:
    """The peer, both sides' launches and the readings are those of the script."""
    monkeypatch.setattr(cli_bench, "open_peer", lambda *arguments, **options: scripted)
    monkeypatch.setattr(cli_bench, "Reader", lambda device: scripted)
    monkeypatch.setattr(bench, "launch", lambda *arguments: scripted.launch())


def log_turns(monkeypatch: MonkeyPatch) -> list[tuple[str, int]]:
    """Fills with the side and prompt of each sample; a stage after its like is no turn."""
    turns: list[tuple[str, int]] = []
    samples = bench.samples

    def logged(*arguments: Any, **options: Any) -> Any:
        for sample in samples(*arguments, **options):
            if sample.stage != "decode":
                turns.append((sample.side, sample.prompt_tokens))
            yield sample

    monkeypatch.setattr(bench, "samples", logged)
    return turns


class Ticks:
    """A clock that moves by what a stage costs."""

    ticks = {"qkv": 1, "output": 2, "attention": 4, "norm": 8, "feed-forward": 16, "logits": 32}
    ticks["embedding"] = 128

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds

    def spend(self, cost: str | int, made: Any) -> Any:
        self.seconds += cost if isinstance(cost, int) else self.ticks[cost]
        return made


class Hollow:
    """A route that makes zeros, at a known cost."""

    name = "hollow"

    def __init__(self, clock: Ticks) -> None:
        self.clock = clock

    def rows(self, weight: Weight, ids: Sequence[int]) -> Tensor:
        return self.clock.spend("embedding", weight.rows(ids))

    def linear(self, x: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
        stage = "qkv" if len(weights) == 3 else "output"
        stage = stage if "blk." in weights[0].name else "logits"
        return self.clock.spend(stage, [torch.zeros(len(x), w.shape[0]) for w in weights])

    def norm(self, x: Tensor, delta: Tensor | None, gain: Weight, epsilon: float) -> Any:
        return self.clock.spend("norm", (x, x))

    def attend(self, projected: Sequence[Tensor], *others: Any) -> Tensor:
        return self.clock.spend("attention", torch.zeros_like(projected[0]))

    def experts(self, x: Tensor, *others: Any) -> Tensor:
        return self.clock.spend("feed-forward", torch.zeros_like(x))

    swiglu = experts


def bar_report(
    decode: float, share: float | None, prefill: float, start: float, memory: float | None
) -> dict[str, Any]:
    """As much of a report as the bars look at; ratios as given."""
    rates, ratios = [], [{"stage": "first token", "prompt_tokens": 8, "ratio": start}]
    for stage, ratio in (("decode", decode), ("prefill", prefill)):
        rates.append({"stage": stage, "prompt_tokens": 8, "median": 1.0, "seconds": [1.0, 1.0]})
        ratios.append({"stage": stage, "prompt_tokens": 8, "ratio": ratio})
    first = {"median": 1.0}
    return {
        "route": "a route",
        "rates": rates,
        "bandwidth": {"median": 1e9},
        "traffic": [{"prompt_tokens": 8, "bytes_per_second": 1e9, "share": share}],
        "memory": {"over_file": memory, "before_model": 1},
        "compared": {
            "rates": rates,
            "ratios": ratios,
            "first_token": first,
            "peer_first_token": first,
        },
    }
