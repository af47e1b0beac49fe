"""The loss of distillation as torch's own modules have it, in float64, and the cases to judge by.

Shares no code with `engine.distill`: rows are taken one at a time, without masked columns, and the
gradient is autograd's.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import CrossEntropyLoss, KLDivLoss
from torch.utils._python_dispatch import TorchDispatchMode

FAR = 1e4


def oracle(
    s: Tensor, t: Tensor, labels: Tensor, *, temperature: float, alpha: float
) -> tuple[float, Tensor]:
    """The mean loss over the tokens that count, and its gradient to `s`, both in float64."""
    leaf = s.detach().double().requires_grad_()
    rows = zip(
        leaf.flatten(0, -2), t.detach().double().flatten(0, -2), labels.flatten(), strict=True
    )
    losses = [of_row(*row, temperature, alpha) for row in rows if row[2] >= 0]
    loss = torch.stack(losses).mean()
    loss.backward()
    return loss.item(), leaf.grad


def of_row(s: Tensor, t: Tensor, label: Tensor, temperature: float, alpha: float) -> Tensor:
    seen = (s > -torch.inf).nonzero().squeeze(1)
    s, t, at = s[seen], t[seen], (seen == label).nonzero().squeeze()
    entropy = CrossEntropyLoss()(s, at)
    target = (t / temperature).softmax(-1)
    far = KLDivLoss(reduction="sum")((s / temperature).log_softmax(-1), target)
    return alpha * entropy + (1 - alpha) * temperature**2 * far


class Errors(NamedTuple):
    """Of the loss, and of the largest gradient's entry."""

    absolute: float
    relative: float
    gradient: float
    not_finite: int


def compared(loss_of, case, mix, loss: float, expected: Tensor, dtype: torch.dtype) -> Errors:
    """How far from the oracle's a loss and its gradient by autograd are, for logits in `dtype`."""
    s, *others, labels = case
    leaf = s.detach().to(dtype, copy=True).requires_grad_()
    others = [x.to(dtype) if x.is_floating_point() else x for x in others]
    found = loss_of(leaf, *others, labels, **mix)
    (2 * found).backward()
    error = abs(found.item() - loss)
    off = (leaf.grad.double() / 2 - expected).abs().max().item()
    bad = (~torch.isfinite(leaf.grad)).sum() + (~torch.isfinite(found)).sum()
    return Errors(error, error / abs(loss), off, int(bad))


def ordinary(s: Tensor, t: Tensor, labels: Tensor) -> None:
    """As they come."""


def shifted(s: Tensor, t: Tensor, labels: Tensor) -> None:
    """Whole rows far from 0, the two sides not alike."""
    s += torch.tensor([FAR, -FAR])[:, None, None]
    t += torch.tensor([FAR, 0, -FAR])[:, None]


def striped(s: Tensor, t: Tensor, labels: Tensor) -> None:
    """Every second column at -1e4, the others at 1e4, which is where labels are."""
    for side in (s, t):
        side += FAR * (1 - 2 * (torch.arange(side.shape[-1]) % 2))
    labels[labels > 0] &= ~1


def opposed(s: Tensor, t: Tensor, labels: Tensor) -> None:
    """Each side is sure of another token: the loss is above 1e4."""
    s[..., 0] += FAR
    t[..., 1] += FAR


def masked(s: Tensor, t: Tensor, labels: Tensor) -> None:
    """Columns at -inf, in the teacher more than in the student; rows that do not count, wholly."""
    at = torch.nn.functional.one_hot(labels.clamp(min=0), s.shape[-1]).bool()
    columns = torch.arange(s.shape[-1])
    s.masked_fill_((columns % 3 == 1) & ~at, -torch.inf)
    t.masked_fill_((columns % 3 != 0) & ~at, -torch.inf)
    for side in (s, t):
        side[labels < 0] = -torch.inf


KINDS = {kind.__name__: kind for kind in (ordinary, shifted, striped, opposed, masked)}


def logits_case(kind: str, width: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of student and teacher [2, 3, width] and labels, one of which does not count."""
    s, t = (3 * torch.randn(2, 3, width, generator=random) for _ in range(2))
    labels = torch.randint(width, (2, 3), generator=random)
    labels[0, 1] = -100
    KINDS[kind](s, t, labels)
    return s, t, labels


def hidden_case(random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Hidden states [3, 17, H] and weights [V, H] of both sides, and labels, 13 of which do not
    count; the teacher is wider, and knows more tokens."""
    student = torch.randn(3, 17, 24, generator=random), torch.randn(300, 24, generator=random)
    teacher = torch.randn(3, 17, 40, generator=random), torch.randn(310, 40, generator=random)
    labels = torch.randint(300, (3, 17), generator=random)
    labels[0, 4:12] = labels[2, -5:] = -100
    return student[0], student[1] / 2, teacher[0], teacher[1] / 3, labels


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference beside the largest number."""
    return float((found - expected).abs().max() / expected.abs().max())


class Widest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else [made]:
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.numel())
        return made
