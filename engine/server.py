"""An OpenAI-compatible HTTP server over one model: completions and chat, streamed or whole.

Knows routes, settings and signals; knows nothing of tensors, tokens or templates.
Source: https://platform.openai.com/docs/api-reference
"""

import asyncio
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from engine.answer import Served
from engine.connection import ErrorResponse, read_body
from engine.delivery import Delivery
from engine.errors import EngineError, RequestError
from engine.gate import CountGate, KeyGate
from engine.line import Line
from engine.metrics import Metrics
from engine.refusal import quoted
from engine.reply import ChatShape, CompletionShape, JSONObject, Shape
from engine.request import ChatRequest, CompletionRequest, parse_request
from engine.tokenizer import Tokenizer

CLIENT_GONE = 499  # nginx's status for a client that did not wait; nobody reads it


@dataclass(frozen=True)
class Settings:
    """How a model is served.

    `timeout` is from a request's arrival to the end of its answer, its place in the line included;
    `drain` is how long answers may go on after the signal to stop. Both in seconds.
    """

    name: str
    api_key: str | None = None
    max_waiting: int = 16
    max_body: int = 1 << 20  # bytes
    max_prompt_tokens: int | None = None
    timeout: float = 600.0
    drain: int = 30


@dataclass(frozen=True)
class Service:
    """The endpoints, and what they need; `loading` ends with the model, or why there is none."""

    loading: Future[Served]
    settings: Settings
    line: Line
    metrics: Metrics
    created: int  # Unix seconds

    async def chat(self, request: Request) -> ASGIApp:
        return await self._answer(request, ChatRequest, ChatShape)

    async def completions(self, request: Request) -> ASGIApp:
        return await self._answer(request, CompletionRequest, CompletionShape)

    async def _answer(
        self,
        request: Request,
        kind: type[ChatRequest] | type[CompletionRequest],
        shape: Callable[[Tokenizer], Shape],
    ) -> Delivery:
        arrived, served = asyncio.get_running_loop().time(), self._served()
        deadline = arrived + self.settings.timeout
        body = await read_body(request, self.settings.max_body, deadline)
        wanted = await asyncio.to_thread(parse_request, kind, body)
        self._check_name(wanted.model)
        return Delivery(
            request=request,
            wanted=wanted,
            served=served,
            shape=shape(served.tokenizer),
            name=self.settings.name,
            line=self.line,
            metrics=self.metrics,
            arrived=arrived,
            deadline=deadline,
            max_prompt_tokens=self.settings.max_prompt_tokens,
        )

    async def models(self, request: Request) -> Response:
        self._served()
        return JSONResponse({"object": "list", "data": [self._card()]})

    async def model(self, request: Request) -> Response:
        self._served()
        self._check_name(request.path_params["name"])
        return JSONResponse(self._card())

    async def health(self, request: Request) -> Response:
        ready = self.loading.done() and self.loading.exception() is None
        return JSONResponse({"status": "ok" if ready else "loading"}, 200 if ready else 503)

    async def exposition(self, request: Request) -> Response:
        return Response(self.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    def _served(self) -> Served:
        if not self.loading.done():
            message = "model: found it loading, expected it to be ready; retry later"
            raise RequestError(message, status=503, code="model_loading")
        return self.loading.result()

    def _card(self) -> JSONObject:
        card = {"id": self.settings.name, "object": "model", "created": self.created}
        return card | {"owned_by": "engine"}

    def _check_name(self, name: str) -> None:
        if name != self.settings.name:
            message = f"model: found {quoted(name)}, expected {self.settings.name!r}"
            raise RequestError(message, status=404, param="model", code="model_not_found")

    async def on_error(self, request: Request, error: Exception) -> Response:
        return ErrorResponse(error)

    async def on_http_error(self, request: Request, error: Exception) -> Response:
        """Starlette's own refusals (404, 405) in OpenAI's shape."""
        if not isinstance(error, HTTPException):
            return ErrorResponse(error)
        asked = f"{request.method} {quoted(request.url.path)}"
        message = f"{asked}: found {error.detail}, expected a known route"
        response = ErrorResponse(RequestError(message, status=error.status_code))
        response.headers.update(error.headers or {})
        return response

    async def on_gone(self, request: Request, error: Exception) -> Response:
        self.metrics.count_abandoned()
        return Response(status_code=CLIENT_GONE)


def create_app(loading: Future[Served], settings: Settings) -> Starlette:
    """The ASGI application; it answers 503 until `loading` is done."""
    line = Line(settings.max_waiting)
    metrics = Metrics(lambda: line.waiting)
    service = Service(loading, settings, line, metrics, created=int(time.time()))
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", service.chat, methods=["POST"]),
            Route("/v1/completions", service.completions, methods=["POST"]),
            Route("/v1/models", service.models),
            Route("/v1/models/{name:path}", service.model),
            Route("/health", service.health),
            Route("/metrics", service.exposition),
        ],
        middleware=[
            Middleware(CountGate, count=metrics.count_request),
            Middleware(KeyGate, key=settings.api_key),
        ],
        exception_handlers={
            EngineError: service.on_error,
            HTTPException: service.on_http_error,
            ClientDisconnect: service.on_gone,
            Exception: service.on_error,
        },
    )
    app.router.redirect_slashes = False  # a redirect is no answer in OpenAI's shape
    return app


def serve(load: Callable[[], Served], settings: Settings, host: str, port: int) -> None:
    """Serve what `load` gives, until SIGTERM or SIGINT; then running answers end, new ones do not
    begin. Listens, and prints its URL, before it loads; port 0 takes a free one.

    Raises `EngineError` where the address cannot be listened on or the model does not load.
    """
    listener = listen(host, port)
    with ThreadPoolExecutor(1, thread_name_prefix="load") as loader:
        loading = loader.submit(load)
        config = uvicorn.Config(
            create_app(loading, settings),
            log_level="warning",
            timeout_graceful_shutdown=settings.drain,
        )
        server = uvicorn.Server(config)
        loading.add_done_callback(lambda done: _stop_on_failure(done, server))
        print(f"http://{host}:{listener.getsockname()[1]}", flush=True)
        with _stopping_on_signals(server):
            server.run(sockets=[listener])
    _check_loaded(loading)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; `EngineError` where the address is not to be had."""
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise EngineError(
            f"cannot listen on {host}:{port}: found {error.strerror}, expected a free address"
        ) from error
    # asyncio does it for sockets that it opens; else each token waits for the one before it to be
    # acknowledged, some 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    return listener


def _stop_on_failure(loading: Future[Served], server: uvicorn.Server) -> None:
    server.should_exit = server.should_exit or loading.exception() is not None


def _check_loaded(loading: Future[Served]) -> None:
    try:
        loading.result()
    except EngineError:
        raise
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        raise EngineError(f"model: found {found}, expected it to load") from error


@contextmanager
def _stopping_on_signals(server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and SIGINT stop `server` and do no more: uvicorn itself would raise them again."""
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {each: signal.signal(each, server.handle_exit) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
