"""Faults that cut an answer loose from its prompt, or tie it to another's."""


def prompt_dropped(plant):
    """Only the prompt's last token reaches the model."""

    def fault(generate):
        return lambda model, ids, **options: generate(model, ids[-1:], **options)

    plant("engine.generate.generate", fault)


def prompt_cut_to_its_end(plant):
    """A prompt is cut to its last four tokens, which is where every chat ends alike."""

    def fault(generate):
        return lambda model, ids, **options: generate(model, ids[-4:], **options)

    plant("engine.generate.generate", fault)


def cache_not_cleared(plant):
    """All generations share one cache, so that each prompt follows what was said before."""
    caches = []

    def fault(new_cache):
        def faulty(self, capacity=None):
            if not caches:
                caches.append(new_cache(self))
            return caches[0]

        return faulty

    plant("engine.model.Model.new_cache", fault)


def sampler_fixed_token(plant):
    """The sampler returns the same token whatever the logits say."""
    plant("engine.generate.sample", lambda sample: lambda logits, *rest: 7)


def chat_content_dropped(plant):
    """The template is rendered with empty messages."""

    def fault(render_chat):
        def faulty(source, messages, *args, **variables):
            empty = [{**message, "content": ""} for message in messages]
            return render_chat(source, empty, *args, **variables)

        return faulty

    plant("engine.chat.render_chat", fault)
