"""The page of all rules, docs/rules.md, from the tables of rules and examples."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from tollens.rule_examples import EXAMPLES, SAMPLE, Example
from tollens.rules import RULES

HEAD = """\
# The rules of `tollens check`

Printed by `tollens explain --rules`; `tollens explain RULE` shows one of them. An error makes
`tollens check` exit with 1, a warning does not. What is stale, unproven or without evidence is an
error at level `algorithm`, where a run is cheap, and a warning above it, unless the falsifier's
`freshness` says otherwise.

| rule | severity | what it demands | what to do |
|---|---|---|---|
"""
PROJECT = """
## Examples

Each breaks one rule in this project, which was recorded by `pytest --contract contracts --sabotage`
and committed before; `tollens schema > contracts/contract.schema.json` put the schema there.
"""
LANGUAGES = {"yaml": "yaml", "py": "python"}


def page() -> str:
    """The whole page, as Markdown."""
    rows = [_row(name, *RULES[name]) for name in RULES]
    files = [f"\n`{path}`\n\n{_block(path, text)}" for path, text in SAMPLE.items()]
    shown = [_section(name, EXAMPLES[name]) for name in RULES if name in EXAMPLES]
    return "".join([HEAD, *rows, PROJECT, *files, *shown])


def lines(name: str) -> Iterator[str]:
    """What is done in a rule's example and where its finding stands, for a terminal."""
    example = EXAMPLES[name]
    if example.edits:
        yield f"in {example.edits}"
        yield from _changes(example)
    yield from (f"$ {step}" for step in example.steps)
    yield _found(name)


def _row(name: str, says: str, do: str) -> str:
    severity = EXAMPLES[name].severity if name in EXAMPLES else ""
    return f"| [{name}](#{name}) | {severity} | {says} | {do} |\n"


def _block(path: str, text: str) -> str:
    return f"```{LANGUAGES[path.rpartition('.')[2]]}\n{text}```\n"


def _section(name: str, example: Example) -> str:
    parts = [f"\n### {name}\n"]
    if example.edits:
        changes = "\n".join(_changes(example))
        parts.append(f"\nIn `{example.edits}`:\n\n```diff\n{changes}\n```\n")
    steps = "\n".join(f"$ {step}" for step in example.steps)
    parts.append(f"\n```console\n{steps}\n{_found(name)}\n…\n```\n")
    places = " and on the line ".join(f"`{each}`" for each in example.lines)
    parts.append(f"\nIt is found on the line {places}.\n")
    return "".join(parts)


def _changes(example: Example) -> list[str]:
    """The edit as a diff shows it."""
    rows = difflib.ndiff(example.old.splitlines(), example.new.splitlines())
    return [row.rstrip() for row in rows if not row.startswith("?")]


def _found(name: str) -> str:
    example = EXAMPLES[name]
    return f"{example.path}:…: {example.severity}: {name}"
