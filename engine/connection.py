"""One client's connection: how much it may send, how long it may take, and that it may go away.

Knows HTTP's requests and refusals; knows nothing of models, turns or OpenAI's fields.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from engine.errors import RequestError
from engine.refusal import HEADERS, error_body, quoted, status_of

MEDIA_TYPE = "application/json"


class ErrorResponse(Response):
    """`error` in OpenAI's shape. ASCII, because it may quote text that no encoding can take."""

    def __init__(self, error: Exception) -> None:
        status = status_of(error)
        body = json.dumps(error_body(error))
        super().__init__(body, status, HEADERS.get(status), media_type=MEDIA_TYPE)


async def read_body(request: Request, limit: int, deadline: float) -> bytes:
    """The body of a JSON request; refused beyond `limit` bytes, before the rest is read.

    `deadline` is in the event loop's time. Only JSON's own media type will do: a browser sends
    that across sites only after asking, and nobody answers it.
    """
    found = request.headers.get("content-type", "")
    if found.partition(";")[0].strip().lower() != MEDIA_TYPE:
        message = f"content-type: found {quoted(found)}, expected {MEDIA_TYPE}"
        raise RequestError(message, status=415, code="unsupported_media_type")
    _check_size(int(request.headers.get("content-length", 0)), limit)
    body = bytearray()
    try:
        async with asyncio.timeout_at(deadline):
            async for part in request.stream():
                body += part
                _check_size(len(body), limit)
    except TimeoutError as error:
        message = f"body: found {len(body)} bytes when time was up, expected all of it"
        raise RequestError(message, status=408, code="timeout") from error
    return bytes(body)


def _check_size(found: int, limit: int) -> None:
    if found > limit:
        message = f"body: found {found} bytes or more, expected at most {limit}"
        raise RequestError(message, status=413, code="body_too_large")


@asynccontextmanager
async def attended(request: Request, deadline: float) -> AsyncIterator[None]:
    """Cancels what it encloses when the client goes away or at `deadline`, in the loop's time.

    Raises `ClientDisconnect` or `RequestError` (504) then, and `RequestError` (503) where the
    server itself cancels it, when it ends. The body must have been read.
    """
    limit = asyncio.timeout_at(deadline)
    watch = asyncio.create_task(_expire_when_gone(request, limit))
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        if watch.done():
            raise ClientDisconnect from error
        message = "time: found no end of the answer in time, expected one; see the server's limit"
        raise RequestError(message, status=504, code="timeout") from error
    except asyncio.CancelledError as error:
        message = "server: found it told to end, expected to have the time for this answer"
        raise RequestError(message, status=503, code="shutting_down") from error
    finally:
        watch.cancel()


async def _expire_when_gone(request: Request, limit: asyncio.Timeout) -> None:
    """A client that has gone has no time left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    if not limit.expired():
        limit.reschedule(asyncio.get_running_loop().time())
