"""How far a run is and how quick, from the rows of its metrics, and the words for it.

Knows nothing of where the rows lie.
"""

from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

WINDOW = 50  # steps that the rate is the mean of


class Pace:
    """`step` of `steps`, the last `loss`, and the best held-out loss so far."""

    def __init__(self) -> None:
        self.steps: int | None = None
        self.step = 0
        self.loss: float | None = None
        self.best: float | None = None
        self._times: deque[tuple[float, float]] = deque(maxlen=WINDOW)  # seconds and tokens

    def see(self, row: Mapping[str, Any]) -> str | None:
        """Take a row; a line to tell where it has a held-out loss."""
        self.step = row["step"]
        if "loss" in row:
            self.loss = row["loss"]
            self._times.append((row["seconds"], row["tokens"]))
        held_out = row.get("heldout_loss")
        if held_out is None:
            return None
        self.best = held_out if self.best is None else min(self.best, held_out)
        parts = [f"held-out loss {held_out:.4f}"]
        parts += [f"agreement {row['agreement']:.1%}"] if "agreement" in row else []
        parts += [f"loss {self.loss:.4f}"] if self.loss is not None else []
        return f"step {self.place}: {', '.join(parts)}"

    @property
    def place(self) -> str:
        """The step, and of how many where that is known."""
        return f"{self.step:,}" + (f" of {self.steps:,}" if self.steps else "")

    def told(self) -> list[str]:
        """Tokens a second and the time that is left, of the last steps."""
        seconds, tokens = (sum(each[i] for each in self._times) for i in (0, 1))
        if not seconds:
            return []
        found = [f"{tokens / seconds:,.0f} tokens/s"]
        if self.steps and self.step < self.steps:
            left = (self.steps - self.step) * seconds / len(self._times)
            found.append(f"{timedelta(seconds=round(left))} left")
        return found

    def summary(self) -> dict[str, Any]:
        """For programs."""
        return {"step": self.step, "steps": self.steps, "loss": self.loss, "best": self.best}
