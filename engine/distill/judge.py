"""What a student is worth on text that it never learns from: its loss, its agreement with the
teacher.

Knows held-out windows; knows nothing of training. The loss is the cross-entropy with the text's
own next tokens, so that runs with and without a teacher compare. The agreement is the share of
positions where student and teacher would say the same token: a falling loss cannot tell a teacher
from a mirror, and this can.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional

from engine.distill.data import Batch, Source
from engine.distill.objective import Targets
from engine.distill.recipe import Recipe
from engine.distill.workers import Step, Workers


def precision(recipe: Recipe, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 products where the recipe says so; weights, norms and sums stay in float32."""
    if recipe.precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


class Judge:
    """The first `recipe.heldout_windows` of `held_out`, dealt out to the processes."""

    def __init__(
        self, held_out: Source, targets: Targets, recipe: Recipe, workers: Workers
    ) -> None:
        count = min(recipe.heldout_windows, len(held_out))
        windows = list(range(count - count % workers.count))[workers.rank :: workers.count]
        size = max(1, recipe.batch // recipe.accumulate // workers.count)
        self._batches = [
            held_out.take(windows[at : at + size]) for at in range(0, len(windows), size)
        ]
        self._targets, self._recipe, self._workers = targets, recipe, workers
        self._said: list[Tensor | None] | None = None  # the teacher's tokens, once they are known

    @torch.no_grad()
    def __call__(self, model: Step) -> dict[str, float]:
        """`heldout_loss` in nats a token, and `agreement` where the teacher can be asked."""
        if self._said is None:
            self._said = [self._targets.best(batch) for batch in self._batches]
        sums, device = torch.zeros(3, dtype=torch.float64), self._workers.device
        for batch, said in zip(self._batches, self._said, strict=True):
            with precision(self._recipe, device):
                sums += model(batch.inputs.to(device), self._against(batch, said)).cpu()
        loss, counted, agreed = self._workers.sum(*sums.tolist())
        found = {"heldout_loss": loss / max(counted, 1.0)}
        known = all(said is not None for said in self._said)
        return found | ({"agreement": agreed / max(counted, 1.0)} if known else {})

    def _against(self, batch: Batch, said: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
        labels = batch.labels.to(self._workers.device)

        def then(hidden: Tensor, weight: Tensor) -> Tensor:
            """Sums over the counted tokens: loss, ones, and equal tokens; a window at a time."""
            sums = torch.zeros(3, dtype=torch.float64, device=hidden.device)
            for row, wanted in enumerate(labels):
                logits = functional.linear(hidden[row], weight).float()  # [T, V]
                counted = wanted >= 0
                loss = functional.cross_entropy(logits[counted], wanted[counted], reduction="sum")
                found = (loss, counted.sum(), _equal(logits, said, row, counted))
                sums += torch.stack([each.double() for each in found])
            return sums

        return then


def _equal(logits: Tensor, said: Tensor | None, row: int, counted: Tensor) -> Tensor:
    """How many counted tokens are those that the teacher says; none where it is not asked."""
    if said is None:
        return logits.new_zeros(())
    return (logits.argmax(-1) == said[row])[counted].sum()
