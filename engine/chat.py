"""Chat messages to prompt text, by a Jinja template: the file's own, or one that is passed.

Knows templates; knows nothing of tokens or models. It never guesses: a file without a template
is an error, and who wants ChatML anyway passes `CHATML`. The environment and what it is given are
those of HF transformers, so that templates render byte for byte as there.

A template is a stranger's program. It runs in Jinja's sandbox on copies made of plain JSON, so it
reaches nothing and changes nothing; how long it computes is not limited (but for `range`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from engine.checkpoint import open_checkpoint
from engine.errors import TemplateError

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# A template's variable -> the metadata key of its token's id.
SPECIAL_TOKENS = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
}
# What clients call a message's reasoning; HF hands it to templates under the first name.
REASONING = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True)
class ChatTemplate:
    """A template's text, and the variables that its file defines (`bos_token`, `eos_token`).

    `tool_use` is the file's other template for requests with tools, where it has one.
    """

    text: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    tool_use: str | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], where: object = "file") -> "ChatTemplate":
        """The template of a GGUF; `TemplateError` if it has none."""
        text = metadata.get("tokenizer.chat_template")
        if not isinstance(text, str) or not text:
            raise TemplateError(
                f"{where}: found no chat template, expected metadata key tokenizer.chat_template; "
                "pass a template such as engine.CHATML to choose one"
            )
        tool_use = metadata.get("tokenizer.chat_template.tool_use")
        if not isinstance(tool_use, str | None):
            raise TemplateError(
                f"{where}: metadata key tokenizer.chat_template.tool_use: "
                f"found {type(tool_use).__name__}, expected str"
            )
        return cls(text, _special_tokens(metadata), tool_use)

    def render(self, **variables: Any) -> str:
        """The text that the template makes of these variables and its file's."""
        with_tools = self.tool_use is not None and variables.get("tools") is not None
        compiled = self._compiled_for_tools if with_tools else self._compiled
        return compiled.render({**self.variables, **variables})

    @cached_property
    def _compiled(self) -> jinja2.Template:
        return _environment().from_string(self.text)

    @cached_property
    def _compiled_for_tools(self) -> jinja2.Template:
        return _environment().from_string(self.tool_use or self.text)


Source = str | Path | ChatTemplate


def open_template(source: Source) -> ChatTemplate:
    """The template that `source` is (Jinja text) or holds (the path of a GGUF or a folder)."""
    if isinstance(source, ChatTemplate):
        return source
    if isinstance(source, Path) or source.endswith(".gguf"):
        return ChatTemplate.from_metadata(open_checkpoint(source).metadata, source)
    return ChatTemplate(source)


def render_chat(
    source: Source,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """The prompt text for `messages` ({"role": …, "content": …}, `tool_calls` and what else).

    `source` is a Jinja template, a path (`Path`, or text ending in .gguf) of a GGUF that has
    one, or a `ChatTemplate`. `variables` (`tools`, `documents`, `enable_thinking`, …) reach the
    template and win over the file's; like the messages they must be plain JSON.
    """
    template = open_template(source)
    given = {"tools": None, "documents": None} | variables
    given |= {"messages": [_as_in_hf(each) for each in messages]}
    given |= {"add_generation_prompt": add_generation_prompt}
    try:
        return template.render(**_copied(given))
    except Exception as error:  # a template is somebody's program: anything may come out of it
        raise TemplateError(
            f"chat template{_line(error)}: found {type(error).__name__}: {error}, "
            f"expected it to render {len(messages)} messages"
        ) from error


def _copied(given: dict[str, Any]) -> dict[str, Any]:
    """The same in plain JSON types, which have no methods but those that the sandbox knows."""
    copy: dict[str, Any] = json.loads(json.dumps(given))
    return copy


def _as_in_hf(message: Mapping[str, Any]) -> dict[str, Any]:
    """A key without a value is no key, and reasoning has one name, however the client calls it."""
    known = {key: value for key, value in message.items() if value is not None}
    reasoning = next((known[name] for name in REASONING if name in known), None)
    if reasoning is None:
        return known
    return {"thinking": reasoning, **known, "reasoning_content": reasoning}


def _special_tokens(metadata: Mapping[str, Any]) -> dict[str, str]:
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    ids = {name: metadata[key] for name, key in SPECIAL_TOKENS.items() if key in metadata}
    return {name: tokens[i] for name, i in ids.items() if i in range(len(tokens))}


def _line(error: Exception) -> str:
    """The line of the template where it failed, as Jinja notes it in the traceback."""
    lines = [line for frame, line in walk_tb(error.__traceback__) if _is_template(frame)]
    if isinstance(error, jinja2.TemplateSyntaxError):
        lines.append(error.lineno)
    return f" line {lines[-1]}" if lines else ""


def _is_template(frame: FrameType) -> bool:
    return frame.f_code.co_filename == "<template>"


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training; rendering ignores the mark."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call, as in HF, so that what is set inside stays inside.
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    environment.globals["namespace"] = _Namespace
    return environment


class _Namespace(Namespace):
    """A namespace that keeps no underscored names, which Python itself would look up and call."""

    def __init__(self, /, *pairs: Any, **names: Any) -> None:
        super().__init__()
        for name, value in dict(*pairs, **names).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise SecurityError(f"name {name!r} on a namespace")
        super().__setitem__(name, value)


def _tojson(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: Jinja's own filter escapes HTML."""
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
