"""The loss of a distillation step from hidden states and output weights, a piece at a time.

Of both sides' logits only those of `chunk` tokens are there at once, never [tokens, vocabulary];
the gradients to the student's hidden states and output weight are made with them. Knows no model:
H is the student's width, G the teacher's, V the vocabulary, N tokens.
Source: as in Liger-Kernel (arXiv 2410.10989, section 3.2), but exact in any number of pieces.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from engine.distill.loss_inputs import Mix, require_linear
from engine.distill.losses import block_size, counted, token_losses, wide, wide_type
from engine.errors import EngineError

LOGITS = 2**25  # of one side, in a chunk of the default size


def linear_kd_loss(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    labels: Tensor,
    *,
    temperature: float,
    alpha: float,
    chunk: int | None = None,
) -> Tensor:
    """`kd_loss` of the logits that both sides' weights make of their hidden states.

    Hidden states are [..., H] and [..., G], weights [V, H] and [at least V, G], labels [...]. Rows
    of the teacher's weight beyond the student's vocabulary are left out. `alpha` weights the
    cross-entropy, as there. Tokens that do not count cost nothing. `chunk` is the number of tokens
    that are worked on at once. Gradients go to the student's two tensors; under autocast all are
    cast first, as a linear layer's would be. Raises TensorError and EngineError as `kd_loss` does.
    """
    mix = Mix(temperature, alpha)
    given = [student_hidden, student_weight, teacher_hidden, teacher_weight]
    device = student_hidden.device.type
    if torch.is_autocast_enabled(device):
        given = [x.to(torch.get_autocast_dtype(device)) for x in given]
    x, w, z, v = given
    require_linear(x, w, z, v, labels)
    size = chunk_size(len(student_weight)) if chunk is None else chunk
    if size < 1:
        raise EngineError(f"chunk: found {size}, expected at least 1 token")
    tensors = [x if torch.is_grad_enabled() else x.detach() for x in given]
    with torch.autocast(device, enabled=False):
        loss: Tensor = _LinearLoss.apply(*tensors, labels, mix, size)  # type: ignore[no-untyped-call]
    return loss


def chunk_size(vocabulary: int) -> int:
    """Tokens whose logits of one side take 128 MiB in float32."""
    return max(1, LOGITS // vocabulary)


class _LinearLoss(torch.autograd.Function):
    """Gradients are made in the forward pass, from the logits of each chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        teacher_hidden: Tensor,
        teacher_weight: Tensor,
        labels: Tensor,
        mix: Mix,
        size: int,
    ) -> Tensor:
        x, z, y = flat(hidden), flat(teacher_hidden), labels.reshape(-1).long()
        teacher_weight = teacher_weight[: len(weight)]
        to_hidden, to_weight = (
            torch.zeros_like(like, dtype=wide_type(like.dtype)) if needed else None
            for like, needed in zip((x, weight), ctx.needs_input_grad, strict=False)
        )
        rows = counted(y)
        total = torch.zeros((), dtype=torch.float64, device=x.device)
        scratch = [w.new_empty(min(size, len(rows)), len(weight)) for w in (weight, teacher_weight)]
        for chunk in chunks(rows, size):
            inputs = x[chunk]
            s, t = (each[: len(chunk)] for each in scratch)
            torch.mm(inputs, weight.T, out=s)
            torch.mm(z[chunk], teacher_weight.T, out=t)
            total += losses_of(s, t, y[chunk], mix)
            if to_hidden is not None:
                to_hidden[chunk] = wide(s @ weight)
            if to_weight is not None:
                add_product(to_weight, s.T, inputs)
        count = max(len(rows), 1)
        ctx.save_for_backward(to_hidden, to_weight)
        ctx.count, ctx.shape, ctx.dtypes = count, hidden.shape, (hidden.dtype, weight.dtype)
        return (total / count).to(wide_type(hidden.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        found = [  # in place: autograd refuses a second backward pass
            None if each is None else each.mul_(upstream / ctx.count).to(dtype)
            for each, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        to_hidden, to_weight = found
        to_hidden = None if to_hidden is None else to_hidden.view(ctx.shape)
        return to_hidden, to_weight, None, None, None, None, None


def flat(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])  # N H


def chunks(rows: Tensor, size: int) -> Sequence[Tensor]:
    """`rows` in pieces of `size`, the last of which may be shorter."""
    return torch.split(rows, size)


def losses_of(s: Tensor, t: Tensor, labels: Tensor, mix: Mix) -> Tensor:
    """The sum of a chunk's losses; its gradient takes the place of `s`."""
    total = torch.zeros((), dtype=torch.float64, device=s.device)
    size = block_size(s)
    for logits, aims, ids in zip(*(torch.split(x, size) for x in (s, t, labels)), strict=True):
        losses, gradient = token_losses(wide(logits), wide(aims), None, ids, mix)
        total += losses.sum()
        logits.copy_(gradient)
    return total


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left @ right, where what is added up is wide and a product may be narrow."""
    if total.dtype is left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
