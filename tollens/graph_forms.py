"""The graph of contracts as text of 80 columns, Mermaid, Graphviz' dot, SVG or JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from tollens.graph import Graph
from tollens.verdicts import Status
from tollens.wrapping import wrap

FILLS = {Status.FALSIFIED: "#fbe3e0", Status.PROPOSED: "#e1edf8"}
FILLS[Status.PARTIAL_ALGORITHM_LEVEL] = "#faeed2"
ACTIVE = "#dff1e4"
BOX, GAP, RISE, LETTER = 44, 24, 56, 7.6  # px: a box's height, between boxes, between layers


def text(graph: Graph) -> Iterator[str]:
    """Foundations first: status, id, and under it what it rests on; a weak one is named again."""
    for name in (name for layer in graph.layers for name in layer):
        yield f"{graph.standings[name].status:<23}  {name}"
        yield from _wrapped("on ", graph.edges[name])
        yield from _wrapped("weak below: ", graph.weak(name))


def _wrapped(word: str, names: list[str]) -> list[str]:
    indent = " " * 27
    return wrap(word + ", ".join(names), indent, f"{indent}  ") if names else []


def mermaid(graph: Graph) -> Iterator[str]:
    """Nodes are numbered, since an id may be one of Mermaid's own words."""
    number = {name: f"n{i}" for i, name in enumerate(sorted(graph.standings))}
    yield "flowchart TB"
    for name, node in number.items():
        status = graph.standings[name].status
        yield f'  {node}["{name}<br/>{status}"]'
        yield f"  style {node} fill:{FILLS.get(status, ACTIVE)},color:#1f2328,stroke:#59606a"
    for name, on in graph.edges.items():
        yield from (f"  {number[name]} --> {number[each]}" for each in on)


def dot(graph: Graph) -> Iterator[str]:
    yield "digraph contracts {"
    yield '  rankdir=TB; node [shape=box, style="rounded,filled", fontname="sans-serif"];'
    for name, standing in sorted(graph.standings.items()):
        fill, title = FILLS.get(standing.status, ACTIVE), standing.contract.title
        label = f"{name}\n{standing.status}"
        yield (
            f"  {_quoted(name)} "
            f"[label={_quoted(label)}, tooltip={_quoted(title)}, fillcolor={_quoted(fill)}];"
        )
    for name, on in sorted(graph.edges.items()):
        yield from (f"  {_quoted(name)} -> {_quoted(each)};" for each in on)
    yield "}"


def _quoted(value: str) -> str:
    """A string of dot, in which a quote ends it and a backslash escapes what follows."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def as_json(graph: Graph) -> dict[str, Any]:
    return {
        "contracts": [
            {
                "id": name,
                "title": graph.standings[name].contract.title,
                "status": graph.standings[name].status,
                "layer": i,
                "depends_on": graph.edges[name],
                "weak_below": graph.weak(name),
            }
            for i, layer in enumerate(graph.layers)
            for name in layer
        ]
    }


@dataclass(frozen=True)
class Box:
    """Where a contract is drawn."""

    x: float
    y: float
    width: float

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


def placed(graph: Graph) -> dict[str, Box]:
    """A row for each layer, foundations at the bottom, centred; a long layer takes more rows."""
    rows = [row for layer in graph.layers for row in _rows(layer, graph)]
    widths = [sum(_width(name, graph) + GAP for name in row) - GAP for row in rows]
    found, whole = {}, max(widths, default=0)
    for i, (row, width) in enumerate(zip(rows, widths, strict=True)):
        x = GAP + (whole - width) / 2
        for name in row:
            found[name] = Box(x, GAP + (len(rows) - 1 - i) * (BOX + RISE), _width(name, graph))
            x += found[name].width + GAP
    return found


WIDEST = 1400  # px of a row, unless one box is wider


def _rows(layer: list[str], graph: Graph) -> Iterator[list[str]]:
    row: list[str] = []
    width = 0.0
    for name in layer:
        if row and width + _width(name, graph) > WIDEST:
            yield row
            row, width = [], 0.0
        row.append(name)
        width += _width(name, graph) + GAP
    yield row


def _width(name: str, graph: Graph) -> float:
    return LETTER * max(len(name), len(graph.standings[name].status)) + 20


STYLE = """
text{font:12px ui-monospace,monospace;text-anchor:middle;fill:#1f2328}
rect{stroke:#59606a}path{fill:none;stroke:#7d858f}
@media (prefers-color-scheme:dark){svg{background:#15181c}}
"""


def svg(graph: Graph) -> str:
    """A drawing of its own: boxes in rows, curves from each to what it rests on."""
    boxes = placed(graph)
    width = max((box.x + box.width for box in boxes.values()), default=0) + GAP
    height = max((box.y for box in boxes.values()), default=0) + BOX + GAP
    root = ElementTree.Element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        role="img",
    )
    ElementTree.SubElement(root, "title").text = f"{len(boxes)} contracts and what they rest on"
    ElementTree.SubElement(root, "style").text = STYLE
    for name, on in sorted(graph.edges.items()):
        for each in on:
            ElementTree.SubElement(root, "path", d=_curve(boxes[name], boxes[each]))
    for name, box in sorted(boxes.items()):
        _draw(root, name, box, graph)
    return ElementTree.tostring(root, encoding="unicode")


def _curve(start: Box, end: Box) -> str:
    """From the lower edge of `start` to the upper edge of `end`."""
    top, bottom = start.y + BOX, end.y
    half = (top + bottom) / 2
    points = [(start.middle, half), (end.middle, half), (end.middle, bottom)]
    shown = " ".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f"M{start.middle:.1f} {top:.1f}C{shown}"


def _draw(root: ElementTree.Element, name: str, box: Box, graph: Graph) -> None:
    standing = graph.standings[name]
    group = ElementTree.SubElement(root, "g")
    ElementTree.SubElement(group, "title").text = f"{name}: {standing.contract.title}"
    fill = FILLS.get(standing.status, ACTIVE)
    place = {"x": f"{box.x:.1f}", "y": f"{box.y:.1f}", "width": f"{box.width:.1f}"}
    ElementTree.SubElement(group, "rect", {**place, "height": str(BOX), "rx": "6", "fill": fill})
    for line, told in enumerate((name, standing.status)):
        at = {"x": f"{box.middle:.1f}", "y": f"{box.y + 18 + 16 * line:.1f}"}
        ElementTree.SubElement(group, "text", at).text = told
