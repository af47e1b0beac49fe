"""Finds by reading, without running, which test is bound to which falsifier; knows only syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tollens.project import Project

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


def find_bindings(project: Project) -> list[Binding]:
    """Every mark in the project's test files; a file that does not parse binds nothing."""
    folder = project.root / project.falsifiers
    paths = sorted({*folder.rglob("test_*.py"), *folder.rglob("*_test.py")})
    return [binding for path in paths for binding in _in_file(path, project.shown(path))]


def _in_file(path: Path, shown: str) -> Iterator[Binding]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:
        return
    yield from _in_node(tree, shown, ())


def _in_node(node: ast.AST, path: str, scope: tuple[str, ...]) -> Iterator[Binding]:
    for child in ast.iter_child_nodes(node):
        inner = (*scope, child.name) if isinstance(child, SCOPES) else scope
        if isinstance(child, ast.Call) and _is_mark(child.func):
            for mark in (arg.value for arg in child.args if isinstance(arg, ast.Constant)):
                yield Binding(str(mark), path, "::".join(scope), child.lineno)
        yield from _in_node(child, path, inner)


def _is_mark(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr == "falsifies"
