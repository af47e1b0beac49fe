"""Completions of prompts by a model; knows tokens and stop strings, and not what for."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from engine.errors import EngineError
from engine.generate import Sampling, generate
from engine.model import Model
from engine.text import TextStream
from engine.tokenizer import Tokenizer

# Chen et al. 2021, section 3.2: a line that is indented no more ends the function.
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")


@dataclass(frozen=True)
class Drawing:
    """How completions are drawn; `samples` of each prompt."""

    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        Sampling(self.temperature, top_p=self.top_p)
        for name in ("samples", "max_tokens"):
            if getattr(self, name) < 1:
                raise EngineError(f"{name}: found {getattr(self, name)}, expected at least 1")
        if self.samples > 1 and self.temperature == 0:
            raise EngineError(
                f"temperature: found 0 for {self.samples} samples, which would all be the same; "
                "expected above 0, or one sample"
            )


class Completer:
    """A model that completes prompts; a prompt goes through it once for all its samples."""

    def __init__(self, model: Model, tokenizer: Tokenizer, drawing: Drawing) -> None:
        self.drawing = drawing
        self._model, self._tokenizer = model, tokenizer
        self._cache = model.new_cache()
        self._ids: list[int] = []

    def __call__(self, name: str, prompt: str, sample: int) -> str:
        """The sample of this number; `name` and it decide the seed, so that order does not."""
        stream = TextStream(self._tokenizer, STOPS)
        return "".join(self._pieces(name, prompt, sample, stream))

    def _pieces(self, name: str, prompt: str, sample: int, stream: TextStream) -> Iterator[str]:
        try:
            self._read(self._tokenizer.encode(prompt))
            for token in self._tokens(seed_of(self.drawing.seed, name, sample)):
                yield stream.feed(token)
                if stream.stopped:
                    break
        except EngineError as error:
            raise type(error)(f"{name}: {error}") from error
        yield stream.flush()

    def _tokens(self, seed: int) -> Iterator[int]:
        return generate(
            self._model,
            self._ids[-1:],
            max_tokens=self.drawing.max_tokens,
            temperature=self.drawing.temperature,
            top_p=self.drawing.top_p,
            seed=seed,
            stop_ids=self._tokenizer.eos_ids,
            cache=self._cache,
        )

    def _read(self, ids: list[int]) -> None:
        """All but the last token into the cache, unless they are there."""
        if ids != self._ids:
            self._ids = []
            self._cache.truncate()
            if ids[:-1]:
                self._model.forward(ids[:-1], self._cache, last_only=True, output=False)
            self._ids = ids
        self._cache.truncate(max(len(ids) - 1, 0))


def seed_of(seed: int, name: str, sample: int) -> int:
    """One number of 63 bits from three."""
    digest = sha256(f"{seed}/{name}/{sample}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
