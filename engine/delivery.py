"""The delivery of one answer, from its place in the line to its last byte: as JSON or as a stream.

Knows turns, deadlines and server-sent events; knows nothing of routes, keys or tensors.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from engine.answer import Answer, AnyRequest, Piece, Served, start_answer
from engine.connection import attended
from engine.errors import EngineError
from engine.line import Line
from engine.metrics import Metrics
from engine.refusal import error_body
from engine.reply import JSONObject, Shape, completion, new_head, stream_chunks

STREAM_HEADERS = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache"))


@dataclass(frozen=True)
class Delivery:
    """An ASGI application that answers `request`; `arrived` and `deadline` are in the loop's time.

    What goes wrong before the first byte is raised; after it, all that is left is to say so in
    the stream.
    """

    request: Request
    wanted: AnyRequest
    served: Served
    shape: Shape
    name: str
    line: Line
    metrics: Metrics
    arrived: float
    deadline: float
    max_prompt_tokens: int | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.wanted.stream:
            await self._stream(send)
            return
        async with self._turn() as answer:
            pieces = [piece async for piece in self._pieces(answer)]
        response = await asyncio.to_thread(self._whole, pieces, answer)
        await response(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        begun = False
        try:
            async with self._turn() as answer:
                begun = True
                await send(_start())
                async with aclosing(sse(self._chunks(answer))) as events:
                    async for event in events:
                        await send(_part(event))
            await send(_part("", more=False))
        except ClientDisconnect:
            if not begun:
                raise
            self.metrics.count_abandoned()
        except Exception as error:
            if not begun:
                raise
            await send(_part(event_of(error_body(error)), more=False))
            if not isinstance(error, EngineError):
                raise

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[Answer]:
        """The answer, not yet running, while it is its turn."""
        async with attended(self.request, self.deadline):
            with self.line.place():
                answer = await asyncio.to_thread(
                    start_answer, self.served, self.wanted, self.max_prompt_tokens
                )
                async with self.line.turn():
                    try:
                        yield answer
                    finally:
                        self.metrics.count_tokens(answer.prompt_tokens, answer.completion_tokens)

    async def _pieces(self, answer: Answer) -> AsyncGenerator[Piece]:
        """The answer's pieces, each made in the worker thread."""
        pieces, now = answer.pieces(), asyncio.get_running_loop().time
        piece = await self.line.run(next, pieces, None)
        self.metrics.note_first_token(now() - self.arrived)
        while piece is not None:
            yield piece
            piece = await self.line.run(next, pieces, None)

    def _whole(self, pieces: Sequence[Piece], answer: Answer) -> Response:
        """Thousands of tokens with their alternatives take a while to write out."""
        head = new_head(self.shape, self.name)
        return JSONResponse(completion(head, self.shape, pieces, answer))

    def _chunks(self, answer: Answer) -> AsyncIterator[JSONObject]:
        head, pieces = new_head(self.shape, self.name), self._pieces(answer)
        usage = self.wanted.include_usage
        return stream_chunks(head, self.shape, pieces, answer, include_usage=usage)


async def sse(chunks: AsyncIterator[JSONObject]) -> AsyncGenerator[str]:
    """Server-sent events for `chunks`, closed by [DONE]."""
    async for chunk in chunks:
        yield event_of(chunk)
    yield "data: [DONE]\n\n"


def event_of(data: JSONObject) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _start() -> Message:
    return {"type": "http.response.start", "status": 200, "headers": list(STREAM_HEADERS)}


def _part(event: str, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": event.encode(), "more_body": more}
