"""Whether a command of the documentation exists and takes the options that it is given.

Nothing is run: the commands' own parsers, pytest's help, the Makefile and a script's text know.
"""

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from typer.main import get_command

from falsifiers.doc_pages import ROOT, text_of, words
from falsifiers.doc_shell import ASSIGNED, Shell, script

WORD = re.compile(r"[a-z][a-z-]*")
OPTION = re.compile(r"--[a-z][\w-]*")
OPERATOR = re.compile(r"(?:^|(?<=\s))(?:\|\||&&|\||;|&)(?=\s|$)")
INLINE = re.compile(r"(?<!`)`((?:tollens|pytest|python -m engine|engine|make) [^`]+)`(?!`)")
FOREIGN = {
    *("cat", "cd", "cp", "curl", "echo", "false", "git", "grep", "ls", "mkdir", "pip", "printf"),
    *("json.tool", "rm", "sed", "sha256sum", "true"),
    "openssl",  # makes the keys that sign evidence
}
MODULES = {"pytest", "engine", "json.tool", "tollens", "mkdocs", "pip"}


def complaint(text: str) -> str:
    """What is wrong with a command line, before it is run; empty if nothing is."""
    bare = re.sub(r"\d?>+ ?\S+", "", text.replace("\\\n", " "))
    found = (_of_one(words(each)) for each in OPERATOR.split(bare) if words(each))
    return "; ".join(filter(None, found))


def _of_one(parts: list[str]) -> str:
    parts = list(itertools.dropwhile(ASSIGNED.match, parts)) or ["true"]
    name, rest = Path(parts[0]).name, parts[1:]
    if name == "torchrun":
        name, rest = "python", rest[rest.index("-m") :]
    if name in ("python", "python3"):
        if rest[:1] != ["-m"]:
            return _script(rest)
        name, rest = rest[1], rest[2:]
        if name not in MODULES:
            return _script([f"{name.replace('.', '/')}.py", *rest])
    return CHECKS.get(name, _foreign)(name, rest)


def _foreign(name: str, rest: list[str]) -> str:
    return "" if name in FOREIGN else f"{name}: no command that a reader has"


def _script(rest: list[str]) -> str:
    path = ROOT / rest[0]
    if not path.is_file():
        return "" if "/" not in rest[0] else f"{rest[0]}: no such file"
    source = path.read_text("utf-8")
    unknown = [each for each in rest if OPTION.match(each) and f'"{_name(each)}"' not in source]
    return f"{rest[0]}: unknown {', '.join(unknown)}" if unknown else ""


def _name(option: str) -> str:
    return option.partition("=")[0]


def _make(_: str, rest: list[str]) -> str:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    unknown = {each for each in rest if "=" not in each} - targets
    return f"make: no target {', '.join(sorted(unknown))}" if unknown else ""


def _pytest(_: str, rest: list[str]) -> str:
    known = set(OPTION.findall(_help_of_pytest()))
    unknown = [each for each in rest if OPTION.match(each) and _name(each) not in known]
    return f"pytest: unknown {', '.join(unknown)}" if unknown else ""


@cache
def _help_of_pytest() -> str:
    return Shell(ROOT).run("pytest --help -p no:cacheprovider").out


@cache
def app(name: str) -> Any:
    """The command that a console script or `python -m engine` calls."""
    if name == "engine":
        from engine import cli  # here: most pages need no torch
    else:
        cli = sys.modules[script(name).__module__]
    return get_command(cli.app)


def _parsed(name: str, rest: list[str]) -> str:
    """What the command's own parser says of its arguments."""
    command, given, parents = app(name), list(rest), None
    if given == ["--help"]:
        return ""
    try:
        while True:
            context = command.make_context(name, given, parent=parents)
            left = [*getattr(context, "_protected_args", []), *context.args]
            if not hasattr(command, "resolve_command") or not left:
                return ""
            name, command, given = command.resolve_command(context, left)
            parents = context
    except Exception as error:
        if type(error).__name__ == "Exit":  # --version, and help within
            return ""
        return f"{name}: {getattr(error, 'message', error)}"


CHECKS: dict[str, Callable[[str, list[str]], str]] = {
    "engine": _parsed,
    "make": _make,
    "mkdocs": lambda name, rest: "",
    "pytest": _pytest,
    "tollens": _parsed,
}


def named(page: str) -> Iterator[tuple[str, str]]:
    """The commands that a page's text names in backticks: where, and the command."""
    for number, line in enumerate(text_of(page).splitlines(), 1):
        for each in INLINE.findall(line):
            yield f"{page}:{number}", each.replace("\\|", "|")


def unknown_in(text: str) -> str:
    """Which word or option of a command named in a text is none; placeholders are let be."""
    parts = [each for each in text.removeprefix("python -m ").split() if each != "…"]
    name, rest = parts[0], parts[1:]
    if name in ("pytest", "make"):
        return CHECKS[name](name, [each for each in rest if name == "pytest" or each.islower()])
    command, rest = _called(app(name), rest)
    known = {each for option in command.params for each in (*option.opts, *option.secondary_opts)}
    unknown = [
        each for each in rest if OPTION.match(each) and _name(each) not in known | {"--help"}
    ]
    if rest and WORD.fullmatch(rest[0]) and hasattr(command, "list_commands"):
        unknown.append(rest[0])
    return f"{name}: unknown {', '.join(unknown)}" if unknown else ""


def _called(command: Any, rest: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words call, and what follows them."""
    while rest and hasattr(command, "list_commands"):
        context = command.context_class(command)
        if rest[0] not in command.list_commands(context):
            break
        command, rest = command.get_command(context, rest[0]), rest[1:]
    return command, rest
