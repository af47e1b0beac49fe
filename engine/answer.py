"""One answer to a request: its text as it comes, its tokens with their log-probabilities, counts.

Knows prompts, limits and what a token adds to the text; knows nothing of HTTP, of threads or of
the shape of OpenAI's objects.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.chat import ChatTemplate, render_chat
from engine.checkpoint import open_checkpoint
from engine.errors import naming
from engine.generate import Sampling, Step, budget, steps
from engine.model import Model
from engine.refusal import refused
from engine.request import ChatRequest, CompletionRequest
from engine.route import Route
from engine.text import TextStream
from engine.tokenizer import Tokenizer

AnyRequest = ChatRequest | CompletionRequest


@dataclass(frozen=True)
class Served:
    """What a server needs to answer."""

    model: Model
    tokenizer: Tokenizer
    template: ChatTemplate

    @classmethod
    def open(cls, path: Path, device: str = "cpu", route: Route | None = None) -> "Served":
        """The GGUF file or HF folder at `path`; it must hold a tokenizer and a template."""
        checkpoint = open_checkpoint(path)
        template = ChatTemplate.from_metadata(checkpoint.metadata, path)
        with naming(path):
            tokenizer = Tokenizer.from_metadata(checkpoint.metadata)
        return cls(Model.from_checkpoint(checkpoint, device, route), tokenizer, template)


@dataclass(frozen=True)
class Token:
    """A token as drawn: where it starts in the answer's text, and how probable the model held it.

    Log-probabilities are of the model's own distribution, at temperature 1 and with nothing left
    out. `top` holds the most probable ids, best first.
    """

    id: int
    offset: int  # characters
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """Text that is final, and the tokens, if they were asked for, that start in it."""

    text: str
    tokens: tuple[Token, ...] = ()


class Answer:
    """One answer under way: `pieces` yields it, then the counts and the reason are final.

    `prompt_tokens` and `completion_tokens` count ids; the stop token is neither text nor counted,
    the tokens of a stop string are counted, as they were made. `alternatives` is how many other
    tokens to report at each place, None for no tokens at all.
    """

    def __init__(
        self,
        prompt_tokens: int,
        made: Iterator[Step],
        text: TextStream,
        limit: int,
        alternatives: int | None,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.finish_reason = "stop"
        self.with_tokens = alternatives is not None
        self._made = made
        self._text = text
        self._limit = limit
        self._alternatives = alternatives or 0
        self._waiting: list[Token] = []

    def pieces(self) -> Iterator[Piece]:
        """A piece for each token, perhaps empty, and one for the rest; ends at a stop string."""
        for step in self._made:
            self.completion_tokens += 1
            if self.with_tokens:
                self._waiting.append(token(step, self._text.decoded, self._alternatives))
            yield self._piece(self._text.feed(step.token))
            if self._text.stopped:
                return
        rest = self._text.flush()
        if self.completion_tokens == self._limit and not self._text.stopped:
            self.finish_reason = "length"
        yield self._piece(rest) if self._text.stopped else Piece(rest, tuple(self._waiting))

    def _piece(self, text: str) -> Piece:
        """`text` with the tokens that start before its end: no other had a part in it."""
        ready = [each for each in self._waiting if each.offset < self._text.released]
        del self._waiting[: len(ready)]
        return Piece(text, tuple(ready))


def token(step: Step, offset: int, alternatives: int) -> Token:
    """The token of a step, with the `alternatives` most probable ids at its place."""
    logprobs = torch.log_softmax(step.logits.double(), dim=-1)  # [V]
    best = torch.topk(logprobs, min(alternatives, len(logprobs)))
    top = tuple(zip(best.indices.tolist(), best.values.tolist(), strict=True))
    return Token(step.token, offset, float(logprobs[step.token]), top)


def start_answer(served: Served, request: AnyRequest, max_prompt: int | None) -> Answer:
    """The answer to `request`, not yet running.

    Raises `RequestError` where the prompt is longer than the context or `max_prompt` tokens, or
    asks for what the template cannot show.
    """
    model, tokenizer = served.model, served.tokenizer
    ids, field = prompt_ids(served, request)
    context = model.config.context_length
    if len(ids) > context:
        expected = f"at most the context of {context}"
        raise refused(field, f"{len(ids)} tokens", expected, "context_length_exceeded")
    if max_prompt is not None and len(ids) > max_prompt:
        expected = f"at most {max_prompt} by this server's limit"
        raise refused(field, f"{len(ids)} tokens", expected, "prompt_too_long")
    limit = budget(model, len(ids), request.limit or context)
    sampling = Sampling(request.temperature, request.top_k, request.top_p, request.min_p)
    made = steps(model, ids, sampling, limit, seed=request.seed, stop_ids=tokenizer.eos_ids)
    text = TextStream(tokenizer, request.stop)
    return Answer(len(ids), made, text, limit, request.alternatives)


def prompt_ids(served: Served, request: AnyRequest) -> tuple[list[int], str]:
    """The prompt of `request`, and the field that it stands in."""
    if isinstance(request, ChatRequest):
        return served.tokenizer.encode(_rendered(served.template, request)), "messages"
    given = request.prompt
    return served.tokenizer.encode(given) if isinstance(given, str) else given, "prompt"


def _rendered(template: ChatTemplate, request: ChatRequest) -> str:
    """The messages by the template; refuses tools and calls that it would leave out."""
    messages, tools = request.conversation(), request.offered_tools()
    text = template.tool_use or template.text if tools else template.text
    given = {"tools": tools, "tool_calls": any("tool_calls" in each for each in messages)}
    for field, used in given.items():
        if used and field not in text:
            expected = f"none: this model's chat template does not mention {field}"
            raise refused(field, "some", expected, "unsupported")
    return render_chat(template, messages, tools=tools or None)
