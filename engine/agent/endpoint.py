"""A model behind OpenAI's chat API, asked for one reply at a time.

Knows HTTP and a clock; knows nothing of tasks. A reply that does not come in its time is the
model's failure, `Spent`; an endpoint that is not there, or refuses what it is asked, is nobody's
score: `EngineError`.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from socket import SHUT_RDWR, socket
from threading import Event, Lock, Timer
from typing import Any
from urllib.parse import SplitResult, urlsplit

from engine.errors import EngineError

LARGEST = 8 << 20  # bytes of an answer
BUSY = (429, 503)
TIME = "a turn's seconds"
CONNECTIONS = {"http": HTTPConnection, "https": HTTPSConnection}


class Spent(Exception):
    """A budget is used up; says which."""


class Stopped(Exception):
    """The run was ended from outside."""


@dataclass(frozen=True)
class Reply:
    """What the model said, in how many tokens if it counts them, and whether it was cut off."""

    text: str
    tokens: int | None = None
    cut: bool = False


class Endpoint:
    """An address; several threads may ask at once."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url, self._parts, self._key = url, _parts(url), _sendable(key or "")
        self._path = self._parts.path.rstrip("/").removesuffix("/v1")
        self._stopped = Event()
        self._open: set[socket] = set()
        self._lock = Lock()

    def models(self, seconds: float) -> list[str]:
        """The names that it serves."""
        try:
            found = self._request("GET", "/v1/models", None, seconds)
        except Spent as error:
            raise self._error(
                f"no answer, or none but that it is busy, in {seconds:g} s",
                "a list of models; try again when it has loaded",
            ) from error
        match found:
            case {"data": list(rows)} if all(isinstance(each, dict) for each in rows):
                return [str(each.get("id")) for each in rows]
        raise self._error(f"{found!r:.80}", "a list of models")

    def chat(
        self, messages: Sequence[Mapping[str, str]], seconds: float, **fields: object
    ) -> Reply:
        """The reply to a conversation; `fields` are those of the request besides."""
        asked = {"messages": list(messages), **fields}
        found = self._request("POST", "/v1/chat/completions", asked, seconds)
        match found:
            case {"choices": [{"message": {"content": str() | None as text}, **rest}, *_]}:
                usage = found.get("usage")
                tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
                counted = tokens if isinstance(tokens, int) else None
                return Reply(text or "", counted, rest.get("finish_reason") == "length")
        raise self._error(f"{found!r:.80}", "choices with a message")

    def stop(self) -> None:
        """End every request, and let none begin."""
        self._stopped.set()
        with self._lock:
            for each in self._open:
                _shut(each)

    def _request(self, method: str, path: str, body: Any, seconds: float) -> Any:
        """The JSON that comes back; asks again where the endpoint is busy, for so long."""
        end = time.monotonic() + seconds
        while True:
            status, data, wait = self._once(method, path, body, end)
            if status not in BUSY:
                break
            if self._stopped.wait(min(wait, max(end - time.monotonic(), 0.0))):
                raise Stopped
        if status == 504:
            raise Spent("the endpoint's own time for a request")
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._error(f"status {status} for {path}: {data!r:.80}", "JSON") from error
        if status == 200:
            return found
        if _code(found) in ("context_length_exceeded", "prompt_too_long"):
            raise Spent("the context")
        raise self._error(f"status {status} for {path}: {found!r:.200}", "200")

    def _once(self, method: str, path: str, body: Any, end: float) -> tuple[int, bytes, float]:
        left = end - time.monotonic()
        if left <= 0:
            raise Spent(TIME)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        headers |= {"Authorization": f"Bearer {self._key}"} if self._key else {}
        data = None if body is None else json.dumps(body).encode()
        kind = CONNECTIONS[self._parts.scheme]
        connection = kind(str(self._parts.hostname), self._parts.port, timeout=left)
        late = Event()
        try:
            connection.connect()
            with self._watched(connection.sock, end, late):
                connection.request(method, self._path + path, data, headers)
                answer = connection.getresponse()
                read = answer.read(LARGEST)
            if late.is_set() or self._stopped.is_set():
                raise TimeoutError  # what was read may end in the middle
            return answer.status, read, _seconds(answer.getheader("Retry-After"))
        except (OSError, HTTPException) as error:
            if self._stopped.is_set():
                raise Stopped from error
            if late.is_set() or isinstance(error, TimeoutError):
                raise Spent(TIME) from error
            raise self._error(f"{error or type(error).__name__}", "an answer") from error
        finally:
            connection.close()

    @contextmanager
    def _watched(self, watched: socket, end: float, late: Event) -> Iterator[None]:
        """Shut at that time, however slowly its bytes drip in, or when the run is stopped."""

        def give_up() -> None:
            late.set()
            _shut(watched)

        timer = Timer(end - time.monotonic(), give_up)
        with self._lock:
            self._open.add(watched)
        timer.start()
        try:
            if self._stopped.is_set():
                _shut(watched)
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._open.discard(watched)

    def _error(self, found: str, expected: str) -> EngineError:
        return EngineError(f"{self.url}: found {found}, expected {expected}")


def _parts(url: str) -> SplitResult:
    with suppress(ValueError):  # of an open bracket, a port that is no number, a name that is none
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        if parts.scheme in CONNECTIONS and host and parts.port != 0 and parts.path.isascii():
            return parts
    raise EngineError(f"--url: found {url}, expected http://HOST:PORT")


def _sendable(key: str) -> str:
    if key.isascii() and key.isprintable():
        return key
    raise EngineError("the key: found what no header can carry, expected printable ASCII")


def _shut(connection: socket) -> None:
    try:
        connection.shutdown(SHUT_RDWR)
    except OSError:
        pass  # it has ended


def _seconds(header: str | None) -> float:
    """Of Retry-After; between a moment and half a minute."""
    try:
        return min(max(float(header or 1), 0.1), 30.0)
    except ValueError:
        return 1.0


def _code(found: Any) -> Any:
    error = found.get("error") if isinstance(found, dict) else None
    return error.get("code") if isinstance(error, dict) else None
