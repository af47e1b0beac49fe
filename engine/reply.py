"""OpenAI's response objects for an answer: whole, or in chunks.

Knows the shapes of both endpoints; knows nothing of HTTP or of how the answer comes about.
Source: https://platform.openai.com/docs/api-reference/chat/object, …/chat-streaming and
…/completions/object
"""

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Protocol

from engine.answer import Answer, Piece, Token
from engine.tokenizer import Tokenizer

JSONObject = dict[str, Any]


class Shape(Protocol):
    """How one endpoint writes an answer. A choice lacks only its index and finish reason."""

    prefix: str
    whole: str
    chunk: str

    def opening(self) -> JSONObject | None:
        """The choice of a stream's first chunk, if there is one before any text."""

    def choice(self, text: str, tokens: Sequence[Token] | None) -> JSONObject:
        """The choice of an unstreamed response."""

    def part(self, text: str, tokens: Sequence[Token] | None) -> JSONObject:
        """The choice of a chunk; no text closes the stream."""


class ChatShape:
    """/v1/chat/completions."""

    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def opening(self) -> JSONObject:
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None}

    def choice(self, text: str, tokens: Sequence[Token] | None) -> JSONObject:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"message": message, "logprobs": self._logprobs(tokens)}

    def part(self, text: str, tokens: Sequence[Token] | None) -> JSONObject:
        delta = {"content": text} if text else {}
        return {"delta": delta, "logprobs": self._logprobs(tokens)}

    def _logprobs(self, tokens: Sequence[Token] | None) -> JSONObject | None:
        if tokens is None:
            return None
        return {"content": [self._entry(each) for each in tokens], "refusal": None}

    def _entry(self, token: Token) -> JSONObject:
        top = [self._probable(*each) for each in token.top]
        return self._probable(token.id, token.logprob) | {"top_logprobs": top}

    def _probable(self, index: int, logprob: float) -> JSONObject:
        data = self._tokenizer.token_bytes(index, special=True)
        return {"token": token_text(data), "logprob": logprob, "bytes": list(data)}


class CompletionShape:
    """/v1/completions. Text offsets count from the start of the choice's text."""

    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def opening(self) -> None:
        return None

    def choice(self, text: str, tokens: Sequence[Token] | None) -> JSONObject:
        return {"text": text, "logprobs": self._logprobs(tokens)}

    part = choice

    def _logprobs(self, tokens: Sequence[Token] | None) -> JSONObject | None:
        if tokens is None:
            return None
        return {
            "tokens": [self._text(each.id) for each in tokens],
            "token_logprobs": [each.logprob for each in tokens],
            "top_logprobs": [self._top(each) for each in tokens],
            "text_offset": [each.offset for each in tokens],
        }

    def _top(self, token: Token) -> JSONObject:
        """The most probable tokens, and the one drawn, which need not be among them."""
        return {self._text(i): logprob for i, logprob in (*token.top, (token.id, token.logprob))}

    def _text(self, index: int) -> str:
        return token_text(self._tokenizer.token_bytes(index, special=True))


def token_text(data: bytes) -> str:
    """A token as text; one that is no whole text as OpenAI writes it, by its bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def new_head(shape: Shape, model: str) -> JSONObject:
    """The fields that every object of one response shares."""
    return {
        "id": f"{shape.prefix}-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": model,
    }


def usage(answer: Answer) -> JSONObject:
    """Token counts, as OpenAI reports them."""
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": answer.prompt_tokens + answer.completion_tokens,
    }


def completion(
    head: JSONObject, shape: Shape, pieces: Sequence[Piece], answer: Answer
) -> JSONObject:
    """The body of an unstreamed response, when `pieces` are all there are."""
    text = "".join(piece.text for piece in pieces)
    tokens = [token for piece in pieces for token in piece.tokens]
    choice = shape.choice(text, tokens if answer.with_tokens else None)
    choice |= {"index": 0, "finish_reason": answer.finish_reason}
    return head | {"object": shape.whole, "choices": [choice], "usage": usage(answer)}


async def stream_chunks(
    head: JSONObject,
    shape: Shape,
    pieces: AsyncIterator[Piece],
    answer: Answer,
    *,
    include_usage: bool = False,
) -> AsyncGenerator[JSONObject]:
    """The chunks of a streamed response: text, finish reason and, if asked for, usage."""
    head = head | {"object": shape.chunk} | ({"usage": None} if include_usage else {})
    opening = shape.opening()
    if opening is not None:
        yield _chunk(head, opening)
    async for piece in pieces:
        if piece.text or piece.tokens:
            yield _chunk(head, shape.part(piece.text, piece.tokens if answer.with_tokens else None))
    yield _chunk(head, shape.part("", None), answer.finish_reason)
    if include_usage:
        yield head | {"choices": [], "usage": usage(answer)}


def _chunk(head: JSONObject, choice: JSONObject, finish_reason: str | None = None) -> JSONObject:
    return head | {"choices": [choice | {"index": 0, "finish_reason": finish_reason}]}
