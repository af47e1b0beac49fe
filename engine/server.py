"""An OpenAI-compatible HTTP server over one model: chat completions, streamed or whole.

Knows HTTP, JSON and stop strings; knows nothing of tensors or of how tokens are chosen. One
generation runs at a time, in a worker thread; a bounded number waits, the rest is refused.
Source: https://platform.openai.com/docs/api-reference/chat
"""

import asyncio
import json
import socket
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from engine import chat
from engine.errors import EngineError, PromptError, RequestError, TemplateError
from engine.generate import budget, generate
from engine.model import Model
from engine.tokenizer import Tokenizer

ROLES = ("system", "developer", "user", "assistant", "tool")
JSONObject = dict[str, Any]


@dataclass(frozen=True)
class ChatRequest:
    """The fields of a request that the server acts on; defaults are OpenAI's."""

    model: str
    messages: tuple[JSONObject, ...]
    stream: bool = False
    include_usage: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_seed(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_stop(value: object) -> bool:
    stops = value if isinstance(value, list) else [value]
    return len(stops) <= 4 and all(isinstance(stop, str) and stop for stop in stops)


def _is_stream_options(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {"include_usage"}
        and isinstance(value.get("include_usage", False), bool)
    )


def _only(neutral: object) -> Callable[[Any], bool]:
    """Accepts a parameter that the server lacks at the one value that changes nothing."""
    return lambda value: bool(value == neutral)


# Field -> (does the value fit?, what would fit). A field that is not here is an error.
FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda v: isinstance(v, str), "a string"),
    "messages": (lambda v: isinstance(v, list) and len(v) > 0, "a list of at least one message"),
    "stream": (lambda v: isinstance(v, bool), "true or false"),
    "stream_options": (_is_stream_options, '{"include_usage": true or false}'),
    "stop": (_is_stop, "a non-empty string or a list of up to 4"),
    "seed": (_is_seed, "a 64-bit integer"),
    "temperature": (lambda v: _is_number(v) and 0 <= v <= 2, "a number from 0 to 2"),
    "top_p": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "max_tokens": (_is_count, "a positive integer"),
    "max_completion_tokens": (_is_count, "a positive integer"),
    "user": (lambda v: isinstance(v, str), "a string"),
    "n": (_only(1), "1, as only one choice is supported"),
    "logprobs": (_only(False), "false, as logprobs are not supported"),
    "presence_penalty": (_only(0), "0, as penalties are not supported"),
    "frequency_penalty": (_only(0), "0, as penalties are not supported"),
}


def parse_request(body: object) -> ChatRequest:
    """Check a decoded JSON body; `RequestError` names the field, what it holds and what fits."""
    if not isinstance(body, dict):
        raise RequestError(f"body: found {type(body).__name__}, expected a JSON object")
    given = {name: value for name, value in body.items() if value is not None}
    for name in body.keys() - FIELDS.keys():
        raise RequestError(
            f"{name}: found an unknown field, expected one of {', '.join(FIELDS)}",
            param=name,
            code="unknown_parameter",
        )
    for name, value in given.items():
        fits, expected = FIELDS[name]
        if not fits(value):
            raise _invalid(name, value, expected)
    for name in ("model", "messages"):
        if name not in given:
            raise RequestError(
                f"{name}: found nothing, expected {FIELDS[name][1]}",
                param=name,
                code="missing_required_parameter",
            )
    stop = given.get("stop", [])
    return ChatRequest(
        model=given["model"],
        messages=tuple(_message(place, m) for place, m in enumerate(given["messages"])),
        stream=given.get("stream", False),
        include_usage=given.get("stream_options", {}).get("include_usage", False),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=given.get("seed"),
        temperature=float(given.get("temperature", 1.0)),
        top_p=float(given.get("top_p", 1.0)),
        max_tokens=given.get("max_completion_tokens", given.get("max_tokens")),
    )


def _invalid(name: str, value: object, expected: str) -> RequestError:
    found = repr(value)
    found = found if len(found) <= 60 else f"{found[:57]}..."
    return RequestError(
        f"{name}: found {found}, expected {expected}", param=name, code="invalid_value"
    )


def _message(place: int, message: object) -> JSONObject:
    where = f"messages[{place}]"
    if not isinstance(message, dict) or not message.keys() <= {"role", "content", "name"}:
        raise _invalid(where, message, "an object of role and content")
    if message.get("role") not in ROLES:
        raise _invalid(f"{where}.role", message.get("role"), f"one of {', '.join(ROLES)}")
    return message | {"content": _content(f"{where}.content", message.get("content"))}


def _content(where: str, content: object) -> str:
    """Text, or a list of text parts that are joined."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(_is_text_part(part) for part in content):
        raise _invalid(where, content, "a string or a list of text parts")
    return "".join(part["text"] for part in content)


def _is_text_part(part: object) -> bool:
    if not isinstance(part, dict):
        return False
    return part.get("type") == "text" and isinstance(part.get("text"), str)


def prompt_ids(
    tokenizer: Tokenizer, template: chat.ChatTemplate, messages: Sequence[JSONObject]
) -> list[int]:
    """The token ids that ask the model for the assistant's next message."""
    return tokenizer.encode(chat.render_chat(template, messages))


class Answer:
    """One answer under way: `pieces` yields its text, then the counts and the reason are final."""

    def __init__(
        self, tokens: Iterator[int], tokenizer: Tokenizer, stop: tuple[str, ...], limit: int
    ) -> None:
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
    model: Model, tokenizer: Tokenizer, template: chat.ChatTemplate, request: ChatRequest
) -> tuple[Answer, int]:
    """The answer to `request`, not yet running, and the prompt's length in tokens."""
    ids = prompt_ids(tokenizer, template, request.messages)
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
    return Answer(tokens, tokenizer, request.stop, limit), len(ids)


async def run_answer(answer: Answer, request: Request) -> AsyncGenerator[str]:
    """The answer's pieces, each made in a worker thread, until it ends or the client goes away."""
    async for piece in iterate_in_threadpool(answer.pieces()):
        if await request.is_disconnected():
            return
        yield piece


def usage(prompt: int, answer: Answer) -> JSONObject:
    """Token counts, as OpenAI reports them; the stop token is not counted."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.completion_tokens,
        "total_tokens": prompt + answer.completion_tokens,
    }


def completion(head: JSONObject, text: str, answer: Answer, prompt: int) -> JSONObject:
    """The body of an unstreamed response."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "logprobs": None,
        "finish_reason": answer.finish_reason,
    }
    kind = {"object": "chat.completion"}
    return head | kind | {"choices": [choice], "usage": usage(prompt, answer)}


async def stream_chunks(
    head: JSONObject,
    pieces: AsyncIterator[str],
    answer: Answer,
    prompt: int,
    *,
    include_usage: bool = False,
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
        yield head | {"choices": [], "usage": usage(prompt, answer)}


def _chunk(head: JSONObject, delta: JSONObject, finish_reason: str | None = None) -> JSONObject:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return head | {"choices": [choice]}


async def sse(chunks: AsyncIterator[JSONObject]) -> AsyncGenerator[str]:
    """Server-sent events for `chunks`; an error after the headers have gone out is an event too."""
    try:
        async for chunk in chunks:
            yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
    except EngineError as error:
        yield f"data: {json.dumps(error_body(error))}\n\n"
        return
    yield "data: [DONE]\n\n"


class Line:
    """Lets one request generate at a time; `max_waiting` may wait, the next is refused."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self.present = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the turn and hold it; `RequestError` (429) where the line is full."""
        if self.present > self.max_waiting:
            raise RequestError(
                f"queue: found it full, expected at most {self.max_waiting} to wait; retry later",
                status=429,
                code="queue_full",
            )
        self.present += 1
        try:
            async with self._turn:
                yield
        finally:
            self.present -= 1


class TurnResponse(StreamingResponse):
    """A stream that holds its turn from the first byte to the last, or until it is cut off."""

    def __init__(self, line: Line, content: AsyncGenerator[str]) -> None:
        super().__init__(content, media_type="text/event-stream")
        self._line = line
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._line.turn():
            try:
                await super().__call__(scope, receive, send)
            finally:
                await self._content.aclose()


@dataclass(frozen=True)
class Service:
    """The endpoints, and what they need."""

    model: Model
    tokenizer: Tokenizer
    template: chat.ChatTemplate
    name: str
    line: Line
    max_body: int
    created: int

    async def chat(self, request: Request) -> Response:
        wanted = parse_request(await read_json(request, self.max_body))
        if wanted.model != self.name:
            raise RequestError(
                f"model: found {wanted.model!r:.60}, expected {self.name!r}",
                status=404,
                param="model",
                code="model_not_found",
            )
        answer, prompt = start_answer(self.model, self.tokenizer, self.template, wanted)
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time())}
        head |= {"model": self.name}
        pieces = run_answer(answer, request)
        if wanted.stream:
            include = wanted.include_usage
            chunks = stream_chunks(head, pieces, answer, prompt, include_usage=include)
            return TurnResponse(self.line, sse(chunks))
        async with self.line.turn():
            text = "".join([piece async for piece in pieces])
        return JSONResponse(completion(head, text, answer, prompt))

    async def models(self, request: Request) -> Response:
        model = {"id": self.name, "object": "model", "created": self.created}
        return JSONResponse({"object": "list", "data": [model | {"owned_by": "engine"}]})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})


async def read_json(request: Request, limit: int) -> object:
    """The body, decoded; refused beyond `limit` bytes, before the rest is read."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise RequestError(
                f"body: found more than {limit} bytes, expected at most that",
                status=413,
                code="body_too_large",
            )
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"body: found {error}, expected JSON", code="invalid_json") from error


def error_body(error: Exception) -> JSONObject:
    """OpenAI's error object for `error`; says nothing of what is not the engine's own."""
    status, param, code = status_of(error), None, None
    message = str(error) if isinstance(error, EngineError) else "internal error"
    if isinstance(error, RequestError):
        param, code = error.param, error.code
    if isinstance(error, HTTPException):
        message = error.detail
    kinds = {404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_of(error: Exception) -> int:
    """The HTTP status: what the error says, 400 for a bad prompt, else 500."""
    if isinstance(error, RequestError):
        return error.status
    if isinstance(error, HTTPException):
        return error.status_code
    return 400 if isinstance(error, PromptError | TemplateError) else 500


async def _on_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        error.detail = f"{request.method} {request.url.path}: found {error.detail}"
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(error_body(error), status_of(error), headers=headers)


def create_app(
    model: Model,
    tokenizer: Tokenizer,
    *,
    name: str,
    template: chat.Source,
    max_waiting: int = 16,
    max_body: int = 1 << 20,
) -> Starlette:
    """The ASGI application that serves `model` as `name`, prompts rendered by `template`.

    `max_waiting` requests may wait behind the one that runs; `max_body` is in bytes.
    """
    opened, created = chat.open_template(template), int(time.time())
    service = Service(model, tokenizer, opened, name, Line(max_waiting), max_body, created)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", service.chat, methods=["POST"]),
            Route("/v1/models", service.models),
            Route("/health", service.health),
        ],
        exception_handlers={
            EngineError: _on_error,
            HTTPException: _on_error,
            Exception: _on_error,
        },
    )


def serve(app: Starlette, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until a signal; port 0 takes a free one. Prints the URL once connections are taken."""
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise EngineError(
            f"cannot listen on {host}:{port}: found {error.strerror}, expected a free address"
        ) from error
    print(f"http://{host}:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
