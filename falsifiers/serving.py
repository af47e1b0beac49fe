"""A server booted for real, in a thread of this process so that planted faults reach it."""

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

import engine
from engine import chat, server
from engine.answer import Served
from engine.chat import ChatTemplate
from engine.fixture import FixtureShape
from falsifiers.kept_models import write_fixture
from falsifiers.parrot import Gate, Parrot

NAME = "served"


def opened(path: Path) -> Served:
    """The model, tokenizer and template of a GGUF."""
    return Served(engine.load(path), engine.load_tokenizer(path), chat.open_template(path))


def write_small(folder: Path) -> Path:
    """A GGUF so small that a token takes a millisecond."""
    shape = FixtureShape(
        hidden=64, layers=2, heads=4, kv_heads=2, head_dim=32, dense_width=64, mix="F32"
    )
    return write_fixture(folder / "small.gguf", architecture="qwen3", shape=shape)


def parrot_of(served: Served) -> Callable[..., AbstractContextManager[str]]:
    """Boots a server whose model says the prompt again, with that one's words and template."""

    def boot(gate: Gate | None = None, template: ChatTemplate = served.template, **limits):
        model = Parrot(replace(served.model.config, context_length=2048), gate)
        return booted(ready(Served(model, served.tokenizer, template)), **limits)

    return boot


def ready(served: Served) -> "Future[Served]":
    """The end of a loading that has gone well."""
    loading: Future[Served] = Future()
    loading.set_result(served)
    return loading


@contextmanager
def booted(loading: "Future[Served]", **settings: object) -> Iterator[str]:
    """The URL of a server of what `loading` gives; it has ended when the context has."""
    app = server.create_app(loading, server.Settings(NAME, **settings))
    with server.listen("127.0.0.1", 0) as listener:
        running = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()


def until(holds: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Whether it holds within that time; asked again and again, as a server tells nobody."""
    end = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < end:
        time.sleep(0.005)
    return held


def parsed(page: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Metrics by name and labels' values, read by Prometheus's own parser."""
    found = [each for family in text_string_to_metric_families(page) for each in family.samples]
    return {(each.name, tuple(each.labels.values())): each.value for each in found}


def sample(url: str, name: str) -> float:
    return parsed(get(f"{url}/metrics").text)[name, ()]


def request_bytes(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A POST as it goes over the wire; `length` is what it claims to be long."""
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *headers]
    lines += [f"content-length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def knock(url: str, data: bytes) -> socket.socket:
    """A connection over which `data` was sent."""
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port), timeout=3)
    connection.sendall(data)
    return connection


def heard(connection: socket.socket) -> httpx.Response:
    """The answer on a connection; status 599 where none comes in time."""
    response = http.client.HTTPResponse(connection)
    try:
        response.begin()
        return httpx.Response(
            response.status, headers=response.getheaders(), content=response.read()
        )
    except (TimeoutError, http.client.HTTPException, ConnectionError) as error:
        return httpx.Response(599, text=str(error))
    finally:
        connection.close()


def is_refusal(response: httpx.Response, status: int | range = range(400, 500)) -> bool:
    """Whether a response is an error of that status, whole and in OpenAI's shape."""
    statuses = [status] if isinstance(status, int) else status
    try:
        body = response.json()
    except ValueError:
        return False
    if response.status_code not in statuses or not isinstance(body, dict) or set(body) != {"error"}:
        return False
    error, texts = body["error"], ("message", "type", "param", "code")
    whole = isinstance(error, dict) and set(error) == set(texts)
    return (
        whole
        and all(isinstance(error[key], str) and error[key] for key in texts[:2])
        and all(isinstance(error[key], str | None) for key in texts[2:])
    )


def events(response: httpx.Response) -> Iterator[dict]:
    """The data of a stream's events, `[DONE]` left out."""
    for line in response.iter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


def made(served: Served, prompt: str | list[int], count: int, **options) -> list[int]:
    """The ids that `engine.generate` makes after a prompt."""
    ids = served.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    stop = served.tokenizer.eos_ids
    return list(engine.generate(served.model, ids, max_tokens=count, stop_ids=stop, **options))


def question(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def differing(found: str, expected: str) -> int:
    return sum(a != b for a, b in zip_longest(found, expected))


def post(url: str, path: str, **fields: object) -> httpx.Response:
    """A request with these fields; greedy, if they do not say otherwise."""
    said = {"model": NAME, "temperature": 0, **fields}
    return httpx.post(f"{url}{path}", json=said, timeout=30, verify=False)


def get(url: str) -> httpx.Response:
    """Without reading certificates, which takes longer than the request."""
    return httpx.get(url, timeout=30, verify=False)


def cut(text: str, stops: list[str]) -> str | None:
    """`text` up to the stop string that is complete first, read letter by letter."""
    for end in range(len(text) + 1):
        done = [stop for stop in stops if text[:end].endswith(stop)]
        if done:
            return text[: end - max(map(len, done))]
    return None
