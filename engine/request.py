"""What a request may say: the fields of OpenAI's two endpoints that the server acts on.

Knows OpenAI's fields; knows nothing of HTTP, models or text. A field that the server would have
to ignore is an error, so that nobody believes it had an effect; a feature that it lacks may be
asked for with the one value that changes nothing, because clients send it.
Source: https://platform.openai.com/docs/api-reference/chat/create and …/completions/create
"""

import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, from_json

from engine.errors import RequestError
from engine.refusal import invalid, quoted, refused

JSONObject = dict[str, Any]
MAX_STOPS = 4
CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


class Strict(BaseModel):
    """No conversions, no unknown fields, no changes."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class TextPart(Strict):
    """The one kind of content part that a text model takes."""

    type: Literal["text"]
    text: str


def _content(value: object) -> str:
    """Text, or a list of text parts that are joined."""
    parts = value if isinstance(value, list) else [{"type": "text", "text": value}]
    try:
        return "".join(TextPart.model_validate(part).text for part in parts)
    except ValidationError as error:
        raise ValueError("a string or a list of text parts") from error


def _stops(value: object) -> tuple[str, ...]:
    stops = value if isinstance(value, list) else [value]
    if len(stops) > MAX_STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        raise ValueError(f"a non-empty string or a list of up to {MAX_STOPS}")
    return tuple(stops)


def _prompt(value: object) -> str | list[int]:
    ids = isinstance(value, list) and all(type(each) is int for each in value)
    if not isinstance(value, str) and not ids:
        raise ValueError("one prompt: a string or a list of token ids")
    return value  # type: ignore[return-value]


def _arguments(value: object) -> object:
    """OpenAI sends a call's arguments as JSON in a string; templates want what it says."""
    try:
        return json.loads(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError("JSON in a string") from error


class Function(Strict):
    """The function that a tool call names, its arguments decoded."""

    name: str
    arguments: Annotated[Any, PlainValidator(_arguments)]


class ToolCall(Strict):
    """A call that the assistant made in an earlier turn."""

    type: Literal["function"]
    function: Function
    id: str | None = None


class Tool(Strict):
    """A function that the model may call; its schema is the template's affair."""

    type: Literal["function"]
    function: JSONObject


class Message(Strict):
    """One message; `content` may be missing only where the assistant called tools."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[str, PlainValidator(_content)] = ""
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, fail_fast=True)] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_null_content(cls, given: Any) -> Any:
        """Clients send null beside tool calls."""
        if not isinstance(given, dict) or given.get("content") is not None:
            return given
        return {key: value for key, value in given.items() if key != "content"}

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise ValueError("content, which only a message with tool calls may lack")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls in messages of the assistant only")
        if self.tool_call_id is not None and self.role != "tool":
            raise ValueError("tool_call_id in messages of a tool only")
        return self


class StreamOptions(Strict):
    """What a stream tells beside the text."""

    include_usage: bool = False


class ResponseFormat(Strict):
    """Text is the only format."""

    type: Literal["text"]


class GenerationRequest(Strict):
    """What both endpoints take; defaults are OpenAI's. `top_k` and `min_p` are extensions.

    `max_tokens` None is as many as the context has room for; `seed` None draws another each time.
    """

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    stop: Annotated[tuple[str, ...], PlainValidator(_stops)] = ()
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    min_p: float = Field(default=0.0, ge=0, le=1)
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None
    n: int = Field(default=1, ge=1, le=1)
    presence_penalty: float = Field(default=0.0, ge=0, le=0)
    frequency_penalty: float = Field(default=0.0, ge=0, le=0)
    logit_bias: JSONObject = Field(default={}, max_length=0)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def limit(self) -> int | None:
        """The most tokens to generate."""
        return self.max_tokens

    @property
    def alternatives(self) -> int | None:
        """How many tokens to report at each place beside the one drawn; None for no logprobs."""
        return None

    def check(self) -> None:
        """Refuse fields that contradict each other."""
        if self.stream_options is not None and not self.stream:
            raise invalid("stream_options", self.stream_options, "it with stream only")


class ChatRequest(GenerationRequest):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(fail_fast=True)] = []
    tool_choice: Literal["auto", "none"] = "auto"
    response_format: ResponseFormat | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None

    def check(self) -> None:
        super().check()
        if self.top_logprobs is not None and not self.logprobs:
            raise invalid("top_logprobs", self.top_logprobs, "it with logprobs only")
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise invalid("max_tokens", self.max_tokens, "either it or max_completion_tokens")

    def conversation(self) -> list[JSONObject]:
        """The messages as templates take them."""
        return [message.model_dump(exclude_none=True) for message in self.messages]

    def offered_tools(self) -> list[JSONObject]:
        """The tools that the model is told of."""
        tools = self.tools if self.tool_choice == "auto" else []
        return [tool.model_dump() for tool in tools]


class CompletionRequest(GenerationRequest):
    """The body of /v1/completions."""

    prompt: Annotated[str | list[int], PlainValidator(_prompt)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    max_tokens: int = Field(default=16, ge=1)
    echo: Literal[False] = False
    best_of: int = Field(default=1, ge=1, le=1)
    suffix: str = Field(default="", max_length=0)

    @property
    def alternatives(self) -> int | None:
        return self.logprobs


R = TypeVar("R", bound=GenerationRequest)


def parse_request(kind: type[R], body: bytes | bytearray) -> R:
    """The request in a JSON body; `RequestError` names the field, what it holds and what fits.

    Null stands for a field that is not there, as OpenAI's clients send it.
    """
    try:
        given = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"body: found {error}, expected JSON", code="invalid_json") from error
    if not isinstance(given, dict):
        raise invalid("body", given, "a JSON object")
    try:
        request = kind.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        raise _explained(kind, error.errors(include_url=False)[0]) from error
    request.check()
    return request


def _explained(kind: type[GenerationRequest], error: ErrorDetails) -> RequestError:
    """pydantic's first finding in the words of every other error."""
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"])
    name, code = field[1:] if len(field) <= 80 else f"{field[1:77]}…", error["type"]
    found = quoted(error["input"])
    expected = error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if code == "missing":
        found, expected = "nothing", "a value"
    elif code == "extra_forbidden":
        top = len(error["loc"]) == 1
        found = "an unknown field"
        expected = f"one of {', '.join(kind.model_fields)}" if top else "no such field"
    return refused(name, found, expected, CODES.get(code, "invalid_value"))
