"""What a chat request may say: checks the decoded JSON body and keeps what the server acts on.

Knows OpenAI's fields; knows nothing of HTTP, models or text. A field that the server would have
to ignore is an error, so that nobody believes it had an effect.
Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import RequestError

ROLES = ("system", "developer", "user", "assistant", "tool")
MESSAGE_KEYS = frozenset({"role", "content", "name"})
JSONObject = dict[str, Any]


@dataclass(frozen=True)
class ChatRequest:
    """The fields of a request that the server acts on; defaults are OpenAI's.

    `max_tokens` None is as many as the context has room for; `seed` None draws another each time.
    """

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


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_stop(value: object) -> bool:
    stops = value if isinstance(value, list) else [value]
    return len(stops) <= 4 and all(isinstance(stop, str) and stop for stop in stops)


def _is_stream_options(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= {"include_usage"}
        and isinstance(value.get("include_usage", False), bool)
    )


# Field -> (does the value fit?, what would fit). A field that is not here is an error; one that
# the server lacks is here with the one value that changes nothing, because clients send it.
FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda v: isinstance(v, str), "a string"),
    "messages": (lambda v: isinstance(v, list) and len(v) > 0, "a list of at least one message"),
    "stream": (lambda v: isinstance(v, bool), "true or false"),
    "stream_options": (_is_stream_options, '{"include_usage": true or false}'),
    "stop": (_is_stop, "a non-empty string or a list of up to 4"),
    "seed": (lambda v: _is_integer(v) and -(2**63) <= v < 2**63, "a 64-bit integer"),
    "temperature": (lambda v: _is_number(v) and 0 <= v <= 2, "a number from 0 to 2"),
    "top_p": (lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "max_tokens": (lambda v: _is_integer(v) and v > 0, "a positive integer"),
    "max_completion_tokens": (lambda v: _is_integer(v) and v > 0, "a positive integer"),
    "user": (lambda v: isinstance(v, str), "a string"),
    "n": (lambda v: _is_integer(v) and v == 1, "1, as only one choice is supported"),
    "logprobs": (lambda v: v is False, "false, as logprobs are not supported"),
    "presence_penalty": (lambda v: _is_number(v) and v == 0, "0, as penalties are not supported"),
    "frequency_penalty": (lambda v: _is_number(v) and v == 0, "0, as penalties are not supported"),
}


def parse_request(body: object) -> ChatRequest:
    """Check a decoded JSON body; `RequestError` names the field, what it holds and what fits."""
    given = _checked(body)
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


def _checked(body: object) -> JSONObject:
    """The fields that fit, without those that are null, which OpenAI's clients send for unset."""
    if not isinstance(body, dict):
        raise RequestError(f"body: found {type(body).__name__}, expected a JSON object")
    for name, value in body.items():
        if name not in FIELDS:
            raise _refused(
                name, "an unknown field", f"one of {', '.join(FIELDS)}", "unknown_parameter"
            )
        fits, expected = FIELDS[name]
        if value is not None and not fits(value):
            raise _invalid(name, value, expected)
    for name in ("model", "messages"):
        if body.get(name) is None:
            raise _refused(name, "nothing", FIELDS[name][1], "missing_required_parameter")
    return {name: value for name, value in body.items() if value is not None}


def _refused(name: str, found: str, expected: str, code: str) -> RequestError:
    return RequestError(f"{name}: found {found}, expected {expected}", param=name, code=code)


def _invalid(name: str, value: object, expected: str) -> RequestError:
    found = repr(value)
    found = found if len(found) <= 60 else f"{found[:57]}..."
    return _refused(name, found, expected, "invalid_value")


def _message(place: int, message: object) -> JSONObject:
    where = f"messages[{place}]"
    if not isinstance(message, dict) or not message.keys() <= MESSAGE_KEYS:
        raise _invalid(where, message, "an object of role, content and perhaps name")
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
