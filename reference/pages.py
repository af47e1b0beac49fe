"""Which page is made by what, and the navigation's patterns filled in; knows no mkdocs."""

from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any

from reference import commands, fields, names

PAGES: dict[str, Callable[[], str]] = {
    "reference/tollens.md": commands.tollens_page,
    "reference/pytest.md": commands.pytest_page,
    "reference/contract.md": fields.contract_page,
    "reference/evidence.md": fields.evidence_page,
    "reference/api-tollens.md": names.tollens_page,
    "reference/engine.md": commands.engine_page,
    "reference/api-engine.md": names.engine_page,
}


def generated() -> dict[str, str]:
    """The text of each generated page, by its path in the site."""
    return {path: make() for path, make in PAGES.items()}


def filled(nav: Any, pages: list[str]) -> Any:
    """The navigation with its patterns replaced by the pages that are there.

    A page is taken by the first that names it; a section that comes out empty is left out.
    """
    named = {each for each in _leaves(nav) if each in pages}
    return _filled(nav, [page for page in pages if page not in named], pages)


def _leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [leaf for each in inner for leaf in _leaves(each)]


def _filled(nav: Any, free: list[str], pages: list[str]) -> list[Any]:
    made: list[Any] = []
    for each in nav:
        if isinstance(each, dict):
            [(title, inner)] = each.items()
            inner = inner if isinstance(inner, str) else _filled(inner, free, pages)
            made += [{title: inner}] if inner else []
        elif "*" in each:
            taken = [page for page in free if fnmatch(page, each.replace("**/", "*"))]
            free[:] = [page for page in free if page not in taken]
            made += taken
        else:
            made += [each] if each in pages else []
    return made
