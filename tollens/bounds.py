"""A measure's bound and how a value is judged by it; knows no tests and no contracts."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from tollens.confidence import Estimate, bootstrap_median, trials_to_settle, wilson
from tollens.verdicts import Verdict

Scalar = bool | int | float | str
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
KINDS = ("le", "lt", "ge", "gt", "eq", "between")
SIGNS = {"le": "≤", "lt": "<", "ge": "≥", "gt": ">", "eq": "="}
ORDERS: dict[str, Callable[[float, float], bool]] = {
    "le": operator.le,
    "lt": operator.lt,
    "ge": operator.ge,
    "gt": operator.gt,
}


class Strict(BaseModel):
    """Base of the contract's models: frozen, and an unknown key is an error.

    The text under a field is its description in the published schema and in the documentation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Measure(Strict):
    """A quantity that the falsifier observes, and the bound that it must keep.

    Exactly one of `le lt ge gt eq between`. With `confidence`, the bound must hold at the worse
    end of the interval of the samples or trials that the test observes.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [k]} for k in KINDS]})

    le: Number | None = None
    """At most this number."""
    lt: Number | None = None
    """Less than this number."""
    ge: Number | None = None
    """At least this number."""
    gt: Number | None = None
    """More than this number."""
    eq: StrictBool | StrictInt | Number | StrictStr | None = None
    """Exactly this number, string or boolean."""
    between: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    """Between these two numbers, the ends included."""
    unit: str = ""
    """Of what the number counts; shown, and never compared."""
    confidence: Annotated[float, Field(strict=True, gt=0.5, lt=1.0)] | None = None
    """Judge the worse end of an interval at this confidence, for a noisy measure."""

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        given = [kind for kind in KINDS if kind in self.model_fields_set]
        if len(given) != 1 or getattr(self, given[0]) is None:
            found = " and ".join(given) or "none"
            raise ValueError(f"exactly one of {' '.join(KINDS)} is expected; found {found}")
        if self.between and self.between[0] > self.between[1]:
            raise ValueError(f"between wants [low, high]; found {self.between}")
        if self.confidence and self.kind == "eq":
            raise ValueError("confidence goes with an ordered bound (le lt ge gt between), not eq")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def limit(self) -> Any:
        return getattr(self, self.kind)

    def __str__(self) -> str:
        if self.between:
            return f"in [{exact(self.between[0])}, {exact(self.between[1])}]"
        return f"{SIGNS[self.kind]} {exact(self.limit)}"

    def margin(self, value: Scalar) -> float | None:
        """Distance from the bound, negative where it is broken; None where there is no distance."""
        limit = self.limit
        if isinstance(value, str | bool) or isinstance(limit, str | bool):
            return None
        if isinstance(limit, list):
            return min(_distance(value, limit[0]), _distance(limit[1], value))
        if self.kind == "eq":
            return 0.0 - abs(_distance(value, limit))
        return _distance(limit, value) if self.kind in ("le", "lt") else _distance(value, limit)

    def holds(self, value: Scalar) -> bool:
        """Whether `value` keeps the bound; a non-finite number never does."""
        if isinstance(value, float) and not math.isfinite(value):
            return False
        if self.between and not isinstance(value, str):
            return self.between[0] <= value <= self.between[1]
        if self.kind == "eq":
            return bool(value == self.limit)
        return not isinstance(value, str) and ORDERS[self.kind](value, self.limit)


def _distance(high: float, low: float) -> float:
    """`high - low`, finite also where a float cannot hold it, so that JSON can."""
    try:
        return float(Fraction(high) - Fraction(low))
    except OverflowError:
        return math.copysign(sys.float_info.max, 1 if high > low else -1)


@dataclass(frozen=True)
class Judged:
    """One measure after judgement, as it goes into the evidence."""

    value: Scalar
    bound: str
    unit: str
    held: bool
    margin: float | None = None
    interval: tuple[float, float] | None = None
    method: str | None = None
    count: int | None = None
    verdict: Verdict = Verdict.CORROBORATED
    note: str = ""


def judge_value(measure: Measure, value: Scalar) -> Judged:
    """Judge one exact value: it keeps the bound, or the claim is falsified."""
    held = measure.holds(value)
    verdict = Verdict.CORROBORATED if held else Verdict.FALSIFIED
    finite = not isinstance(value, float) or math.isfinite(value)
    margin = measure.margin(value) if finite else None
    return Judged(value, str(measure), measure.unit, held, margin, verdict=verdict)


def judge_estimate(measure: Measure, estimate: Estimate) -> Judged:
    """Judge a noisy measure: its bound must hold at the worse end of the interval."""
    ends = [end for end in (estimate.low, estimate.high) if math.isfinite(end)]
    held = len(ends) == 2 and all(measure.holds(end) for end in ends)
    verdict, note = Verdict.CORROBORATED, ""
    if not measure.holds(estimate.value):
        verdict = Verdict.FALSIFIED
    elif not held:
        verdict = Verdict.INCONCLUSIVE
        more = trials_to_settle(estimate, measure.between or [measure.limit])
        note = f"about {more:,} more trials would settle it" if more else "it lies on the bound"
    return Judged(
        value=estimate.value,
        bound=str(measure),
        unit=measure.unit,
        held=held,
        margin=min((measure.margin(end) or 0.0 for end in ends), default=None),
        interval=(estimate.low, estimate.high) if ends else None,
        method=f"{estimate.method} at {estimate.confidence:g}",
        count=estimate.count,
        verdict=verdict,
        note=note,
    )


def estimate(measure: Measure, samples: Sequence[float], rate: tuple[int, int] | None) -> Estimate:
    """The estimate of a measure that declares `confidence`, from its samples or its trials."""
    confidence = measure.confidence or 0.95
    return wilson(*rate, confidence) if rate else bootstrap_median(samples, confidence)


def accepts(measure: Measure, value: object) -> bool:
    """Whether `value` is of the bound's kind: number, string or boolean."""
    limit = measure.limit
    if isinstance(limit, bool) or isinstance(value, bool):
        return isinstance(limit, bool) and isinstance(value, bool)
    kind: type | tuple[type, ...] = str if isinstance(limit, str) else (int, float)
    return isinstance(value, kind)


def show(value: object) -> str:
    """A value for people: six significant digits, whole numbers whole, text quoted if odd."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def exact(value: object) -> str:
    """A bound as it is, in the fewest digits; `show` would round it."""
    return repr(value).removesuffix(".0") if isinstance(value, float) else show(value)
