"""Planted faults in the drawing of dependencies, for contracts/tollens-graph-v1.yaml."""

import re
from dataclasses import replace


def graph_edges_turned_round(plant):
    """Curves go from what is rested on to what rests on it."""
    plant("tollens.graph_forms._curve", lambda curve: lambda start, end: curve(end, start))


def graph_dot_unquoted(plant):
    """A quote in a title ends dot's string."""
    plant("tollens.graph_forms._quoted", lambda quoted: lambda value: f'"{value}"')


def graph_mermaid_by_id(plant):
    """Mermaid's nodes are named by ids, some of which are its own words."""

    def by_id(mermaid):
        return lambda graph: (re.sub(r"\bn2\b", "end", line) for line in mermaid(graph))

    plant("tollens.graph_forms.mermaid", by_id)


def graph_layers_unordered(plant):
    """Contracts are listed by name, before what they rest on."""
    plant(
        "tollens.graph._ordered",
        lambda ordered: lambda layers, edges: [sorted(sum(layers, []))],
    )


def graph_boxes_overlap(plant):
    """Every box is drawn as far to the left as it can be."""

    def left(placed):
        return lambda graph: {name: replace(box, x=24.0) for name, box in placed(graph).items()}

    plant("tollens.graph_forms.placed", left)


def graph_upside_down(plant):
    """Foundations are drawn on top."""

    def turned(placed):
        def drawn(graph):
            boxes = placed(graph)
            lowest = max(box.y for box in boxes.values()) + 24
            return {name: replace(box, y=lowest - box.y) for name, box in boxes.items()}

        return drawn

    plant("tollens.graph_forms.placed", turned)


def graph_weak_only_at_once(plant):
    """A weak contract is told only where it is rested on directly."""

    def direct(weak):
        return lambda graph, name: [each for each in weak(graph, name) if each in graph.edges[name]]

    plant("tollens.graph.Graph.weak", direct)
