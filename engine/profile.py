"""Where a decoded token's time goes, stage by stage.

Knows the methods of a route, by which it tells stages apart, and a clock; knows nothing of how they
multiply. Only the processor's routes: a GPU's calls return before their work is done.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from engine.cache import KVCache
from engine.errors import EngineError
from engine.model import Model
from engine.route import Angles, Heads, Layer, Route
from engine.weights import Weight

Clock = Callable[[], float]
QKV, ATTENTION, PROJECTION = "qkv", "attention", "output projection"
NORMS, FEED_FORWARD, LOGITS = "norms", "router and experts", "logits"
EMBEDDING, SAMPLING, REST = "embedding", "sampling", "rest"


@dataclass(frozen=True)
class Spent:
    """Seconds of a decoded token, the mean over those that were made."""

    stage: str
    seconds: float


class Timed:
    """A route whose calls are timed; `spent` is seconds by stage."""

    def __init__(self, route: Route, clock: Clock) -> None:
        self._route, self._clock = route, clock
        self.spent: dict[str, float] = {}

    @property
    def name(self) -> str:
        return self._route.name

    def rows(self, weight: Weight, ids: Sequence[int]) -> Tensor:
        with self.stage(EMBEDDING):
            return self._route.rows(weight, ids)

    def layers(self, layers: Sequence[Layer], x: Tensor, angles: Angles, cache: KVCache) -> None:
        """None, so that layers are taken one operation at a time: all at once cannot be told
        apart. That costs a little more."""

    def linear(self, x: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
        with self.stage(_stage(weights[0].name)):
            return self._route.linear(x, weights)

    def norm(
        self, x: Tensor, delta: Tensor | None, gain: Weight, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        with self.stage(NORMS):
            return self._route.norm(x, delta, gain, epsilon)

    def attend(
        self,
        projected: Sequence[Tensor],
        heads: Heads,
        angles: Angles,
        cache: KVCache,
    ) -> Tensor:
        with self.stage(ATTENTION):
            return self._route.attend(projected, heads, angles, cache)

    def experts(
        self, x: Tensor, router: Weight, gate: Weight, up: Weight, down: Weight, k: int
    ) -> Tensor:
        with self.stage(FEED_FORWARD):
            return self._route.experts(x, router, gate, up, down, k)

    def swiglu(self, x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
        with self.stage(FEED_FORWARD):
            return self._route.swiglu(x, gate, up, down)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the body as `name`'s."""
        began = self._clock()
        yield
        self.spent[name] = self.spent.get(name, 0.0) + self._clock() - began


def _stage(weight: str) -> str:
    if ".attn_output." in weight:
        return PROJECTION
    return QKV if ".attn_" in weight else LOGITS


def route_of(model: Model) -> Route:
    """The route whose stages can be told apart; `EngineError` where there is none."""
    if model.route is None or model.device.type != "cpu":
        found = "the plain route" if model.route is None else f"device {model.device}"
        raise EngineError(f"--profile: found {found}, expected another route, on the cpu")
    return model.route


def profile(
    model: Model, ids: Sequence[int], tokens: int, clock: Clock = time.perf_counter
) -> list[Spent]:
    """Read the prompt `ids`, then time the stages of `tokens` tokens greedily made after it.

    The most expensive stage comes first; `rest` is what no stage accounts for.
    """
    timed = Timed(route_of(model), clock)
    model = Model(model.config, model.weights, model.device, timed)
    cache = model.new_cache(len(ids) + tokens)
    logits = model.forward(ids, cache, last_only=True)
    timed.spent.clear()
    began = clock()
    for _ in range(tokens):
        with timed.stage(SAMPLING):
            token = int(logits[-1].argmax())
        logits = model.forward([token], cache, last_only=True)
    total = clock() - began
    found = {**timed.spent, REST: total - sum(timed.spent.values())}
    spent = [Spent(stage, seconds / tokens) for stage, seconds in found.items()]
    return sorted(spent, key=lambda each: -each.seconds)
