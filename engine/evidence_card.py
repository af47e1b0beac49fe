"""A run's evidence, told in Markdown: the files that training and judging leave behind.

Knows three kinds by their contents: an in-toto statement of verdicts (evidence.json), JSON lines
(metrics.jsonl), any other JSON object (dispatch.json). It repeats what the files say and reckons
nothing; knows nothing of models.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from engine.errors import FormatError

MOST_ROWS = 100
MOST_TEXT = 80  # characters of a value


@dataclass(frozen=True)
class Evidence:
    """One file: its name, and the table that the card shows of it."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def read_evidence(path: Path) -> Evidence:
    """What the file says; `FormatError` where it is no JSON object, and no lines of them."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: found {error}, expected a file of JSON") from error
    objects = _objects(path, text)
    verdicts = _verdicts(objects[0])
    if verdicts:
        return Evidence(path.name, ("falsifier", "level", "verdict", "measures"), verdicts)
    if len(objects) > 1 or path.suffix == ".jsonl":
        return Evidence(path.name, ("measure", "first", "last"), tuple(_ends(objects)))
    return Evidence(path.name, ("what", "value"), tuple(_leaves(objects[0])))


def _objects(path: Path, text: str) -> list[dict[str, Any]]:
    """The object that the file is, or those that its lines are."""
    try:
        whole = path.suffix != ".jsonl"
        texts = [text] if whole else [line for line in text.splitlines() if line.strip()]
        found = [json.loads(each) for each in texts]
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: found {error}, expected JSON") from error
    if not found or not all(isinstance(each, dict) for each in found):
        raise FormatError(f"{path}: found no JSON object, expected at least one")
    return found


def _verdicts(statement: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Falsifier, level, verdict and measures, where the object is a statement of them."""
    predicate = statement.get("predicate")
    results = predicate.get("results") if isinstance(predicate, dict) else None
    rows = []
    for each in results if isinstance(results, list) else []:
        if not isinstance(each, dict) or "falsifier" not in each:
            return ()
        measures = each.get("measures")
        named = measures.items() if isinstance(measures, dict) else ()
        values = (f"{name} {_shown(m.get('value'))}" for name, m in named if isinstance(m, dict))
        rows.append(
            (
                *(_shown(each.get(key)) for key in ("falsifier", "level", "verdict")),
                ", ".join(values),
            )
        )
    return tuple(rows[:MOST_ROWS])


def _ends(lines: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Of each key: the first value and the last."""
    keys = dict.fromkeys(key for line in lines for key in line)
    for key in list(keys)[:MOST_ROWS]:
        values = [line[key] for line in lines if _is_leaf(line.get(key))]
        if values:
            yield _shown(key), _shown(values[0]), _shown(values[-1])


def _leaves(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every value that is no object or list, by its dotted path."""
    rows: list[tuple[str, str]] = []
    todo: list[tuple[str, Any]] = list(found.items())
    while todo and len(rows) < MOST_ROWS:
        path, value = todo.pop(0)
        if isinstance(value, dict):
            todo = [(f"{path}.{key}", each) for key, each in value.items()] + todo
        elif isinstance(value, list) and value and all(map(_is_leaf, value)):
            rows.append((_shown(path), _shown(", ".join(map(str, value)))))
        elif _is_leaf(value):
            rows.append((_shown(path), _shown(value)))
    return rows


def _is_leaf(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _shown(value: Any) -> str:
    if isinstance(value, float) and isfinite(value):
        return f"{value:.6g}"
    text = "" if value is None else str(value)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 1]}…"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """The lines of a Markdown table."""
    head = list(header)
    yield _row(head)
    yield _row("---" for _ in head)
    yield from map(_row, rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(escaped, cells))} |"


def escaped(text: str) -> str:
    """The text on one line, as itself and not as Markdown or HTML."""
    line = " ".join(text.split())
    line = "".join(each if each.isprintable() else "\ufffd" for each in line)
    for mark in ("\\", "`", "|", "*", "[", "]"):
        line = line.replace(mark, f"\\{mark}")
    return line.replace("&", "&amp;").replace("<", "&lt;")
