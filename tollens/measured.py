"""What was measured in the runs that git has evidence of, the oldest run first.

Reads evidence leniently: a version that cannot be read is left out, since `tollens verify
--history` is what judges the past. Knows no drawing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tollens.project import Project
from tollens.revisions import contents, past

VERSIONS = 24  # the newest of each file are read
Key = tuple[str, str, str]  # falsifier, level, measure


@dataclass(frozen=True)
class Point:
    """One measure in one recorded run: when it started, the value, and whether the bound held."""

    date: str
    value: float
    held: bool


def series(project: Project, ids: Iterable[str]) -> dict[str, dict[Key, list[Point]]]:
    """Contract id → measure → its points over the recorded runs, each run once."""
    wanted = {project.shown(project.evidence_path(each)): each for each in ids}
    names = {
        path: versions[-VERSIONS:]
        for path, versions in past(project.root, project.evidence).items()
        if path in wanted
    }
    owners = {name: path for path, versions in names.items() for name in versions}
    found: dict[str, dict[Key, dict[str, Point]]] = {}
    for name, data in contents(project.root, owners):
        kept = found.setdefault(wanted[owners[name]], {})
        for key, run, point in _points(data):
            kept.setdefault(key, {})[run] = point
    return {each: _in_order(points) for each, points in found.items()}


def _in_order(points: Mapping[Key, Mapping[str, Point]]) -> dict[Key, list[Point]]:
    return {
        key: sorted(by_run.values(), key=lambda point: point.date) for key, by_run in points.items()
    }


def _points(data: bytes) -> Iterator[tuple[Key, str, Point]]:
    try:
        predicate = json.loads(data)["predicate"]
        yield from _of(predicate)
    except (ValueError, KeyError, TypeError, AttributeError):
        return


def _of(predicate: Mapping[str, Any]) -> Iterator[tuple[Key, str, Point]]:
    for result in predicate["results"]:
        run = result["run"]
        for name, measure in result["measures"].items():
            value = measure["value"]
            if isinstance(value, int | float) and not isinstance(value, bool):
                key = result["falsifier"], result["level"], name
                date = predicate["runs"][run]["start"]
                yield key, run, Point(date, value, measure["held"])
