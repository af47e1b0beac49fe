"""Where a value stands against its bound, and how it moved, as positions to draw; no markup.

Positions are whole percents of the width. Positive numbers that differ by much are laid out by
their logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tollens.bounds import Measure
from tollens.measured import Point

WIDE = 30  # a ratio from which on a scale is logarithmic
PAD = 0.08
GAP = 3  # a broken bound is seen to be broken, however narrowly


@dataclass(frozen=True)
class Scale:
    """What the bound admits is drawn from `start` to `stop`, and the value at `at`."""

    start: int
    stop: int
    at: int
    logarithmic: bool


def scale(measure: Measure, value: Any, held: bool) -> Scale | None:
    """The scale of a number under a numeric bound; None for anything else."""
    limits = measure.limit if isinstance(measure.limit, list) else [measure.limit]
    if not all(map(_finite, [value, *limits])):
        return None
    place, logarithmic = _axis([float(value), *map(float, limits)])
    start = 0 if measure.kind in ("le", "lt") else place(limits[0])
    stop = 100 if measure.kind in ("ge", "gt") else place(limits[-1])
    return Scale(start, stop, _truthful(place(value), start, stop, held), logarithmic)


def trend(points: Sequence[Point]) -> list[tuple[int, int, bool]] | None:
    """(x, y, held) of each point, y growing downwards; None where nothing moved."""
    values = [point.value for point in points]
    if len(set(values)) < 2 or not all(map(_finite, values)):
        return None
    place, _ = _axis(values, zero=False)
    last = len(values) - 1
    return [
        (round(100 * i / last), 100 - place(point.value), point.held)
        for i, point in enumerate(points)
    ]


def _finite(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and abs(value) < 1e300


def _axis(values: Sequence[float], zero: bool = True) -> tuple[Callable[[float], int], bool]:
    """How to place a number on an axis that shows all `values`, and whether it is logarithmic."""
    logarithmic = min(values) > 0 and max(values) / min(values) >= WIDE
    of: Callable[[float], float] = math.log10 if logarithmic else float
    shown = [of(value) for value in values] + ([0.0] if zero and not logarithmic else [])
    low, high = min(shown), max(shown)
    if low == high:
        low, high = low - 1, high + 1
    width = (high - low) * (1 + 2 * PAD)
    return lambda value: round(100 * ((of(value) - low) / width + PAD / (1 + 2 * PAD))), logarithmic


def _truthful(at: int, start: int, stop: int, held: bool) -> int:
    """`at`, moved by rounding's share: inside what is admitted if it held, and else outside."""
    if held:
        return min(max(at, start), stop)
    if start <= at <= stop:
        return start - GAP if at - start < stop - at else stop + GAP
    return at
