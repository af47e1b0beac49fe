"""The commands of both packages and the plugin's options, as their own help tells them."""

from collections.abc import Iterator
from typing import Any

import click
from typer.main import get_command

from engine import cli as engine_cli
from tollens import cli as tollens_cli
from tollens import plugin

WIDTH = 78  # what click takes of 80 columns


def tollens_page() -> str:
    return "".join(_page("The `tollens` command", "tollens", get_command(tollens_cli.app)))


def engine_page() -> str:
    title = "The `engine` command"
    return "".join(_page(title, "python -m engine", get_command(engine_cli.app)))


def pytest_page() -> str:
    """The plugin's options, markers and fixture."""
    options = _Options()
    plugin.pytest_addoption(options)  # type: ignore[arg-type]
    rows = [f"| `{name}` | {more['help']} |\n" for name, more in options.found]
    markers = _Markers()
    plugin.pytest_configure(markers)  # type: ignore[arg-type]
    return (
        "# pytest's options\n\nWhat the plugin adds to pytest. How a run is judged and recorded is "
        "told in [Contracts, falsifiers, evidence](../contracts.md#running).\n\n"
        f"| option | |\n|---|---|\n{''.join(rows)}\n"
        "| marker or fixture | |\n|---|---|\n"
        f"{''.join(markers.found)}"
        "| `observe` | what a test measures with: [Observe](api-tollens.md#observe) |\n"
    )


def _page(title: str, name: str, command: Any) -> Iterator[str]:
    yield f"# {title}\n\nWhat `--help` prints, command by command.\n\n"
    yield f"## {name}\n\n```text\n{help_of(command, name)}\n```\n"
    for path, each in subcommands(name, command):
        yield f"\n## {path}\n\n```text\n{help_of(each, path)}\n```\n"


def subcommands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command below one, by the words that call it."""
    if not hasattr(command, "list_commands"):
        return
    context = click.Context(command, info_name=name)
    for word in command.list_commands(context):
        inner = command.get_command(context, word)
        yield f"{name} {word}", inner
        yield from subcommands(f"{name} {word}", inner)


def help_of(command: Any, name: str) -> str:
    """What `name --help` prints in a terminal of 80 columns."""
    context = command.context_class(command, info_name=name, terminal_width=WIDTH)
    return str(command.get_help(context)).rstrip()


class _Options:
    """Takes the place of pytest's parser, to be told the options."""

    def __init__(self) -> None:
        self.found: list[tuple[str, dict[str, Any]]] = []

    def getgroup(self, *_: str) -> "_Options":
        return self

    def addoption(self, name: str, **more: Any) -> None:
        choices = "|".join(more.get("choices", ()))
        value = more.get("metavar") or choices
        self.found.append((f"{name}={value}".replace("|", r"\|") if value else name, more))


class _Markers:
    """Takes the place of pytest's configuration, to be told the markers."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def addinivalue_line(self, _: str, line: str) -> None:
        name, _, meaning = line.partition(": ")
        self.found.append(f"| `{name}` | {meaning} |\n")

    def getoption(self, _: str) -> list[str]:
        return []
