"""Another engine to be measured against: llama.cpp, by llama-cpp-python.

Knows how to start it and what to ask; knows nothing of rates. It runs in a process of its own,
which is idle while this one is measured, so that neither's threads get in the other's way.
"""

import json
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

from engine.child import Child
from engine.errors import EngineError

PEERS = ("llama.cpp",)
SCRIPT = Path(__file__).with_name("llama_child.py")


class Times(NamedTuple):
    """Seconds of a prompt and of the tokens after it, and those tokens."""

    prefill: float
    decode: float
    tokens: tuple[int, ...]


class Peer(Protocol):
    """What another engine must be able to do."""

    @property
    def name(self) -> str:
        """With its version."""

    def launch(self, ids: Sequence[int]) -> float:
        """Start it again, from nothing; seconds to the first token after the prompt `ids`."""

    def run(self, ids: Sequence[int], tokens: int) -> Times:
        """Read the prompt into an empty cache, then make `tokens` greedily, one at a time."""

    def close(self) -> None:
        """End it."""


class LlamaCpp:
    """llama.cpp on the GGUF at `path`; `batch` is the longest prompt, `context` positions."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        context: int,
        batch: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name = f"llama.cpp (llama-cpp-python {version('llama-cpp-python')})"
        self._options = {
            "path": str(path),
            "threads": threads,
            "context": context,
            "batch": batch,
        }
        self._clock = clock
        self._child: Child | None = None

    def launch(self, ids: Sequence[int]) -> float:
        self.close()
        began = self._clock()
        self._ask(ids, 0)
        return self._clock() - began

    def run(self, ids: Sequence[int], tokens: int) -> Times:
        return self._ask(ids, tokens)

    def _ask(self, ids: Sequence[int], tokens: int) -> Times:
        if self._child is None:
            # -P: the package's folder must not hide modules of the standard library.
            self._child = Child("llama.cpp", ["-P", str(SCRIPT), json.dumps(self._options)])
        answer = self._child.ask({"ids": list(ids), "tokens": tokens})
        return Times(answer["prefill"], answer["decode"], tuple(answer["tokens"]))

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


def open_peer(name: str, path: Path, *, threads: int, context: int, batch: int) -> Peer:
    """The peer `name` on the file at `path`, not started yet; `EngineError` where it cannot be."""
    if name not in PEERS:
        raise EngineError(f"--compare: found {name!r}, expected one of {', '.join(PEERS)}")
    if find_spec("llama_cpp") is None:
        raise EngineError(
            "--compare llama.cpp: found no module llama_cpp, expected it; "
            "pip install 'tollens[oracles]'"
        )
    if path.is_dir():
        raise EngineError(f"--compare llama.cpp: found the folder {path}, expected a GGUF file")
    return LlamaCpp(path, threads=threads, context=context, batch=batch)
