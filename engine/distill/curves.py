"""Draws a run's curves: loss and held-out loss by step, agreement, learning rate.

Knows matplotlib, of the extra `plot`, and rows of metrics; knows nothing of how they were made.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW = 20  # steps that the smoothed loss is the mean of


def draw_curves(runs: dict[str, Sequence[dict[str, Any]]]) -> "Figure":
    """Three panels by step, one above the other; a colour for each run, by its label."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EngineError(
            "curves: found no matplotlib, expected it to be installed: pip install 'tollens[plot]'"
        ) from error
    figure = Figure(figsize=(9, 8), layout="constrained")
    losses, agreements, rates = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1))
    for place, (label, rows) in enumerate(runs.items()):
        look = {"color": f"C{place}", "label": label}
        _line(losses, rows, "loss", color=f"C{place}", alpha=0.25)
        losses.plot(*_smooth(rows), color=f"C{place}", label=f"{label}: loss, {WINDOW} steps")
        held = {**look, "label": f"{label}: held-out cross-entropy", "marker": "."}
        _line(losses, rows, "heldout_loss", linestyle="--", **held)
        _line(agreements, rows, "agreement", marker=".", **look)
        _line(rates, rows, "rate", **look)
    labels = ("nats a token", "agreement with the teacher", "learning rate")
    for panel, label in zip((losses, agreements, rates), labels, strict=True):
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
    losses.legend(fontsize="x-small")
    rates.set_xlabel("step")
    return figure


def _line(panel: "Axes", rows: Sequence[dict[str, Any]], key: str, **look: Any) -> None:
    found = [(row["step"], row[key]) for row in rows if key in row]
    panel.plot([step for step, _ in found], [value for _, value in found], **look)


def _smooth(rows: Sequence[dict[str, Any]]) -> tuple[list[int], list[float]]:
    """The mean of the last `WINDOW` losses at each step."""
    found = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    steps = [step for step, _ in found]
    values = [value for _, value in found]
    starts = [max(0, end - WINDOW) for end in range(1, len(values) + 1)]
    means = [sum(values[s : e + 1]) / (e + 1 - s) for e, s in enumerate(starts)]
    return steps, means
