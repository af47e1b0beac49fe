"""What the losses of distillation take, and the error for what they do not.

Knows shapes, types and ranges; knows no loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

from engine.errors import EngineError, TensorError

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32)


@dataclass(frozen=True)
class Mix:
    """How the two terms are mixed; `alpha` is the weight of the cross-entropy."""

    temperature: float
    alpha: float

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature > 0):
            raise EngineError(f"temperature: found {self.temperature}, expected more than 0")
        if not 0 <= self.alpha <= 1:
            raise EngineError(
                f"alpha, the weight of the cross-entropy: found {self.alpha}, expected 0 to 1"
            )


def require_logits(student: Tensor, teacher: Tensor, labels: Tensor) -> None:
    """Logits of both sides [..., V], and labels [...]."""
    require("student_logits", student, (*student.shape[:-1], "V"))
    if teacher.shape[-1:] > student.shape[-1:]:
        raise TensorError(
            f"teacher_logits: found a vocabulary of {teacher.shape[-1]}, expected the student's "
            f"{student.shape[-1]}: cut the teacher's logits before the loss"
        )
    require("teacher_logits", teacher, student.shape, like=student)
    require_labels(labels, student.shape[:-1], student.shape[-1], student)


def require_kept(student: Tensor, kept: Tensor, ids: Tensor, labels: Tensor) -> None:
    """The student's logits [..., V], K of the teacher's and their ids [..., K], labels [...]."""
    require("student_logits", student, (*student.shape[:-1], "V"))
    require("kept_logits", kept, (*student.shape[:-1], "K"), like=student)
    require("kept_ids", ids, kept.shape, INTEGERS, student)
    _require_range("kept_ids", ids, 0, student.shape[-1])
    require_labels(labels, student.shape[:-1], student.shape[-1], student)


def require_linear(
    hidden: Tensor, weight: Tensor, teacher_hidden: Tensor, teacher_weight: Tensor, labels: Tensor
) -> None:
    """Hidden states [..., H] and output weights [V, H] of both sides, each of its own H."""
    require("student_hidden", hidden, (*hidden.shape[:-1], "H"))
    require("student_weight", weight, ("V", hidden.shape[-1]), (hidden.dtype,), hidden)
    require("teacher_hidden", teacher_hidden, (*hidden.shape[:-1], "H"), like=hidden)
    shape, dtype = ("V", teacher_hidden.shape[-1]), teacher_hidden.dtype
    require("teacher_weight", teacher_weight, shape, (dtype,), hidden)
    if len(teacher_weight) < len(weight):
        raise TensorError(
            f"teacher_weight: found {len(teacher_weight)} tokens, expected the student's "
            f"{len(weight)} or more"
        )
    require_labels(labels, hidden.shape[:-1], len(weight), hidden)


def require(
    name: str,
    x: Tensor,
    shape: Sequence[int | str],
    types: Sequence[torch.dtype] = FLOATS,
    like: Tensor | None = None,
) -> None:
    """A shape, where a letter stands for any size but 0; a type; the device of `like`."""
    sizes = zip(x.shape, shape, strict=False)
    if x.dim() != len(shape) or not all(n > 0 if isinstance(m, str) else n == m for n, m in sizes):
        expected = ", ".join(map(str, shape))
        raise TensorError(f"{name}: found {list(x.shape)}, expected [{expected}]")
    if x.dtype not in types:
        raise TensorError(f"{name}: found {x.dtype}, expected {' or '.join(map(str, types))}")
    if like is not None and x.device != like.device:
        raise TensorError(f"{name}: found on {x.device}, expected on {like.device}")


def require_labels(labels: Tensor, shape: Sequence[int], vocabulary: int, like: Tensor) -> None:
    """Ids of the vocabulary, or less than 0."""
    require("labels", labels, shape, INTEGERS, like)
    _require_range("labels", labels, None, vocabulary)


def _require_range(name: str, ids: Tensor, least: int | None, vocabulary: int) -> None:
    wrong = ids >= vocabulary
    wrong = wrong if least is None else wrong | (ids < least)
    if wrong.any():
        found = int(ids[wrong][0])
        lowest = "less" if least is None else f"at least {least}, and less"
        raise TensorError(f"{name}: found {found}, expected {lowest} than {vocabulary}")
