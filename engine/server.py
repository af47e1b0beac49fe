"""An OpenAI-compatible HTTP server over one model: chat completions, streamed or whole.

Knows HTTP, server-sent events and whose turn it is; knows nothing of tensors, tokens or templates.
One generation runs at a time, in a worker thread; a bounded number waits, the rest is refused.
Source: https://platform.openai.com/docs/api-reference/chat
"""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from engine import chat
from engine.answer import Answer, completion, new_head, start_answer, stream_chunks
from engine.errors import EngineError, PromptError, RequestError, TemplateError
from engine.model import Model
from engine.request import JSONObject, parse_request
from engine.tokenizer import Tokenizer

ERROR_TYPES = {404: "not_found_error", 429: "rate_limit_error"}


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


async def run_answer(answer: Answer, request: Request) -> AsyncGenerator[str]:
    """The answer's pieces, each made in a worker thread, until it ends or the client goes away.

    A thread that is at work is waited for even when the request is cancelled, so that two never
    generate at once.
    """
    pieces = answer.pieces()
    while not await request.is_disconnected():
        piece = await run_in_threadpool(next, pieces, None)
        if piece is None:
            return
        yield piece


async def sse(chunks: AsyncIterator[JSONObject]) -> AsyncGenerator[str]:
    """Server-sent events for `chunks`; an error after the headers have gone out is an event too."""
    try:
        async for chunk in chunks:
            yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
    except EngineError as error:
        yield f"data: {json.dumps(error_body(error))}\n\n"
        return
    yield "data: [DONE]\n\n"


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
    """The endpoints, and what they need. `max_body` is in bytes, `created` in Unix seconds."""

    model: Model
    tokenizer: Tokenizer
    template: chat.ChatTemplate
    name: str
    line: Line
    max_body: int
    created: int

    async def chat(self, request: Request) -> Response:
        wanted = parse_request(await read_json(request, self.max_body))
        self._check_name(wanted.model)
        answer = await run_in_threadpool(
            start_answer, self.model, self.tokenizer, self.template, wanted
        )
        head, pieces = new_head(self.name), run_answer(answer, request)
        if wanted.stream:
            chunks = stream_chunks(head, pieces, answer, include_usage=wanted.include_usage)
            return TurnResponse(self.line, sse(chunks))
        async with self.line.turn():
            text = "".join([piece async for piece in pieces])
        return JSONResponse(completion(head, text, answer))

    async def models(self, request: Request) -> Response:
        model = {"id": self.name, "object": "model", "created": self.created}
        return JSONResponse({"object": "list", "data": [model | {"owned_by": "engine"}]})

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    def _check_name(self, name: str) -> None:
        if name != self.name:
            raise RequestError(
                f"model: found {name!r:.60}, expected {self.name!r}",
                status=404,
                param="model",
                code="model_not_found",
            )


async def read_json(request: Request, limit: int) -> object:
    """The body, decoded; refused beyond `limit` bytes, before the rest is read."""
    body = bytearray()
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
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_of(error: Exception) -> int:
    """The HTTP status: what the error says, 400 for a bad prompt, else 500."""
    if isinstance(error, RequestError):
        return error.status
    return 400 if isinstance(error, PromptError | TemplateError) else 500


async def _on_error(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(error), status_of(error))


async def _on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own refusals (404, 405) in OpenAI's shape."""
    if not isinstance(error, HTTPException):
        return await _on_error(request, error)
    message = f"{request.method} {request.url.path}: found {error.detail}, expected a known route"
    body = error_body(RequestError(message, status=error.status_code))
    return JSONResponse(body, error.status_code, headers=error.headers)


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

    `max_waiting` requests may wait behind the one that runs; `max_body` is in bytes. Raises
    `TemplateError` where `template` names a GGUF that has none.
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
            HTTPException: _on_http_error,
            ClientDisconnect: _on_error,  # heard by nobody, but a hang-up is no crash to log
            Exception: _on_error,
        },
    )


def serve(app: Starlette, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until a signal; port 0 takes a free one. Prints the URL once connections are taken.

    Raises `EngineError` where the address cannot be listened on.
    """
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise EngineError(
            f"cannot listen on {host}:{port}: found {error.strerror}, expected a free address"
        ) from error
    print(f"http://{host}:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
