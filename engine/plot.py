"""Draws traces and comparisons, a point for each layer and stage.

Knows matplotlib, of the extra `plot`, which is imported when something is drawn; knows nothing of
how the numbers were made. No window is opened and no global state of matplotlib is touched.
"""

from collections.abc import Iterable
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.compare import Band, Comparison
from engine.errors import EngineError
from engine.trace import EXPERTS, Stage, Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osv^<>dpXP*h"  # colours alone repeat after ten lines
EXACT = 1e-16  # where a cosine of 1 is drawn on a logarithmic axis


def draw_trace(trace: Trace) -> "Figure":
    """A panel for each stage: the mean by layer with one deviation to either side, and extremes."""
    names = list(dict.fromkeys(stage.stage for stage in trace.stages if stage.layer is not None))
    rows = -(-len(names) // 4)
    figure = _figure(14, 2.6 * rows + 0.6)
    panels = figure.subplots(rows, 4, squeeze=False).flat
    for panel, name in zip(panels, names, strict=False):
        stages = [stage for stage in trace.stages if stage.stage == name]
        _draw_stage(panel, name, stages)
    for panel in list(figure.axes)[len(names) :]:
        panel.set_visible(False)
    figure.axes[0].legend(fontsize="x-small")
    figure.supxlabel("layer", fontsize="medium")
    figure.suptitle(f"{trace.label}: {trace.architecture}, {_counted(trace)}", fontsize="medium")
    return figure


def _draw_stage(panel: "Axes", name: str, stages: list[Stage]) -> None:
    layers = [stage.layer for stage in stages if stage.layer is not None]
    mean, std, least, most = (
        [_drawn(getattr(stage, part)) for stage in stages] for part in ("mean", "std", "min", "max")
    )
    below = [m - s for m, s in zip(mean, std, strict=True)]
    above = [m + s for m, s in zip(mean, std, strict=True)]
    panel.fill_between(layers, below, above, alpha=0.3, label="± std")
    panel.plot(layers, mean, marker=".", label="mean")
    panel.plot(layers, most, ":", color="gray", label="max")
    panel.plot(layers, least, ":", color="gray", label="min")
    panel.set_title(name, fontsize="small")
    panel.locator_params(axis="x", integer=True)


def draw_comparison(comparison: Comparison) -> "Figure":
    """Two panels by layer, a line for each stage: the ratio of deviations, and 1 - cosine.

    The output is drawn after the last layer; the first stage outside the band is marked.
    """
    band, last = comparison.band, comparison.a.layers
    figure = _figure(11, 7)
    ratios, cosines = figure.subplots(2, 1, sharex=True)
    lines = [line for line in comparison.lines if line.stage != EXPERTS]
    for place, name in enumerate(dict.fromkeys(line.stage for line in lines)):
        of = [line for line in lines if line.stage == name]
        at = [last if line.layer is None else line.layer for line in of]
        look: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "label": name}
        ratios.plot(at, [_drawn(line.ratio) for line in of], **look)
        apart = [None if line.cosine is None else max(1 - line.cosine, EXACT) for line in of]
        cosines.plot(at, [_drawn(each) for each in apart], **look)
    _finish(ratios, "std B / std A", band.ratio)
    _finish(cosines, "1 - cosine", (1 - band.cosine,))
    _mark_first(comparison, ratios, last)
    cosines.set_xlabel(f"layer ({last}: the output)")
    ratios.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(
        f"A: {comparison.a.label}   B: {comparison.b.label}   {_counted(comparison.a)}",
        fontsize="medium",
    )
    return figure


def _counted(trace: Trace) -> str:
    return f"{trace.tokens} of {len(trace.prompt_ids)} tokens"


def _mark_first(comparison: Comparison, panel: "Axes", last: int) -> None:
    first = comparison.first
    if first is None:
        panel.set_title(f"inside the band at every layer {_bounds(comparison.band)}", fontsize=9)
        return
    place = last if first.layer is None else first.layer
    for each in panel.figure.axes:
        each.axvline(place, color="red", alpha=0.4, linewidth=6, zorder=0)
    where = "after the layers" if first.layer is None else f"layer {first.layer}"
    title = f"first outside: {where}, {first.stage}: {first.fault}"
    panel.set_title(title, fontsize=9, color="red")


def _bounds(band: Band) -> str:
    return f"(ratio {band.ratio[0]:g} to {band.ratio[1]:g}, cosine at least {band.cosine:g})"


def _finish(panel: "Axes", label: str, bounds: Iterable[float]) -> None:
    panel.set_yscale("log")
    panel.set_ylabel(label)
    panel.grid(alpha=0.3)
    panel.locator_params(axis="x", integer=True)
    for bound in bounds:
        panel.axhline(bound, color="black", linestyle="--", linewidth=0.8)


def _drawn(number: float | None) -> float:
    """A number that is not there leaves a gap."""
    return nan if number is None else number


def require_matplotlib() -> None:
    """Refuse before anything is computed, where it could not be drawn."""
    _figure(1, 1)


def _figure(width: float, height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EngineError(
            "plot: found no matplotlib, expected it to be installed: pip install 'tollens[plot]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: "Figure", path: Path) -> None:
    """Write the figure; the suffix says in which format."""
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise EngineError(f"{path}: found {error.strerror}, expected to write there") from error
    except ValueError as error:
        raise EngineError(f"{path}: {error}, expected a picture's suffix such as .png") from error
