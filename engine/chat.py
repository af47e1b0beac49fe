"""Chat messages to prompt text, by a Jinja template: the file's own, or one that is passed.

Knows templates; knows nothing of tokens or models. It never guesses: a file without a template
is an error, and who wants ChatML anyway passes `CHATML`. The environment is the one that HF
transformers sets up, so that templates render byte for byte as there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from engine.errors import TemplateError
from engine.gguf import open_gguf

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class ChatTemplate:
    """A template's text, and the variables that its file defines (`bos_token`, `eos_token`)."""

    text: str
    variables: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], where: object = "file") -> "ChatTemplate":
        """The template of a GGUF; `TemplateError` if it has none."""
        text = metadata.get("tokenizer.chat_template")
        if not isinstance(text, str) or not text:
            raise TemplateError(
                f"{where}: found no chat template, expected metadata key tokenizer.chat_template; "
                "pass a template such as engine.CHATML to choose one"
            )
        tokens = metadata.get("tokenizer.ggml.tokens", [])
        named = {f"{name}_token": f"tokenizer.ggml.{name}_token_id" for name in ("bos", "eos")}
        ids = {name: metadata[key] for name, key in named.items() if key in metadata}
        known = {name: i for name, i in ids.items() if i in range(len(tokens))}
        return cls(text, {name: tokens[i] for name, i in known.items()})


Source = str | Path | ChatTemplate


def open_template(source: Source) -> ChatTemplate:
    """The template that `source` is (Jinja text) or holds (the path of a GGUF)."""
    if isinstance(source, ChatTemplate):
        return source
    if isinstance(source, Path) or source.endswith(".gguf"):
        return ChatTemplate.from_metadata(open_gguf(source).metadata, source)
    return ChatTemplate(source)


def render_chat(
    source: Source,
    messages: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """The prompt text for `messages` ({"role": …, "content": …}).

    `source` is a Jinja template, a path (`Path`, or text ending in .gguf) of a GGUF that has
    one, or a `ChatTemplate`. `variables` reach the template and win over the file's.
    """
    template = open_template(source)
    defaults = {"tools": None, "documents": None, **template.variables}
    given = {"messages": messages, "add_generation_prompt": add_generation_prompt}
    try:
        compiled = _environment().from_string(template.text)
        return compiled.render(**(defaults | variables | given))
    except Exception as error:  # a template is somebody's program: anything may come out of it
        raise TemplateError(
            f"chat template: found {type(error).__name__}: {error}, "
            f"expected it to render {len(messages)} messages"
        ) from error


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training; rendering ignores the mark."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


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
