"""What a student is trained towards: a teacher's say on a batch, in the smallest form it has.

Knows which teacher gives hidden states, kept logits or all of them, and which loss takes which;
knows nothing of optimisers or data. A teacher's surplus vocabulary is cut before its softmax.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from engine.distill.data import Batch
from engine.distill.linear_loss import linear_kd_loss
from engine.distill.losses import kd_loss, sparse_kd_loss
from engine.distill.teachers import NoTeacher, Teacher
from engine.distill.vocabulary import align, align_kept


@runtime_checkable
class GivesHidden(Protocol):
    """A teacher that can leave its output matrix to the loss."""

    def hidden(self, batch: Batch) -> Tensor:
        """[B, T, H]."""

    def output_weight(self) -> Tensor:
        """[V, H]."""


@runtime_checkable
class GivesKept(Protocol):
    """A teacher that has its K best logits alone."""

    def kept(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits and ids [B, T, K]."""


@dataclass(frozen=True)
class Objective:
    """The loss of one pair: `alpha` weights the cross-entropy, 1 - alpha the teacher."""

    temperature: float
    alpha: float


class Target(Protocol):
    """What a teacher said of a batch, on the student's device."""

    @property
    def tensors(self) -> tuple[Tensor, ...]: ...

    def loss(self, hidden: Tensor, weight: Tensor, labels: Tensor, goal: Objective) -> Tensor:
        """Of hidden states [B, T, H] and the output matrix [V, H]: the mean over counted tokens."""


@dataclass(frozen=True)
class Hidden:
    """Hidden states [B, T, Ht] and the teacher's output matrix [V, Ht]."""

    states: Tensor
    output: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.states,)

    def loss(self, hidden: Tensor, weight: Tensor, labels: Tensor, goal: Objective) -> Tensor:
        return linear_kd_loss(
            hidden,
            weight,
            self.states,
            self.output,
            labels,
            temperature=goal.temperature,
            alpha=goal.alpha,
        )


@dataclass(frozen=True)
class Kept:
    """The K best logits and their ids, [B, T, K]."""

    logits: Tensor
    ids: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.logits, self.ids)

    def loss(self, hidden: Tensor, weight: Tensor, labels: Tensor, goal: Objective) -> Tensor:
        logits = functional.linear(hidden, weight)
        return sparse_kd_loss(
            logits,
            self.logits,
            self.ids,
            labels,
            temperature=goal.temperature,
            alpha=goal.alpha,
        )


@dataclass(frozen=True)
class Dense:
    """All logits [B, T, V]."""

    logits: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.logits,)

    def loss(self, hidden: Tensor, weight: Tensor, labels: Tensor, goal: Objective) -> Tensor:
        logits = functional.linear(hidden, weight)
        return kd_loss(logits, self.logits, labels, temperature=goal.temperature, alpha=goal.alpha)


@dataclass(frozen=True)
class TextAlone:
    """Of no teacher: the labels are all there is."""

    tensors: tuple[Tensor, ...] = ()

    def loss(self, hidden: Tensor, weight: Tensor, labels: Tensor, goal: Objective) -> Tensor:
        logits = functional.linear(hidden, weight)
        return kd_loss(logits, logits.detach(), labels, temperature=1.0, alpha=1.0)


class Targets:
    """A teacher's targets for a student of so many tokens on a device."""

    def __init__(self, teacher: Teacher, vocabulary_size: int, device: torch.device) -> None:
        self._teacher, self._size, self._device = teacher, vocabulary_size, device
        self._hidden = teacher if isinstance(teacher, GivesHidden) else None
        self._output = torch.empty(0)
        if self._hidden is not None:
            matrix = self._hidden.output_weight()  # [Vt, Ht], cut as its logits would be
            self._output = align(matrix.T, vocabulary_size).T.to(device)

    def of(self, batch: Batch) -> Target:
        """What the teacher says of a batch."""
        teacher = self._teacher
        if isinstance(teacher, NoTeacher):
            return TextAlone()
        if self._hidden is not None:
            return Hidden(self._hidden.hidden(batch).to(self._device), self._output)
        if isinstance(teacher, GivesKept):
            logits, ids = align_kept(*teacher.kept(batch), self._size)
            return Kept(logits.to(self._device), ids.to(self._device))
        return Dense(align(teacher.logits(batch), self._size).to(self._device))

    @torch.no_grad()
    def best(self, batch: Batch) -> Tensor | None:
        """The token [B, T] that the teacher finds likeliest; None of one that has its own data."""
        if isinstance(self._teacher, GivesKept | NoTeacher):
            return None
        found = self.of(batch)
        if isinstance(found, Hidden):  # a window at a time, for a vocabulary is wide
            return torch.stack([(each @ found.output.T).argmax(-1) for each in found.states])
        return found.logits.argmax(-1) if isinstance(found, Dense) else None


def arrived(target: Target) -> None:
    """Tell CUDA's allocator that this thread's stream uses what another stream made."""
    for each in target.tensors:
        if each.is_cuda:
            each.record_stream(torch.cuda.current_stream(each.device))
