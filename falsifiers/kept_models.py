"""Model files that are made once in a process, however often they are asked for.

Under planted faults every fixture is made afresh, for each of hundreds of runs; a file that
follows from its seed need not be. What puts the writer itself to the test calls the engine's own
`write_fixture`. Knows nothing of what is claimed.
"""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import engine
from engine.fixture import FixtureShape


def write_fixture(
    path: Path, seed: int = 0, *, architecture: str = "qwen3moe", shape: FixtureShape | None = None
) -> Path:
    """As `engine.write_fixture`; a copy, which the caller may change."""
    shutil.copyfile(_made(seed, architecture, shape), path)
    return path


@cache
def _made(seed: int, architecture: str, shape: FixtureShape | None) -> Path:
    name = f"{len(list(_folder().iterdir()))}.gguf"
    return engine.write_fixture(_folder() / name, seed, architecture=architecture, shape=shape)


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="kept-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
