"""Finds by reading, without running, which test is bound to which falsifier; knows only syntax."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tollens.project import Project

Note = Callable[[str, ast.Module], None]
SCOPES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Binding:
    """A `falsifies("ID")` mark: the falsifier's id, the file, the marked name and the line.

    `name` is `test_f`, `TestC::test_f`, `TestC` or, for a module's own mark, empty.
    """

    falsifier: str
    path: str
    name: str
    line: int

    def binds(self, nodeid: str) -> bool:
        """Whether the test `nodeid` (without parameters) is, or is inside, what is marked."""
        marked = f"{self.path}::{self.name}" if self.name else self.path
        return nodeid == marked or nodeid.startswith(f"{marked}::")


def find_bindings(project: Project, note: Note = lambda path, tree: None) -> list[Binding]:
    """Every mark in the project's test files; a file that does not parse binds nothing.

    `note` is shown the syntax of each file that was parsed, once.
    """
    folder = project.root / project.falsifiers
    paths = sorted({*folder.rglob("test_*.py"), *folder.rglob("*_test.py")})
    return [binding for path in paths for binding in _in_file(path, project.shown(path), note)]


def _in_file(path: Path, shown: str, note: Note) -> Iterator[Binding]:
    text = path.read_bytes()
    if b"falsifies" not in text:
        return
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    note(shown, tree)
    lines = [n for n, line in enumerate(text.split(b"\n"), 1) if b"falsifies" in line]
    yield from _in_node(tree, shown, (), lines)


def _in_node(
    node: ast.AST, path: str, scope: tuple[str, ...], lines: Sequence[int]
) -> Iterator[Binding]:
    """The marks inside `node`; `lines` are those on which one can stand."""
    for child in ast.iter_child_nodes(node):
        if not _covers(child, lines):
            continue
        inner = (*scope, child.name) if isinstance(child, SCOPES) else scope
        if isinstance(child, ast.Call) and _is_mark(child.func):
            for mark in (arg.value for arg in child.args if isinstance(arg, ast.Constant)):
                yield Binding(str(mark), path, "::".join(scope), child.lineno)
        yield from _in_node(child, path, inner, lines)


def _covers(node: ast.AST, lines: Sequence[int]) -> bool:
    """Whether one of `lines` is in the text of `node`, its decorators included."""
    if isinstance(node, SCOPES):
        marks = [each.lineno for each in node.decorator_list]
        first, last = min([node.lineno, *marks]), node.end_lineno
    else:
        first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", None)
    return last is None or any(first <= line <= last for line in lines)


def _is_mark(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr == "falsifies"
