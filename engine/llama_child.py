"""llama.cpp in a process of its own: takes prompts as lines of JSON, answers with its times.

Run by its path, not as a part of the package, so that its start counts no import of the engine.
Knows llama-cpp-python and nothing of the engine. All that is not given is llama-cpp-python's
default. A line is {"ids": […], "tokens": n}; the answer has the seconds of the prompt, those of the
`n` tokens after it, and the tokens, the prompt's own next one first.
"""

import json
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np


class Runner:
    """A model held by llama.cpp."""

    def __init__(self, path: str, threads: int, context: int, batch: int) -> None:
        self._package: Any = import_module("llama_cpp")
        self._model: Any = self._package.Llama(
            path,
            n_ctx=context,
            n_batch=batch,
            n_ubatch=batch,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )

    def run(self, ids: Sequence[int], tokens: int) -> dict[str, Any]:
        """Read a prompt from an empty cache and greedily make `tokens` after its next one."""
        self._model.reset()
        began = time.perf_counter()
        made = [self._next(ids)]
        read = time.perf_counter()
        for _ in range(tokens):
            made.append(self._next(made[-1:]))
        return {"prefill": read - began, "decode": time.perf_counter() - read, "tokens": made}

    def _next(self, ids: Sequence[int]) -> int:
        self._model.eval(ids)
        logits = self._package.llama_get_logits_ith(self._model.ctx, -1)
        return int(np.ctypeslib.as_array(logits, (self._model.n_vocab(),)).argmax())

    def close(self) -> None:
        """Free the model."""
        self._model.close()


def main() -> None:
    """Answer until the input ends."""
    runner = Runner(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(runner.run(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
