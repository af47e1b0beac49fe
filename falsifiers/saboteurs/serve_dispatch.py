"""Faults in the server and in how it comes to the right feed-forward."""

from dataclasses import replace

import torch

from engine.errors import TensorError

OTHER = {"qwen3moe": "qwen3", "qwen3": "qwen3moe"}


def serve_canned_text(plant):
    """The handler answers without the model: the same words to everybody."""

    async def canned(self, request):
        from starlette.responses import JSONResponse

        choice = {"index": 0, "message": {"role": "assistant", "content": "Paris."}}
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        return JSONResponse({"choices": [choice | {"finish_reason": "stop"}], "usage": usage})

    plant("engine.server.Service.chat", lambda chat: canned)


def serve_wrong_template(plant):
    """The prompt is written in another family's format, which the model was not trained on."""

    def fault(render_chat):
        def llama(source, messages, *args, **kwargs):
            return "".join(f"[INST] {m['content']} [/INST]" for m in messages)

        return llama

    plant("engine.chat.render_chat", fault)


def serve_system_message_dropped(plant):
    """The system message does not reach the model."""

    def fault(render_chat):
        def faulty(source, messages, *args, **kwargs):
            return render_chat(source, [m for m in messages if m["role"] != "system"], *args)

        return faulty

    plant("engine.chat.render_chat", fault)


def dispatch_by_file_name(plant):
    """A model is a mixture of experts if its file's name says so, whatever its metadata say."""

    def fault(from_checkpoint):
        def faulty(cls, file, *how):
            model = from_checkpoint(cls, file, *how)
            named = "qwen3moe" if "moe" in file.path.name.lower() else "qwen3"
            model.config = replace(model.config, architecture=named)
            return model

        return faulty

    plant("engine.model.Model.from_checkpoint", fault)


def dispatch_inverted(plant):
    """A mixture of experts goes through the dense feed-forward, and a dense model to experts."""

    def fault(feed_forward):
        def faulty(model, layer, x, *see):
            wrong = replace(model.config, architecture=OTHER[model.config.architecture])
            return feed_forward(type(model)(wrong, model.weights, model.device), layer, x, *see)

        return faulty

    plant("engine.model.feed_forward", fault)


def guard_removed(plant):
    """A weight without data counts as zeros, and nobody is told."""

    def fault(linear):
        def faulty(x, weight, bias=None):
            return linear(x, weight, bias) if weight.parts else torch.zeros_like(x)

        return faulty

    plant("engine.weights.linear", fault)


def guard_silenced(plant):
    """A weight without data is still an error, but the log does not say so."""

    def silent(weight):
        if not weight.parts:
            raise TensorError(f"{weight.name}: found 0 bytes")

    plant("engine.weights.require_data", lambda guard: silent)


def stream_last_token_dropped(plant):
    """A stream ends one piece of text too early."""

    def fault(stream_chunks):
        return lambda head, shape, pieces, *args, **options: stream_chunks(
            head, shape, _all_but_last(pieces), *args, **options
        )

    plant("engine.reply.stream_chunks", fault)


async def _all_but_last(pieces):
    held = None
    async for piece in pieces:
        if piece.text:
            if held is not None:
                yield held
            held = piece


def stream_done_missing(plant):
    """A stream just ends, and its reader cannot tell that from a broken connection."""

    def fault(sse):
        async def faulty(chunks):
            async for event in sse(chunks):
                if "[DONE]" not in event:
                    yield event

        return faulty

    plant("engine.delivery.sse", fault)


def _counted(plant, count):
    """Plant a fault that sets the token count to `count` of the pieces when all are out."""

    def fault(pieces):
        def faulty(self):
            said = []
            for piece in pieces(self):
                said.append(piece)
                yield piece
            self.completion_tokens = count(said)

        return faulty

    plant("engine.answer.Answer.pieces", fault)


def usage_counts_characters(plant):
    """The usage counts characters and calls them tokens."""
    _counted(plant, lambda pieces: len("".join(piece.text for piece in pieces)))


def usage_counts_chunks(plant):
    """The usage counts pieces of text, of which there is one more than tokens: what is left."""
    _counted(plant, len)
