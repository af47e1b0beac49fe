"""The definition of a bound, told a second time; shares no code with the harness."""

import math

ADMITS = {
    "le": lambda value, limit: value <= limit,
    "lt": lambda value, limit: value < limit,
    "ge": lambda value, limit: value >= limit,
    "gt": lambda value, limit: value > limit,
    "eq": lambda value, limit: value == limit,
    "between": lambda value, ends: ends[0] <= value <= ends[1],
}


def admits(bound: dict, value: float) -> bool:
    """The definition of a bound; what is not a finite number is never admitted."""
    [(kind, limit)] = bound.items()
    finite = isinstance(value, int) or math.isfinite(value)
    return finite and ADMITS[kind](value, limit)
