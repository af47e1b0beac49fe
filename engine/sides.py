"""What is traced, and by which route: a model, or a trace that was written before; and with what.

Knows paths, routes and prompts; knows nothing of options, bands or drawing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.chat import ChatTemplate, render_chat
from engine.checkpoint import open_checkpoint
from engine.errors import EngineError
from engine.gguf import Checkpoint
from engine.model import Model
from engine.tokenizer import Tokenizer
from engine.trace import Recording, Tokens, Trace, read_trace, record

# How a model computes: plain decodes blocks when they are used, float decodes all up front.
ROUTES: dict[str, Callable[[Model], Model]] = {
    "plain": lambda model: model,
    "float": lambda model: model.to_float(),
}


@dataclass(frozen=True)
class Prompt:
    """What to trace, as the command line gave it."""

    text: str | None
    ids: tuple[int, ...] | None
    raw: bool
    tokens: Tokens | None

    def ids_for(self, checkpoint: Checkpoint) -> tuple[int, ...] | None:
        """The ids, or None where they are text and the model has no tokenizer."""
        if self.ids is not None or self.text is None:
            return self.ids
        if "tokenizer.ggml.tokens" not in checkpoint.metadata:
            return None
        text = self.text
        if not self.raw:
            template = ChatTemplate.from_metadata(checkpoint.metadata, checkpoint.path)
            text = render_chat(template, [{"role": "user", "content": text}])
        return tuple(Tokenizer.from_metadata(checkpoint.metadata).encode(text))


@dataclass(frozen=True)
class Side:
    """A model by one of the routes, or a trace that was written before."""

    path: Path
    route: str

    @classmethod
    def named(cls, text: str) -> "Side":
        """From PATH or PATH@ROUTE."""
        path, _, route = text.rpartition("@")
        return cls(Path(path), route) if path and route in ROUTES else cls(Path(text), "plain")

    @cached_property
    def trace(self) -> Trace | None:
        """The trace, if it is one."""
        return read_trace(self.path) if self.path.suffix == ".json" else None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.path)

    def prompt_ids(self, prompt: Prompt) -> tuple[int, ...] | None:
        """The ids that this side takes the prompt for, or that it was traced with."""
        return prompt.ids_for(self.checkpoint) if self.trace is None else self.trace.prompt_ids

    def record(self, ids: Sequence[int], tokens: Tokens, device: str, keep: bool) -> Recording:
        """Run the model, unless that was done before."""
        if self.trace is not None:
            return Recording(self.trace)
        model = ROUTES[self.route](Model.from_checkpoint(self.checkpoint, device))
        file = str(self.path)
        return record(model, ids, tokens=tokens, file=file, route=self.route, keep=keep)


def recordings(sides: Sequence[Side], prompt: Prompt, device: str) -> list[Recording]:
    """Both sides in turn; a side without a tokenizer takes the other's ids, and a trace's are
    everybody's unless a prompt is given."""
    ids = [side.prompt_ids(prompt) for side in sides]
    known = next((each for each in ids if each is not None), None)
    if known is None:
        raise EngineError(
            "prompt: found none, expected --prompt TEXT (for a model with a tokenizer) or --ids"
        )
    traces = [side.trace for side in sides if side.trace is not None]
    tokens = prompt.tokens or (traces[0].tokens if traces else "last")
    keep = len(sides) > 1 and not traces
    return [
        side.record(known if own is None else own, tokens, device, keep)
        for side, own in zip(sides, ids, strict=True)
    ]
