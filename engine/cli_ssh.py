"""Options that reach ssh, shared by the commands that use it; knows their names alone."""

from pathlib import Path
from typing import Annotated

import typer

SshFile = Annotated[
    Path | None,
    typer.Option("--ssh-config", "-F", metavar="FILE", help="Instead of ~/.ssh/config."),
]
SshOption = Annotated[
    list[str] | None,
    typer.Option("--ssh-option", metavar="NAME=VALUE", help="As in ssh_config; repeatable."),
]


def ssh_options(
    file: Path | None, settings: list[str] | None, option: str = "-o"
) -> tuple[str, ...]:
    """As ssh takes them, or another command whose `option` is its own."""
    own = ["-F", str(file)] if file else []
    return (*own, *(part for each in settings or () for part in (option, each)))
