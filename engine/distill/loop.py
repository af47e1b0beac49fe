"""The training loop: the teacher says, the student answers, AdamW moves it; again.

Knows steps and what is due between them; knows nothing of options, terminals or how files look.
A step's gradient is that of the mean over all counted tokens of its batch, however the batch is
cut into parts and dealt out to processes.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.distill import checkpoint
from engine.distill.checkpoint import Progress, Saved
from engine.distill.data import Batch, Source
from engine.distill.journal import Journal
from engine.distill.judge import Judge, precision
from engine.distill.objective import Objective, Target, Targets, arrived
from engine.distill.optimiser import make_optimiser, restore, set_rate, state_of, whole
from engine.distill.recipe import Recipe
from engine.distill.ring import Ended, Ring
from engine.distill.student import Student
from engine.distill.workers import Workers, clip
from engine.errors import EngineError

Row = dict[str, Any]  # of the metrics
Piece = tuple[int, int]  # a step, and a part of its batch


@dataclass(frozen=True)
class Work:
    """This process's rows of one part of a batch, and what the teacher says of them.

    `share` is how many of the batch's counted tokens are theirs.
    """

    batch: Batch
    target: Target
    share: float


class Training:
    """One run of a recipe, from `saved` on; `progress` is how far it is."""

    def __init__(
        self,
        student: Student,
        targets: Targets,
        data: Source,
        held_out: Source,
        recipe: Recipe,
        run: Path,
        *,
        workers: Workers | None = None,
        saved: Saved | None = None,
        tokenizer: Path | None = None,
        ahead: int = 2,
    ) -> None:
        self.recipe, self.run, self.workers = recipe, run, workers or Workers()
        self.progress = saved.progress if saved else Progress()
        self._student, self._targets, self._data = student, targets, data
        self._goal, self._ahead, self._tokenizer = objective(recipe), ahead, tokenizer
        self._rows = self.workers.rows(recipe.batch // recipe.accumulate)
        self._model = self.workers.prepare(student)
        self._named = dict(student.named_parameters())
        self._optimiser = make_optimiser(self._named.items(), recipe)
        if saved and saved.progress.step:
            restore(self._optimiser, self._named, saved.moments, saved.progress.step)
        self._judge = Judge(held_out, targets, recipe, self.workers)

    def train(
        self, see: Callable[[Row], None] = lambda row: None, stopped: Callable[[], bool] = bool
    ) -> Progress:
        """The steps that are left, each followed by what is due after it.

        Where `stopped` says so it saves and returns early. `see` is shown each row of the metrics.
        Raises `EngineError` where the loss is not finite; the newest checkpoint is as it was.
        """
        first, device = self.progress.step, self.workers.device
        journal = Journal(self.run, first) if self.workers.first else None

        def tell(row: Row) -> None:
            if journal is not None:
                journal.write(row)
                see(row)

        ring = Ring(self._prepare, self._pieces(first), self._ahead, device)
        try:
            if first == 0:
                tell({"step": 0, **self._judge(self._model)})
            for row in self._steps(ring, stopped):
                tell(row)
                self._follow(tell)
            if self.progress.step < self.recipe.steps:  # it was stopped
                self._save()
        finally:
            ring.close()
            if journal is not None:
                journal.close()
        return self.progress

    def _steps(self, ring: Ring[Piece, Work], stopped: Callable[[], bool]) -> Iterator[Row]:
        while self.progress.step < self.recipe.steps:
            if self.workers.sum(stopped())[0]:  # one process does not stop without the others
                return
            alone = self.workers.count == 1
            try:
                yield self._step(ring, stopped if alone else bool)
            except Ended:  # while the teacher was waited for; this step's gradients are dropped
                return

    def _step(self, ring: Ring[Piece, Work], stopped: Callable[[], bool]) -> Row:
        """One update, and its row of the metrics."""
        started = time.perf_counter()
        self._optimiser.zero_grad()
        step, rate = self.progress.step + 1, self.recipe.rate(self.progress.step)
        loss, windows = self._gradients(ring, stopped)
        norm = clip(list(self._named.values()), self.recipe.clip)
        if not (isfinite(loss) and isfinite(norm)):
            raise EngineError(self._not_finite(step, loss, norm, windows))
        set_rate(self._optimiser, rate)
        self._optimiser.step()
        self.progress = replace(self.progress, step=step)
        times = {"seconds": time.perf_counter() - started, **ring.lap()}
        row = {"step": step, "loss": loss, "rate": rate, "grad_norm": norm}
        row["tokens"] = self.recipe.batch * self.recipe.seq_len
        return row | {name: round(each, 6) for name, each in times.items()}

    def _gradients(
        self, ring: Ring[Piece, Work], stopped: Callable[[], bool]
    ) -> tuple[float, tuple[int, ...]]:
        """Those of the whole batch, its loss, and which windows this process had of it."""
        workers, total = self.workers, 0.0
        windows: tuple[int, ...] = ()
        for _ in range(self.recipe.accumulate):
            work = ring.take(stopped)
            arrived(work.target)
            then = partial(work.target.loss, labels=work.batch.labels, goal=self._goal)
            with precision(self.recipe, workers.device):
                loss = self._model(work.batch.inputs, then) * work.share
            torch.autograd.backward(loss * workers.count)  # gradients of processes are averaged
            total, windows = total + loss.item(), windows + work.batch.windows
        return workers.sum(total)[0], windows

    def _follow(self, tell: Callable[[Row], None]) -> None:
        """What is due after a step: held-out loss, and a checkpoint."""
        step, last = self.progress.step, self.progress.step == self.recipe.steps
        best = False
        if last or step % self.recipe.heldout_every == 0:
            found = self._judge(self._model)
            tell({"step": step, **found})
            best = self.progress.best is None or found["heldout_loss"] < self.progress.best
            if best:
                self.progress = Progress(step, found["heldout_loss"], step)
        if last or best or step % self.recipe.save_every == 0:
            self._save()

    def _save(self) -> None:
        """Every process takes part where weights are sharded; the first one writes."""
        tensors = {name: whole(each) for name, each in self._named.items()}
        moments = state_of(self._optimiser, self._named)
        if self.workers.first:
            hf = self._student.hf
            checkpoint.save(self.run, self.progress, tensors, moments, hf, self._tokenizer)

    def _pieces(self, first: int) -> Iterator[Piece]:
        for step in range(first, self.recipe.steps):
            for part in range(self.recipe.accumulate):
                yield step, part

    def _prepare(self, piece: Piece) -> Work:
        """What the ring makes ahead."""
        step, part = piece
        batch = self._data.batch(step, self.recipe.batch)
        at = part * (self.recipe.batch // self.recipe.accumulate)
        mine = rows_of(batch, slice(at + self._rows.start, at + self._rows.stop))
        target, device = self._targets.of(mine), self.workers.device
        placed = replace(mine, inputs=mine.inputs.to(device), labels=mine.labels.to(device))
        return Work(placed, target, counted(mine.labels) / max(1, counted(batch.labels)))

    def _not_finite(self, step: int, loss: float, norm: float, windows: tuple[int, ...]) -> str:
        last = self.run / checkpoint.LAST
        keeps = f"{last} holds the steps before" if last.exists() else "nothing was saved yet"
        return (
            f"step {step}: found a loss of {loss} and a gradient of norm {norm} in the batch of "
            f"windows {', '.join(map(str, windows))}, expected finite numbers; {keeps}: "
            "look at the data there, or lower the learning rate"
        )


def objective(recipe: Recipe) -> Objective:
    """What the recipe trains towards."""
    return Objective(recipe.temperature, recipe.alpha)


def rows_of(batch: Batch, rows: slice) -> Batch:
    """Some windows of a batch."""
    return replace(
        batch,
        inputs=batch.inputs[rows],
        labels=batch.labels[rows],
        windows=batch.windows[rows],
    )


def counted(labels: Tensor) -> int:
    """How many labels are not ignored."""
    return int((labels >= 0).sum())
