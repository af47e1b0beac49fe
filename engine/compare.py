"""Lines two traces up, stage by stage, and names the first that leaves a band.

Knows ratios, cosines and when two traces must not be compared; knows nothing of models, files or
drawing. Two statistics, because each is blind where the other sees: a wrong scale leaves the
cosine as it was, a wrong order leaves the deviation.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

import torch
from torch import Tensor

from engine.errors import EngineError
from engine.trace import EXPERTS, STAGES, Place, Recording, Stage, Trace, named

Interval = tuple[float, float]


@dataclass(frozen=True)
class Band:
    """What is near enough.

    `ratio` bounds std B / std A, for the stages in `stages` otherwise; `cosine` is the least of any
    token, `experts` the least share of the router's choice that both sides have in common. The
    deviation of a few weights that sum to 1 says nothing, so the router's has no bounds.
    """

    ratio: Interval = (0.5, 2.0)
    stages: Mapping[str, Interval] = field(
        default_factory=lambda: {"ffn_gate": (0.7, 1.4), "router_weights": (0.0, inf)}
    )
    cosine: float = 0.99
    experts: float = 1.0

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage not in STAGES:
                raise EngineError(
                    f"band: found stage {stage!r:.60}, expected one of {', '.join(STAGES)}"
                )

    def of(self, stage: str) -> Interval:
        """The bounds of one stage's ratio."""
        return self.stages.get(stage, self.ratio)


@dataclass(frozen=True)
class Line:
    """One stage of both sides. What a stage does not have, or a side did not keep, is None.

    `fault` says what leaves the band, and is empty inside it. A ratio is infinite where only A's
    deviation is 0.
    """

    layer: int | None
    stage: str
    std_a: float | None = None
    std_b: float | None = None
    ratio: float | None = None
    cosine: float | None = None
    experts: float | None = None
    fault: str = ""

    @property
    def place(self) -> Place:
        """Where it stands in the model."""
        return self.layer, self.stage


@dataclass(frozen=True)
class Comparison:
    """Two traces, side by side."""

    a: Trace
    b: Trace
    band: Band
    lines: tuple[Line, ...]

    @property
    def first(self) -> Line | None:
        """The first line outside the band."""
        return next((line for line in self.lines if line.fault), None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, if numbers that are not finite are made null."""
        return {
            "schema": "engine/comparison/v1",
            "a": self.a.label,
            "b": self.b.label,
            "architecture": self.a.architecture,
            "tokens": self.a.tokens,
            "prompt_ids": self.a.prompt_ids,
            "band": vars(self.band),
            "inside": self.first is None,
            "first": self.first and vars(self.first),
            "lines": [vars(line) for line in self.lines],
        }


def compare(a: Recording, b: Recording, band: Band | None = None) -> Comparison:
    """Line `b` up with `a`. Raises `EngineError` where the two are not of the same thing: another
    architecture, prompt or set of stages, or statistics over other tokens or counts of numbers."""
    band = Band() if band is None else band
    require_alike(a.trace, b.trace)
    lines, shares = [], _shares(a.trace, b.trace)
    for x, y in zip(a.trace.stages, b.trace.stages, strict=True):
        lines.append(_compared(x, y, _least_cosine(x.place, a.tensors, b.tensors), band))
        if x.stage == "router_weights":  # the choice was made with them
            lines.append(_chosen(x.layer, next(shares), band))
    return Comparison(a.trace, b.trace, band, tuple(lines))


def _compared(a: Stage, b: Stage, cosine: float | None, band: Band) -> Line:
    ratio = None if a.std is None or b.std is None else _ratio(a.std, b.std)
    fault = _nonfinite(a, b) or _outside(ratio, band.of(a.stage)) or _apart(cosine, band.cosine)
    return Line(a.layer, a.stage, a.std, b.std, ratio, cosine, fault=fault)


def _nonfinite(a: Stage, b: Stage) -> str:
    found = f"found {a.nonfinite} non-finite numbers in A and {b.nonfinite} in B, expected none"
    return found if a.nonfinite or b.nonfinite else ""


def _outside(ratio: float | None, bounds: Interval) -> str:
    low, high = bounds
    if ratio is not None and low <= ratio <= high:
        return ""
    found = "no ratio" if ratio is None else f"ratio {ratio:.4g}"
    return f"found {found}, expected {low:g} to {high:g}"


def _apart(cosine: float | None, least: float) -> str:
    if cosine is None or cosine >= least:  # which a NaN is not
        return ""
    return f"found cosine {cosine:.6f}, expected at least {least:g}"


def _ratio(a: float, b: float) -> float:
    if a == 0:
        return 1.0 if b == 0 else inf
    return b / a


def _chosen(layer: int | None, share: float, band: Band) -> Line:
    fault = f"found {share:.0%} of the experts in common, expected {band.experts:.0%}"
    return Line(layer, EXPERTS, experts=share, fault="" if share >= band.experts else fault)


def _shares(a: Trace, b: Trace) -> Iterator[float]:
    """For each layer, the share of A's chosen experts that B chose for the same token."""
    for x, y in zip(a.experts, b.experts, strict=True):
        pairs = [(set(s), set(t)) for s, t in zip(x, y, strict=True)]
        yield sum(len(s & t) for s, t in pairs) / sum(len(s) for s, _ in pairs)


def _least_cosine(
    place: Place, a: Mapping[Place, Tensor], b: Mapping[Place, Tensor]
) -> float | None:
    if place not in a or place not in b:
        return None
    x, y = a[place], b[place]
    choice = (place[0], EXPERTS)
    if place[1] == "router_weights":
        x, y = _by_expert(x, a[choice], y, b[choice])
    elif x.dim() == 3:
        x, y = _in_common(x, a[choice], y, b[choice])
    return least_cosine(x, y)


def least_cosine(a: Tensor, b: Tensor) -> float | None:
    """The least cosine of any two rows of a and b [..., n], in float64; None of no rows.

    Of two rows of zeros it is 1, of one it is 0; a NaN makes it NaN.
    """
    if not a.numel():
        return None
    a, b = a.double().flatten(0, -2), b.double().flatten(0, -2)
    cosines = (_directions(a) * _directions(b)).sum(dim=-1)
    both_zero = ~(a.any(dim=-1) | b.any(dim=-1))
    return float(cosines.masked_fill(both_zero, 1.0).min())


def _directions(rows: Tensor) -> Tensor:
    """Rows [N, n] of length 1; a row of zeros stays."""
    length: Tensor = rows.norm(dim=-1, keepdim=True)
    return rows / length.clamp(min=1e-300)


def _by_expert(a: Tensor, chosen_a: Tensor, b: Tensor, chosen_b: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [T, K] as [T, E]: two that are nearly equal may change ranks without meaning."""
    experts = int(max(chosen_a.max(), chosen_b.max())) + 1
    empty = a.new_zeros(len(a), experts)
    return empty.scatter(1, chosen_a, a), empty.scatter(1, chosen_b, b)


def _in_common(a: Tensor, chosen_a: Tensor, b: Tensor, chosen_b: Tensor) -> tuple[Tensor, Tensor]:
    """Of what experts made [T, K, n], the rows [N, n] of those that both sides chose."""
    same = chosen_a[:, :, None] == chosen_b[:, None, :]  # [T, K, K]
    token, rank_a, rank_b = torch.where(same)
    return a[token, rank_a], b[token, rank_b]


def require_alike(a: Trace, b: Trace) -> None:
    """Refuse two traces whose statistics are of different things."""
    _require_same("architecture", a, b, a.architecture, b.architecture)
    _require_same("tokens traced", a, b, a.tokens, b.tokens)
    _require_same("tokens of the prompt", a, b, len(a.prompt_ids), len(b.prompt_ids))
    for place, ids in enumerate(zip(a.prompt_ids, b.prompt_ids, strict=True)):
        _require_same(f"token {place} of the prompt", a, b, *ids)
    _require_same("layers", a, b, a.layers, b.layers)
    _require_same("stages", a, b, len(a.stages), len(b.stages))
    for trace in (a, b):
        trace.require_whole()
    for x, y in zip(a.stages, b.stages, strict=True):
        _require_same("stage", a, b, named(x.place), named(y.place))
        _require_same(f"numbers in {named(x.place)}", a, b, x.count, y.count)
        _require_same(f"shape of {named(x.place)}", a, b, list(x.shape), list(y.shape))


def _require_same(what: str, a: Trace, b: Trace, x: object, y: object) -> None:
    if x != y:
        raise EngineError(
            f"{what}: found {x} in A ({a.label}) and {y} in B ({b.label}), expected the same"
        )
