"""Options that several commands share, and where their results go.

Knows option names, JSON files and stdout; knows nothing of what is written there.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import EngineError
from engine.routes import ROUTES, Choice, choose

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="A GGUF file or a HF folder.")]
Device = Annotated[str, typer.Option(help="A torch device: cpu, cuda, cuda:1.")]
RouteName = Annotated[
    str,
    typer.Option(
        "--route",
        envvar="ENGINE_ROUTE",
        metavar="|".join(ROUTES),
        help="How to multiply: docs/engine.md.",
    ),
]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE.json", help="Write JSON there; - prints it.")
]


def open_route(name: str, device: str) -> Choice:
    """The route `name`, and say which it is and why."""
    choice = choose(name, device)
    say(choice)
    return choice


def say(choice: Choice) -> None:
    """Tell stderr which route runs, and why."""
    print(f"route: {choice.reason}", file=sys.stderr, flush=True)


def speaker(as_json: bool) -> Callable[[str], None]:
    """Tells people lines, on stderr where stdout is JSON; under `torchrun` the first process."""
    stream = sys.stderr if as_json else sys.stdout
    quiet = os.environ.get("RANK", "0") != "0"
    return lambda line: None if quiet else print(line, file=stream, flush=True)


def check_json(path: Path | None) -> None:
    """Refuse a name that may be a model's, before anything is computed."""
    if path is not None and not _is_stdout(path) and path.suffix != ".json":
        raise EngineError(f"--json: found {path}, expected a name that ends in .json, or -")


def require_permission(command: str, allowed: bool) -> None:
    """Refuse to run anything that was not asked for."""
    if not allowed:
        raise EngineError(
            f"{command} runs code that a model wrote: found no --allow-code-execution, "
            "expected it to say that you want that on this machine"
        )


def put(json_to: Path | None, json_text: str, table: Iterable[str]) -> None:
    """The table on stdout and the JSON in its file; the JSON alone where it goes to stdout."""
    if json_to is None or not _is_stdout(json_to):
        for line in table:
            print(line)
    if json_to is None:
        return
    if _is_stdout(json_to):
        print(json_text)
        return
    try:
        json_to.write_text(json_text + "\n", "utf-8")
    except OSError as error:
        raise EngineError(f"{json_to}: found {error.strerror}, expected to write there") from error
    print(f"written: {json_to}", file=sys.stderr)


def to_json(found: Any) -> str:
    """Strict JSON: a number that is not finite becomes null."""
    return json.dumps(_finite(found), ensure_ascii=False, allow_nan=False)


def _finite(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: _finite(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_finite(value) for value in found]
    return None if isinstance(found, float) and not isfinite(found) else found


def _is_stdout(path: Path) -> bool:
    return str(path) == "-"
