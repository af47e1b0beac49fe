"""The loss of one distillation step, and its gradient in closed form.

    L = alpha CE(s, y) + (1 - alpha) T^2 KL(softmax(t / T) || softmax(s / T))

`alpha` weights the cross-entropy with the labels, and 1 - alpha the divergence from the teacher.
Half of the field has it the other way round, where alpha weights the divergence: a recipe from
there takes 1 - alpha here. T is the temperature, s are the student's logits, t the teacher's.

Knows logits; knows no model, no data and no optimiser. The teacher is a constant: no gradient goes
to it. Sums are in float32 (in float64 for float64), whatever the logits are in. A loss that is
not finite, as that of a student who gives no chance to what the teacher expects, comes back as it
is. Shape letters: N rows, which are tokens; V vocabulary; K logits that a cache kept of V.
Source: Hinton, Vinyals and Dean 2015, Distilling the knowledge in a neural network, section 2.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.distill.loss_inputs import Mix, require_kept, require_logits

BLOCK = {"cpu": 2**22}  # logits that are worked on at once: about what a cache holds
WIDE_BLOCK = 2**25  # on other devices: few launches, and little memory beside the logits


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
) -> Tensor:
    """The mean loss over the tokens that count, a scalar in float32 (float64 for float64).

    Logits are [..., V], labels [...]: the id of the token that follows, or less than 0 where a
    token does not count. Where none counts the loss is 0, and so is its gradient. `alpha` weights
    the cross-entropy. Raises TensorError for shapes, types and labels that do not fit, EngineError
    for a temperature or an alpha out of range.
    """
    mix = Mix(temperature, alpha)
    require_logits(student_logits, teacher_logits, labels)
    return _loss(student_logits, teacher_logits, None, labels, mix)


def kd_logit_gradient(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
) -> Tensor:
    """The gradient of `kd_loss` to the student's logits, in their shape and type.

    alpha (softmax(s) - onehot(y)) + (1 - alpha) T (softmax(s / T) - softmax(t / T)), over the
    number of tokens that count: one factor T, as the derivative of s / T takes the other.
    """
    mix = Mix(temperature, alpha)
    require_logits(student_logits, teacher_logits, labels)
    with torch.no_grad():
        _, gradient = _sweep(student_logits, teacher_logits, None, labels, mix)
    return gradient.to(student_logits.dtype).view_as(student_logits)


def sparse_kd_loss(
    student_logits: Tensor,
    kept_logits: Tensor,
    kept_ids: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
) -> Tensor:
    """`kd_loss` for a teacher of whom only some logits were kept: [..., K] and their ids [..., K].

    The teacher's distribution is the softmax over those K, so that it sums to 1; the student's is
    over all V. A place that holds no logit has -inf, with any id of the vocabulary.
    """
    mix = Mix(temperature, alpha)
    require_kept(student_logits, kept_logits, kept_ids, labels)
    return _loss(student_logits, kept_logits, kept_ids, labels, mix)


def _loss(student: Tensor, teacher: Tensor, ids: Tensor | None, labels: Tensor, mix: Mix) -> Tensor:
    wanted = torch.is_grad_enabled() and student.requires_grad
    loss: Tensor = _Loss.apply(student, teacher, ids, labels, mix, wanted)  # type: ignore[no-untyped-call]
    return loss


class _Loss(torch.autograd.Function):
    """The gradient is made with the loss, while the logits are in the processor's cache."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        ids: Tensor | None,
        labels: Tensor,
        mix: Mix,
        wanted: bool,
    ) -> Tensor:
        loss, gradient = _sweep(student, teacher, ids, labels, mix, wanted)
        ctx.save_for_backward(gradient)
        ctx.shape, ctx.dtype = student.shape, student.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        gradient.mul_(upstream)  # in place: autograd refuses a second backward pass
        return gradient.to(ctx.dtype).view(ctx.shape), None, None, None, None, None


def _sweep(
    student: Tensor,
    teacher: Tensor,
    ids: Tensor | None,
    labels: Tensor,
    mix: Mix,
    wanted: bool = True,
) -> tuple[Tensor, Tensor]:
    """The mean loss and its gradient [N, V], block by block; the gradient is empty if unwanted."""
    s, t = student.reshape(-1, student.shape[-1]), teacher.reshape(-1, teacher.shape[-1])
    y, kept = labels.reshape(-1), None if ids is None else ids.reshape(t.shape)
    rows = counted(y)
    # A gradient in float16 would vanish before a scaler of losses can lift it.
    held = torch.float32 if s.dtype is torch.float16 else s.dtype
    gradient = torch.zeros(s.shape if wanted else (0,), dtype=held, device=s.device)
    total = torch.zeros((), dtype=torch.float64, device=s.device)
    for block in blocks(rows, len(s), block_size(s)):
        chosen = None if kept is None else kept[block].long()
        losses, found = token_losses(wide(s[block]), wide(t[block]), chosen, y[block].long(), mix)
        total += losses.sum()
        if wanted:
            gradient[block] = found.div_(len(rows)).to(held)
    return (total / max(len(rows), 1)).to(wide_type(s.dtype)), gradient


def counted(labels: Tensor) -> Tensor:
    """The rows [N] whose label is one."""
    return (labels >= 0).nonzero().squeeze(1)


def blocks(rows: Tensor, total: int, size: int) -> Iterator[Tensor | slice]:
    """`rows` of so many, some at a time; as slices, which copy nothing, where they are all."""
    if len(rows) < total:
        yield from torch.split(rows, size)
    else:
        yield from (slice(first, first + size) for first in range(0, total, size))


def block_size(logits: Tensor) -> int:
    """Rows that are worked on at once."""
    return max(1, BLOCK.get(logits.device.type, WIDE_BLOCK) // logits.shape[1])


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """What sums are made in."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def wide(x: Tensor) -> Tensor:
    return x.to(wide_type(x.dtype))


def token_losses(
    s: Tensor, t: Tensor, ids: Tensor | None, labels: Tensor, mix: Mix
) -> tuple[Tensor, Tensor]:
    """The loss of each row [N] in float64, and its gradient to `s` [N, V].

    A term without weight is left out, as 0 times its infinity would be no number.
    """
    s, t = s - s.amax(-1, keepdim=True), t.to(s.dtype)  # N V
    if mix.alpha == 1:
        return cross_entropy(s, labels, 1)
    far, pull = divergence(s, t, ids, mix.temperature, 1 - mix.alpha)
    if mix.alpha == 0:
        return far, pull
    off, push = cross_entropy(s, labels, mix.alpha)
    return far + off, pull.add_(push)


def cross_entropy(s: Tensor, labels: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """CE of rows [N, V] whose largest logit is 0, and softmax(s) - onehot(y); times `weight`."""
    at, q = labels[:, None], s.exp()  # N 1, N V
    total = q.sum(-1, keepdim=True)
    losses = (total.double().log() - s.gather(1, at)).squeeze(1)
    push = q.mul_(weight / total).scatter_add_(1, at, q.new_full(at.shape, -weight))
    return weight * losses, push


def divergence(
    s: Tensor, t: Tensor, ids: Tensor | None, temperature: float, weight: float
) -> tuple[Tensor, Tensor]:
    """T^2 KL(softmax(t / T) || softmax(s / T)) of rows, and T (softmax(s / T) - softmax(t / T)).

    Both times `weight`. The largest logit is taken off before the division, and logarithms of sums
    are in float64: T^2 is a factor on whatever is rounded.
    """
    s, t = s / temperature, (t - t.amax(-1, keepdim=True)).div_(temperature)
    q, p = s.exp(), t.exp()  # N V, N V or N K
    sum_q, sum_p = q.sum(-1, keepdim=True), p.sum(-1, keepdim=True)
    gaps = t.sub_(s if ids is None else s.gather(1, ids))
    # Masked by the teacher is 0 times infinity, and counts 0; a logit that is NaN is in the sums.
    losses = gaps.mul_(p).nansum(-1, keepdim=True) / sum_p.double()
    losses += sum_q.double().log() - sum_p.double().log()
    q.mul_(weight * temperature / sum_q)
    drawn = -weight * temperature / sum_p  # N 1
    pull = q.addcmul_(p, drawn) if ids is None else q.scatter_add_(1, ids, p.mul_(drawn))
    return weight * temperature**2 * losses.squeeze(1), pull
