"""Planted faults: finds them, plants them, and knows whether the planted code was reached.

A saboteur is a documented function in a module of the project's saboteurs folder that takes
`plant` and makes one thing wrong with it; its name in contracts has dashes for underscores:

    def router_not_renormalised(plant):
        "The chosen experts' weights are left as they are and sum to less than one."
        plant("engine.moe.route", lambda route: lambda logits, k: ...)
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tollens.digests import Sources
from tollens.errors import SaboteurError
from tollens.project import Project

Fault = Callable[[Any], Callable[..., Any]]


@dataclass(frozen=True)
class Saboteur:
    """A planted fault as written: where it stands and what its docstring says that it breaks."""

    name: str
    path: str
    line: int
    summary: str

    @property
    def function(self) -> str:
        return self.name.replace("-", "_")


def find_saboteurs(project: Project) -> dict[str, Saboteur]:
    """Every saboteur of the project, by name, found by reading."""
    found: dict[str, Saboteur] = {}
    for path in sorted((project.root / project.saboteurs).rglob("*.py")):
        for saboteur in _in_file(path, project.shown(path)):
            if saboteur.name in found:
                other = found[saboteur.name]
                where = f"{saboteur.path}:{saboteur.line}"
                raise SaboteurError(f"{where}: {saboteur.name} is defined in {other.path} too")
            found[saboteur.name] = saboteur
    return found


def _in_file(path: Path, shown: str) -> Iterator[Saboteur]:
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError as error:
        raise SaboteurError(f"{shown}:{error.lineno}: {error.msg}") from error
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and [a.arg for a in node.args.args] == ["plant"]:
            name = node.name.replace("_", "-")
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            yield Saboteur(name, shown, node.lineno, summary)


def saboteur_digests(found: dict[str, Saboteur], sources: Sources) -> dict[str, str]:
    """Digest of each saboteur's source: its file and what that imports from the test folder."""
    under = f"{sources.project.falsifiers}/"
    of_files = {
        path: sources.digest({path, *sources.closure([path], under)})
        for path in {each.path for each in found.values()}
    }
    return {name: of_files[each.path] for name, each in found.items()}


@dataclass
class Planting:
    """The faults in force; `plant` puts one in, and the harness takes them out."""

    root: Path
    undo: list[Callable[[], None]] = field(default_factory=list)
    reached: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))

    def __call__(self, target: str, fault: Fault) -> None:
        """Replace the callable at the dotted name `target` by `fault(original)`.

        Every module of the project that imported the original by name sees the fault too. Forked
        children inherit it, and count as reaching it.
        """
        owner, name = _resolve(target)
        raw = vars(owner).get(name, getattr(owner, name))
        wrap: Callable[[Any], Any] = lambda function: function  # noqa: E731
        if isinstance(raw, staticmethod | classmethod | property):
            original, wrap = raw.fget if isinstance(raw, property) else raw.__func__, type(raw)
        else:
            original = raw
        if not callable(original):
            raise SaboteurError(f"{target} is a {type(raw).__name__}; a callable can be planted")
        planted = wrap(self._counted(original, fault(original)))
        for place, attribute in [(owner, name), *self._references(raw, owner)]:
            self._replace(place, attribute, planted, raw)

    def _counted(self, original: Any, planted: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original, updated=())
        def reached(*args: Any, **kwargs: Any) -> Any:
            self.reached[0] = 1
            return planted(*args, **kwargs)

        @functools.wraps(original, updated=())
        async def reached_later(*args: Any, **kwargs: Any) -> Any:
            said = reached(*args, **kwargs)
            return await said if inspect.isawaitable(said) else said

        return reached_later if inspect.iscoroutinefunction(original) else reached

    def _references(self, original: Any, owner: Any) -> Iterator[tuple[Any, str]]:
        inside = f"{self.root}{os.sep}"
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if module is owner or not str(file).startswith(inside):
                continue
            for name, value in list(vars(module).items()):
                if value is original:
                    yield module, name

    def _replace(self, place: Any, name: str, planted: Any, original: Any) -> None:
        had = name in vars(place)
        setattr(place, name, planted)
        self.undo.append(lambda: setattr(place, name, original) if had else delattr(place, name))

    def remove(self) -> None:
        while self.undo:
            self.undo.pop()()


def _resolve(target: str) -> tuple[Any, str]:
    """The object that holds the last part of a dotted name, importing the longest module in it."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            owner: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if not ".".join(parts[:cut]).startswith(error.name or "?"):
                raise
            continue
        try:
            for part in parts[cut:-1]:
                owner = getattr(owner, part)
            getattr(owner, parts[-1])
        except AttributeError as error:
            raise SaboteurError(f"{target}: {error}") from error
        return owner, parts[-1]
    raise SaboteurError(f"{target}: no such module")


@contextmanager
def planted(saboteur: Saboteur, root: Path) -> Iterator[Planting]:
    """Put the fault in force; the planting tells afterwards whether its code was reached."""
    planting = Planting(root)
    try:
        _load(saboteur, root)(planting)
        if not planting.undo:
            raise SaboteurError(f"{saboteur.name}: planted nothing")
        yield planting
    finally:
        planting.remove()


def _load(saboteur: Saboteur, root: Path) -> Callable[[Planting], None]:
    name = f"_saboteurs_{saboteur.path.replace('/', '_').removesuffix('.py')}"
    spec = importlib.util.spec_from_file_location(name, root / saboteur.path)
    if spec is None or spec.loader is None:
        raise SaboteurError(f"{saboteur.path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Planting], None] = getattr(module, saboteur.function)
    return function
