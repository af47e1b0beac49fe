"""The public names of both packages, as their docstrings describe them."""

import enum
import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

MADE_ELSEWHERE = {"Observe"}  # no user calls the constructor
FIELDS = {"Contract": "contract.md", "Evidence": "evidence.md"}


def tollens_page() -> str:
    intro = "What `import tollens` offers, and the fixture `observe`."
    names = [*_names("tollens"), ("Observe", _named("tollens.observing", "Observe"))]
    return "".join(_page("Python: tollens", intro, "tollens.errors", names))


def engine_page() -> str:
    intro = "What `import engine` and `import engine.distill` offer."
    names = [*_names("engine"), *_names("engine.distill")]
    return "".join(_page("Python: engine", intro, "engine.errors", names))


def _names(module: str) -> list[tuple[str, Any]]:
    public: ModuleType = importlib.import_module(module)
    return [(name, getattr(public, name)) for name in public.__all__]


def _named(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _page(title: str, intro: str, errors: str, names: list[tuple[str, Any]]) -> Iterator[str]:
    yield f"# {title}\n\n{intro}\n"
    raised = [(name, each) for name, each in names if _is_error(each)]
    for name, each in names:
        if not _is_error(each):
            yield from _entry(name, each)
    yield f"\n## Errors\n\n```text\n{inspect.getdoc(importlib.import_module(errors))}\n```\n"
    for name, each in raised:
        if vars(each).get("__doc__"):  # the others are told in the tree alone
            yield f"\n### {name}\n\n{_text(each)}\n"


def _is_error(each: Any) -> bool:
    return isinstance(each, type) and issubclass(each, Exception)


def _entry(name: str, each: Any) -> Iterator[str]:
    yield f"\n## {name}\n\n"
    if not callable(each):
        yield f"`{each!r:.200}`\n"
    elif isinstance(each, enum.EnumType):
        members: list[enum.Enum] = list(each)
        yield f"{_text(each)}\n\n{', '.join(f'`{member}`' for member in members)}\n"
    elif name in FIELDS:
        yield f"{_text(each)}\n\nIts fields are on [a page of their own]({FIELDS[name]}).\n"
    elif name in MADE_ELSEWHERE:
        yield f"{_text(each)}\n"
    else:
        yield f"{_signature(name, each)}\n\n{_text(each)}\n"
    if isinstance(each, type):
        yield from _members(name, each)


def _members(name: str, owner: type) -> Iterator[str]:
    """The documented methods and properties that a class defines itself."""
    for member, raw in vars(owner).items():
        inner = getattr(raw, "fget", None) or getattr(raw, "func", None)
        function = inner or getattr(raw, "__func__", raw)
        if inspect.isroutine(function) and not member.startswith("_") and function.__doc__:
            shown = f"`{member}`" if inner else _signature(member, function)
            yield f"\n### {name}.{member}\n\n{shown}\n\n{_text(function)}\n"


def _signature(name: str, each: Any) -> str:
    text = f"{name}{inspect.signature(each)}"
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations that are kept as text
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)  # names without their modules
    text = re.sub(r"<(?:class )?'?([\w.]+)[^>]*>", r"\1", text)
    return f"```python\n{_folded(text)}\n```"


def _folded(text: str) -> str:
    """A long signature with a parameter on each line."""
    if len(text) <= 88:
        return text
    start, end = text.index("("), text.rindex(")")
    parts = re.split(r", (?![^\[(]*[\])])", text[start + 1 : end])
    return f"{text[:start]}(\n" + "".join(f"    {part},\n" for part in parts) + text[end:]


def _text(each: Any) -> str:
    return _escaped(inspect.getdoc(each) or "")


def _escaped(text: str) -> str:
    """Docstrings are text: `<` opens no tag in them."""
    return text.replace("<", "&lt;")
