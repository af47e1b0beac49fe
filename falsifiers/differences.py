"""How far two results are apart, as one number that no exception and no shape can hide behind."""

import math
from collections.abc import Sequence

from torch import Tensor


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest number; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return math.inf
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


def differing(found: Sequence[object], expected: Sequence[object]) -> int:
    """Places that hold another thing, those that only one of the two has included."""
    pairs = zip(found, expected, strict=False)
    return sum(a != b for a, b in pairs) + abs(len(found) - len(expected))


def relative_l2(found: Tensor, expected: Tensor) -> float:
    """The L2 norm of the difference as a share of the expected one's; infinite for other shapes."""
    if found.shape != expected.shape:
        return math.inf
    return float((found.double() - expected.double()).norm() / expected.double().norm())
