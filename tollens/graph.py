"""Which contract rests on which: layers and their order, foundations first; no markup.

Layers by the longest path to a contract that rests on nothing; inside a layer by the mean place of
what a contract rests on (Sugiyama, Tagawa and Toda 1981, the barycentre heuristic).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter

from tollens.standing import Standing
from tollens.verdicts import Status

WEAK = (Status.FALSIFIED, Status.PROPOSED, Status.PARTIAL_ALGORITHM_LEVEL)


@dataclass(frozen=True)
class Graph:
    """The contracts given, by id, with what each rests on among them."""

    standings: Mapping[str, Standing]

    @cached_property
    def edges(self) -> dict[str, list[str]]:
        return {
            name: [each for each in standing.contract.depends_on if each in self.standings]
            for name, standing in self.standings.items()
        }

    @cached_property
    def layers(self) -> list[list[str]]:
        """The ids by layer, each after everything that it rests on."""
        depth: dict[str, int] = {}
        for name in TopologicalSorter(self.edges).static_order():
            depth[name] = 1 + max((depth[each] for each in self.edges[name]), default=-1)
        found: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
        for name in sorted(self.standings):
            found[depth[name]].append(name)
        return _ordered(found, self.edges)

    def weak(self, name: str) -> list[str]:
        """What `name` rests on, at any distance, that is falsified or not wholly corroborated."""
        seen: dict[str, None] = {}
        waiting = list(self.edges[name])
        while waiting:
            each = waiting.pop(0)
            if each not in seen:
                seen[each] = None
                waiting += self.edges[each]
        return [each for each in seen if self.standings[each].status in WEAK]


def graph(standings: Iterable[Standing]) -> Graph:
    return Graph({each.contract.id: each for each in standings})


def _ordered(layers: list[list[str]], edges: Mapping[str, list[str]]) -> list[list[str]]:
    place: dict[str, float] = {}
    found: list[list[str]] = []
    for layer in layers:
        if found:
            layer = sorted(layer, key=lambda name: sum(map(place.__getitem__, edges[name]))
                           / len(edges[name]))  # fmt: skip
        place |= {name: i / len(layer) for i, name in enumerate(layer)}
        found.append(layer)
    return found
