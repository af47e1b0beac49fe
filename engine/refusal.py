"""What the server says when it says no: OpenAI's error object, its status and its headers.

Knows the shape of an error and how to quote a value in it; knows nothing of HTTP or of who asks.
Source: https://platform.openai.com/docs/guides/error-codes/api-errors
"""

import reprlib

from engine.errors import EngineError, PromptError, RequestError, TemplateError

TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    504: "timeout_error",
}
HEADERS = {
    401: {"WWW-Authenticate": "Bearer"},
    429: {"Retry-After": "1"},  # seconds
    503: {"Retry-After": "1"},
}
_QUOTED = 60  # characters of what was found


def refused(name: str, found: str, expected: str, code: str) -> RequestError:
    """The error for the field `name`, which holds what does not do."""
    return RequestError(f"{name}: found {found}, expected {expected}", param=name, code=code)


def invalid(name: str, value: object, expected: str) -> RequestError:
    """The error for a value that does not fit, which it quotes."""
    return refused(name, quoted(value), expected, "invalid_value")


def quoted(value: object) -> str:
    """`value` in a few characters, however long or deep it is."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = _QUOTED
    short.maxlevel = 3
    return short.repr(value)[: 2 * _QUOTED]


def error_body(error: Exception) -> dict[str, object]:
    """OpenAI's error object for `error`; says nothing of what is not the engine's own."""
    status, param, code = status_of(error), None, None
    message = str(error) if isinstance(error, EngineError) else "internal error"
    if isinstance(error, RequestError):
        param, code = error.param, error.code
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def status_of(error: Exception) -> int:
    """The HTTP status: what the error says, 400 for a bad prompt, else 500."""
    if isinstance(error, RequestError):
        return error.status
    return 400 if isinstance(error, PromptError | TemplateError) else 500
