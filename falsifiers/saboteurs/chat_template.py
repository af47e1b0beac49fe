"""Faults in the way from chat messages to prompt text, and back from the answer."""


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
