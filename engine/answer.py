"""One answer to a chat request: its text as it comes, its counts, and OpenAI's bodies for it.

Knows stop strings and the shapes of the response objects; knows nothing of HTTP, of threads or
of how tokens are chosen.
Source: https://platform.openai.com/docs/api-reference/chat/object
"""

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

from engine.chat import ChatTemplate, render_chat
from engine.errors import RequestError
from engine.generate import budget, generate
from engine.model import Model
from engine.request import ChatRequest, JSONObject
from engine.tokenizer import Tokenizer


class Answer:
    """One answer under way: `pieces` yields its text, then the counts and the reason are final.

    `prompt_tokens` and `completion_tokens` count ids; the stop token is neither text nor counted.
    """

    def __init__(
        self,
        prompt_tokens: int,
        tokens: Iterator[int],
        tokenizer: Tokenizer,
        stop: tuple[str, ...],
        limit: int,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.completion_tokens = 0
        self.finish_reason = "stop"
        self._tokens = tokens
        self._decoder = tokenizer.stream()
        self._stop = stop
        self._limit = limit

    def pieces(self) -> Iterator[str]:
        """Text that is final, once for each token and so perhaps empty; ends at a stop string."""
        held = ""
        for token in self._tokens:
            self.completion_tokens += 1
            held += self._decoder.feed(token)
            end = find_stop(held, self._stop)
            if end is not None:
                yield held[:end]
                return
            ready = len(held) - overlap(held, self._stop)
            yield held[:ready]
            held = held[ready:]
        if self.completion_tokens == self._limit:
            self.finish_reason = "length"
        yield held + self._decoder.flush()


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string in `text` starts."""
    found = [place for place in map(text.find, stops) if place >= 0]
    return min(found, default=None)


def overlap(text: str, stops: Sequence[str]) -> int:
    """The length of the longest end of `text` that a stop string begins with."""
    longest = max((len(stop) - 1 for stop in stops), default=0)
    for size in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-size:]) for stop in stops):
            return size
    return 0


def start_answer(
    model: Model, tokenizer: Tokenizer, template: ChatTemplate, request: ChatRequest
) -> Answer:
    """The answer to `request`, not yet running; `RequestError` where the prompt is too long."""
    ids = tokenizer.encode(render_chat(template, request.messages))
    context = model.config.context_length
    if len(ids) > context:
        raise RequestError(
            f"messages: found {len(ids)} tokens, expected at most the context of {context}",
            param="messages",
            code="context_length_exceeded",
        )
    limit = budget(model, len(ids), request.max_tokens or context)
    tokens = generate(
        model,
        ids,
        max_tokens=limit,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop_ids=tokenizer.eos_ids,
    )
    return Answer(len(ids), tokens, tokenizer, request.stop, limit)


def new_head(model: str) -> JSONObject:
    """The fields that every object of one response shares."""
    return {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}


def usage(answer: Answer) -> JSONObject:
    """Token counts, as OpenAI reports them."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def completion(head: JSONObject, text: str, answer: Answer) -> JSONObject:
    """The body of an unstreamed response."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "logprobs": None,
        "finish_reason": answer.finish_reason,
    }
    return head | {"object": "chat.completion", "choices": [choice], "usage": usage(answer)}


async def stream_chunks(
    head: JSONObject, pieces: AsyncIterator[str], answer: Answer, *, include_usage: bool = False
) -> AsyncGenerator[JSONObject]:
    """The chunks of a streamed response: role, text, finish reason and, if asked for, usage."""
    head = head | {"object": "chat.completion.chunk"}
    head |= {"usage": None} if include_usage else {}
    yield _chunk(head, {"role": "assistant", "content": ""})
    async for piece in pieces:
        if piece:
            yield _chunk(head, {"content": piece})
    yield _chunk(head, {}, answer.finish_reason)
    if include_usage:
        yield head | {"choices": [], "usage": usage(answer)}


def _chunk(head: JSONObject, delta: JSONObject, finish_reason: str | None = None) -> JSONObject:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return head | {"choices": [choice]}
