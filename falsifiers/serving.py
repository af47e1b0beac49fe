"""A server booted for real, in a thread of this process so that planted faults reach it."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

import uvicorn

import engine
from engine import chat, server
from engine.answer import Served

NAME = "served"


def opened(path: Path) -> Served:
    """The model, tokenizer and template of a GGUF."""
    return Served(engine.load(path), engine.load_tokenizer(path), chat.open_template(path))


def ready(served: Served) -> "Future[Served]":
    """The end of a loading that has gone well."""
    loading: Future[Served] = Future()
    loading.set_result(served)
    return loading


@contextmanager
def booted(loading: "Future[Served]", **settings: object) -> Iterator[str]:
    """The URL of a server of what `loading` gives; it has ended when the context has."""
    app = server.create_app(loading, server.Settings(NAME, **settings))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            running.should_exit = True
            thread.join()
