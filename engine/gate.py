"""What every request passes on its way in and out: the key, and the count.

Knows ASGI and headers; knows nothing of what the endpoints do.
"""

import hmac
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.connection import ErrorResponse
from engine.errors import RequestError

OPEN = frozenset({"/health"})  # paths that need no key


class KeyGate:
    """Lets through who presents the key; where there is none, everybody."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        closed = self._key is not None and scope["type"] == "http" and scope["path"] not in OPEN
        if closed and not is_key(presented_key(scope), self._key or ""):
            message = "authorization: found no valid key, expected the header 'Bearer KEY'"
            error = RequestError(message, status=401, code="invalid_api_key")
            await ErrorResponse(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def presented_key(scope: Scope) -> bytes:
    """What the Authorization header holds after `Bearer`; empty if there is none."""
    header = dict(scope["headers"]).get(b"authorization", b"")
    scheme, _, key = header.partition(b" ")
    return bytes(key.strip()) if scheme.lower() == b"bearer" else b""


def is_key(presented: bytes, key: str) -> bool:
    """Whether they are equal, in a time that does not tell how far they agree."""
    return hmac.compare_digest(presented, key.encode())


class CountGate:
    """Tells `count` the route, the status and the seconds of every request, once it is over."""

    def __init__(self, app: ASGIApp, count: Callable[[str, int, float], None]) -> None:
        self._app = app
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            if scope["type"] == "http":
                self._count(route_of(scope), status, time.perf_counter() - started)


def route_of(scope: Scope) -> str:
    """The path of the route that was found, which a client cannot make up; or `other`."""
    found = scope.get("endpoint")
    routes = scope["app"].routes if found else []
    return next((route.path for route in routes if route.endpoint == found), "other")
