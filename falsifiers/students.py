"""Students for the agentic bench: servers that answer by a script, and remember what they heard.

They know OpenAI's chat API and the protocol's text; they know nothing of the bench's code.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Messages = list[dict[str, str]]
NAME = "student"


@dataclass
class Said:
    """An answer: its text, or a status that is no answer; and how long it takes."""

    text: str = ""
    status: int = 200
    tokens: int = 1
    finish: str = "stop"
    after: float = 0.0  # seconds
    code: str | None = None  # of an error
    page: str | None = None  # a gateway's, in the place of JSON


@dataclass
class Student:
    """Where it is asked, and each conversation that it was sent, in order."""

    url: str = ""
    asked: list[dict] = field(default_factory=list)

    def last(self, goal: str) -> Messages:
        """The longest conversation with that goal in it."""
        all_of_it = [
            each["messages"] for each in self.asked if goal in each["messages"][1]["content"]
        ]
        return max(all_of_it, key=len, default=[])


@contextmanager
def student(say: Callable[[Messages], Said | str], loading: bool = False) -> Iterator[Student]:
    """A server whose answers are those of `say`, or one that is not there yet."""
    seen = Student()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 (http.server's name)
            self.send(
                503 if loading else 200,
                {"object": "list", "data": [{"id": NAME, "object": "model"}]},
            )

        def do_POST(self) -> None:  # noqa: N802
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.asked.append(asked)
            said = say(asked["messages"])
            said = Said(said) if isinstance(said, str) else said
            if said.after:
                ended.wait(said.after)
            if said.status != 200:
                error = {"message": "no", "type": "error", "param": None, "code": said.code}
                self.send(said.status, {"error": error} if said.page is None else said.page)
                return
            message = {"role": "assistant", "content": said.text}
            choice = {"index": 0, "message": message, "finish_reason": said.finish}
            usage = {"prompt_tokens": 1, "completion_tokens": said.tokens}
            head = {"id": "0", "object": "chat.completion", "created": 0, "model": NAME}
            usage["total_tokens"] = 1 + said.tokens
            self.send(200, {**head, "choices": [choice], "usage": usage})

        def send(self, status: int, found: dict | str) -> None:
            data = (found if isinstance(found, str) else json.dumps(found)).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except ConnectionError:
                pass  # whoever asked has gone

        def log_message(self, *args: object) -> None:
            pass

    ended = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        seen.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield seen
        finally:
            ended.set()
            server.shutdown()
            thread.join()


def turn(messages: Messages) -> int:
    """How many replies there are already."""
    return sum(each["role"] == "assistant" for each in messages)


def shrug(messages: Messages) -> str:
    return "I do not know."


def boast(messages: Messages) -> str:
    return "All tests pass, the task is solved. PASS\n\n```done\n```"
