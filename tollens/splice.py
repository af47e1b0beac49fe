"""Appends one entry to a contract's `status_history` without touching any other byte.

Knows YAML text, not what an entry means. The parser's marks say where the list ends; the entry is
inserted there, and the result is parsed again: it must be the old data and the entry, no more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tollens.errors import ContractError, RecordError
from tollens.source import Source, parse

KEY = "status_history"
BREAK = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
RESERVED = frozenset({"null", "true", "false", "y", "n", "yes", "no", "on", "off"})


def append(source: Source, entry: Mapping[str, Any]) -> str:
    """The text of `source` with `entry` at the end of its `status_history`.

    Raises RecordError where the text is shaped so that nothing can be inserted safely.
    """
    body = source.text.removeprefix("\ufeff")
    mark = source.text.removesuffix(body)
    at, inserted = _insertion(body, source.root, entry)
    after = mark + body[:at] + inserted + body[at:]
    before = source.data
    expected = {**before, KEY: [*(before.get(KEY) or []), dict(entry)]}
    try:
        grown = parse(after, source.path).data == expected
    except ContractError:
        grown = False
    if not grown:
        raise RecordError(f"{source.path}: cannot append to {KEY} here; write it as a block list")
    return after


def _insertion(text: str, root: Any, entry: Mapping[str, Any]) -> tuple[int, str]:
    newline = "\r\n" if "\r\n" in text else "\n"
    history = next((value for key, value in root.value if key.value == KEY), None)
    if history is None and root.flow_style:
        end = _last_leaf(root).end_mark.index
        return end, f', "{KEY}": [{_flow(entry)}]'
    if history is None:
        indent = " " * root.start_mark.column
        lines = [f"{indent}{KEY}:", *_block(entry, f"{indent}  ")]
        return _after(text, _last_leaf(root), newline, lines)
    if isinstance(history, yaml.SequenceNode) and history.flow_style:
        return _into_flow(history, entry)
    if isinstance(history, yaml.ScalarNode) and history.value:
        return history.start_mark.index, f"[{_flow(entry)}] # "
    column = root.start_mark.column + 2
    if isinstance(history, yaml.SequenceNode):
        column = history.start_mark.column
    return _after(text, _last_leaf(history), newline, _block(entry, " " * column))


def _into_flow(history: yaml.SequenceNode, entry: Mapping[str, Any]) -> tuple[int, str]:
    if history.value:
        return _last_leaf(history).end_mark.index, f", {_flow(entry)}"
    return history.start_mark.index + 1, _flow(entry)


def _last_leaf(node: Any) -> Any:
    """The node at whose end the text of `node` ends; block nodes' own marks lie beyond it."""
    if isinstance(node, yaml.ScalarNode) or not node.value:
        return node
    last = node.value[-1]
    inner = last[1] if isinstance(last, tuple) else last
    if inner.flow_style if isinstance(inner, yaml.CollectionNode) else True:
        return inner
    return _last_leaf(inner)


def _after(text: str, leaf: Any, newline: str, lines: list[str]) -> tuple[int, str]:
    """Insert whole lines after the line on which `leaf` ends."""
    at = leaf.end_mark.index
    block = "".join(f"{line}{newline}" for line in lines)
    if leaf.end_mark.column == 0 and at > 0:
        return at, block
    found = BREAK.search(text, at)
    if found:
        return found.end(), block
    return len(text), newline + block.removesuffix(newline)


def _block(entry: Mapping[str, Any], indent: str) -> list[str]:
    rows = list(_rows(entry))
    return [f"{indent}- {rows[0]}", *(f"{indent}  {row}" for row in rows[1:])]


def _rows(mapping: Mapping[str, Any]) -> Iterator[str]:
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield f"{key}:"
            yield from (f"  {row}" for row in _rows(value))
        else:
            yield f"{key}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in RESERVED
    return str(value) if plain else _flow(value)


def _flow(value: Any) -> str:
    """JSON, which is a YAML flow value, with the line breaks that only YAML knows escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(
        r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda m: f"\\u{ord(m[0]):04x}", text
    )
