"""Faults in the way from chat messages to prompt text, and back from the answer."""

import jinja2
from jinja2.sandbox import SandboxedEnvironment


def _rendered(plant, change):
    """Plant a fault that changes the prompt text after it was rendered rightly."""

    def fault(render_chat):
        return lambda *args, **kwargs: change(render_chat(*args, **kwargs))

    plant("engine.chat.render_chat", fault)


def chat_generation_prompt_missing(plant):
    """The prompt ends after the user's turn: the model is not told that it is the assistant's."""
    _rendered(plant, lambda text: text.removesuffix("<|im_start|>assistant\n"))


def chat_byte_at_the_end(plant):
    """One space follows the generation prompt, which shifts every token of the answer."""
    _rendered(plant, lambda text: f"{text} ")


def chat_roles_swapped(plant):
    """The user speaks as the assistant and the assistant as the user."""
    swap = {"user": "assistant", "assistant": "user"}

    def fault(render_chat):
        def faulty(source, messages, *args, **kwargs):
            turned = [m | {"role": swap.get(m["role"], m["role"])} for m in messages]
            return render_chat(source, turned, *args, **kwargs)

        return faulty

    plant("engine.chat.render_chat", fault)


def chat_html_escaped(plant):
    """The text is escaped as if it were going into a web page."""
    _rendered(plant, lambda text: text.replace("&", "&amp;").replace('"', "&#34;"))


def chat_missing_template_is_chatml(plant):
    """A file without a template is silently rendered as ChatML, whatever it was trained on."""

    def fault(from_metadata):
        def faulty(cls, metadata, where="file"):
            from engine.chat import CHATML

            template = metadata.get("tokenizer.chat_template") or CHATML
            return from_metadata(cls, {**metadata, "tokenizer.chat_template": template}, where)

        return faulty

    plant("engine.chat.ChatTemplate.from_metadata", fault)


def chat_error_names_no_file(plant):
    """A missing template is refused, but the message does not say in which file."""

    def fault(from_metadata):
        return lambda cls, metadata, where="file": from_metadata(cls, metadata)

    plant("engine.chat.ChatTemplate.from_metadata", fault)


def chat_answer_ends_in_broken_code(plant):
    """The answer's last Python block is cut in the middle of a statement."""

    def fault(decode):
        return lambda self, ids, **options: (
            decode(self, ids, **options) + "\n```python\ndef fibonacci(n:\n```\n"
        )

    plant("engine.tokenizer.Tokenizer.decode", fault)


def _environment(plant, change):
    """Plant a fault that changes the Jinja environment after it was set up rightly."""

    def fault(environment):
        def faulty():
            made = environment()
            return change(made) or made

        return faulty

    plant("engine.chat._environment", fault)


def _like(environment, kind):
    made = kind(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[*map(type, environment.extensions.values())],
    )
    made.filters, made.globals = environment.filters, environment.globals
    return made


def chat_tools_dropped(plant):
    """The tools never reach the template."""

    def fault(render):
        return lambda self, **variables: render(self, **variables | {"tools": None})

    plant("engine.chat.ChatTemplate.render", fault)


def chat_trim_blocks_off(plant):
    """The new line after a block stays in the text."""
    _environment(plant, lambda environment: setattr(environment, "trim_blocks", False))


def chat_lstrip_blocks_off(plant):
    """The white space before a block stays in the text."""
    _environment(plant, lambda environment: setattr(environment, "lstrip_blocks", False))


def chat_tojson_escapes_html(plant):
    """JSON is written by Jinja's own filter, which escapes <, > and &."""
    _environment(
        plant, lambda env: env.filters.update(tojson=jinja2.Environment().filters["tojson"])
    )


def chat_tojson_escapes_unicode(plant):
    """JSON is written in ASCII, with escapes that the model was not trained on."""

    def fault(tojson):
        return lambda x, **options: tojson(x, **{"ensure_ascii": True, **options})

    plant("engine.chat._tojson", fault)


def chat_generation_leaks(plant):
    """What is set inside a generation block is still set after it."""

    def fault(parse):
        def faulty(self, parser):
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

        return faulty

    plant("engine.chat._Generation.parse", fault)


def chat_empty_keys_kept(plant):
    """A key of a message that has no value reaches the template as None."""
    plant("engine.chat._as_in_hf", lambda original: dict)


def chat_reasoning_unknown(plant):
    """Only reasoning_content is reasoning; what other clients call it is lost."""

    def fault(as_in_hf):
        return lambda message: {k: v for k, v in message.items() if v is not None}

    plant("engine.chat._as_in_hf", fault)


def chat_special_tokens_unknown(plant):
    """bos_token, eos_token and so on are not there for the template."""
    plant("engine.chat._special_tokens", lambda original: lambda metadata: {})


def chat_sandbox_off(plant):
    """Templates run with all of Python in reach."""
    _environment(plant, lambda environment: _like(environment, jinja2.Environment))


def chat_lists_may_change(plant):
    """A template may append to and clear what it is given."""
    _environment(plant, lambda environment: _like(environment, SandboxedEnvironment))


def chat_namespace_keeps_any_name(plant):
    """A namespace takes names that Python itself looks up."""
    _environment(
        plant, lambda env: env.globals.update(namespace=jinja2.Environment().globals["namespace"])
    )


def chat_tools_shared(plant):
    """The template works on the caller's own tools, and may change them."""
    plant("engine.chat._copied", lambda original: lambda given: given)
    chat_lists_may_change(plant)


def chat_error_names_no_line(plant):
    """An error in a template does not say where."""
    plant("engine.chat._line", lambda original: lambda error: "")


def chat_tool_use_ignored(plant):
    """The template for tools is never used."""

    def fault(from_metadata):
        def faulty(cls, metadata, where="file"):
            kept = {k: v for k, v in metadata.items() if not k.endswith(".tool_use")}
            return from_metadata(cls, kept, where)

        return faulty

    plant("engine.chat.ChatTemplate.from_metadata", fault)


def chat_tool_use_always(plant):
    """The template for tools is used where there are none too."""

    def fault(render):
        def faulty(self, **variables):
            tools = variables.get("tools") or []
            return render(self, **variables | {"tools": tools})

        return faulty

    plant("engine.chat.ChatTemplate.render", fault)
