"""Faults in what the server answers: text, tokens, refusals, and whose answer it is."""

import json
from dataclasses import replace

import torch

from engine.errors import RequestError


def completion_prompt_as_chat(plant):
    """A completion's prompt is dressed up as a chat's first message."""

    def fault(prompt_ids):
        def faulty(served, request):
            ids, field = prompt_ids(served, request)
            return served.tokenizer.encode("<|im_start|>user\n") + ids, field

        return faulty

    plant("engine.answer.prompt_ids", fault)


def completion_first_id_dropped(plant):
    """The first id of a prompt is taken for a BOS token, and dropped."""

    def fault(prompt_ids):
        def faulty(served, request):
            ids, field = prompt_ids(served, request)
            return ids[1:], field

        return faulty

    plant("engine.answer.prompt_ids", fault)


def finish_reason_always_stop(plant):
    """An answer that was cut off at max_tokens says that it had come to its end."""

    def fault(pieces):
        def faulty(self):
            yield from pieces(self)
            self.finish_reason = "stop"

        return faulty

    plant("engine.answer.Answer.pieces", fault)


def sampling_top_p_before_top_k(plant):
    """Top-p is of the whole distribution's mass, not of what top-k kept."""

    def fault(keep):
        def faulty(probabilities, sampling):
            wide = keep(probabilities, replace(sampling, top_k=0))
            return keep(wide, replace(sampling, top_p=1.0))

        return faulty

    plant("engine.generate.keep", fault)


def sampling_min_p_absolute(plant):
    """Min-p is a probability, not a share of the best one's."""

    def fault(keep):
        def faulty(probabilities, sampling):
            kept = keep(probabilities, replace(sampling, min_p=0.0))
            best = kept == kept.max()
            return kept * ((kept >= sampling.min_p) | best)

        return faulty

    plant("engine.generate.keep", fault)


def sampling_temperature_last(plant):
    """The filters see the distribution at temperature 1; the temperature comes after them."""

    def fault(sample):
        def faulty(logits, sampling, generator):
            from engine.generate import keep

            kept = keep(torch.softmax(logits.double(), dim=-1), sampling)
            return int(
                torch.multinomial(kept ** (1 / sampling.temperature), 1, generator=generator)
            )

        return lambda logits, sampling, generator: (
            faulty(logits, sampling, generator)
            if sampling.temperature
            else sample(logits, sampling, generator)
        )

    plant("engine.generate.sample", fault)


def _with_fields(put, **fields):
    """The request reaches generation with these fields changed."""

    def fault(start_answer):
        def faulty(served, request, limit):
            return start_answer(served, request.model_copy(update=fields), limit)

        return faulty

    put("engine.answer.start_answer", fault)


def server_seed_ignored(plant):
    """The request's seed is not handed on."""
    _with_fields(plant, seed=0)


def server_top_k_ignored(plant):
    """The request's top_k is not handed on."""
    _with_fields(plant, top_k=0)


def clients_share_a_seed(plant):
    """All who sample do so with the seed of the server."""
    _with_fields(plant, seed=42)


def logprobs_shifted_by_one(plant):
    """A token gets the log-probabilities of the place before it."""

    def fault(token):
        before = []

        def faulty(step, offset, alternatives):
            before.append(step.logits)
            return token(
                replace(step, logits=before[max(0, len(before) - 2)]), offset, alternatives
            )

        return faulty

    plant("engine.answer.token", fault)


def logprobs_after_temperature(plant):
    """The log-probabilities are those of the distribution at the temperature of the request."""

    def fault(steps):
        def faulty(model, ids, sampling, *args, **options):
            heat = sampling.temperature or 0.5
            for step in steps(model, ids, sampling, *args, **options):
                yield replace(step, logits=step.logits / heat)

        return faulty

    plant("engine.generate.steps", fault)


def logprobs_half_character_replaced(plant):
    """A token that is half a character is given as the bytes of U+FFFD."""

    def fault(token_bytes):
        def faulty(self, index, **options):
            data = token_bytes(self, index, **options)
            return data.decode(errors="replace").encode() if options.get("special") else data

        return faulty

    plant("engine.tokenizer.Tokenizer.token_bytes", fault)


def logprobs_offset_in_tokens(plant):
    """Text offsets count tokens instead of characters."""

    def fault(token):
        seen = []

        def faulty(step, offset, alternatives):
            seen.append(step)
            return token(step, len(seen) - 1, alternatives)

        return faulty

    plant("engine.answer.token", fault)


def logprobs_lost_in_the_stream(plant):
    """A token whose text is held back is left out of the stream for good."""

    def fault(piece):
        def faulty(self, text):
            made = piece(self, text)
            self._waiting.clear()
            return made

        return faulty

    plant("engine.answer.Answer._piece", fault)


def stop_within_one_token_only(plant):
    """Text goes out as it comes, so that a stop string over two tokens is never seen whole."""
    plant("engine.text.overlap", lambda overlap: lambda text, stops: 0)


def stop_text_included(plant):
    """The answer ends after the stop string instead of before it."""

    def fault(find_stop):
        def faulty(text, stops):
            place = find_stop(text, stops)
            here = [stop for stop in stops if place is not None and text.startswith(stop, place)]
            return place + len(here[0]) if here else place

        return faulty

    plant("engine.text.find_stop", fault)


def stop_first_to_start(plant):
    """Of two stop strings the one that starts first counts, not the one that is complete first."""

    def fault(find_stop):
        def faulty(text, stops):
            return min((p for p in map(text.find, stops) if p >= 0), default=None)

        return faulty

    plant("engine.text.find_stop", fault)


def stop_tokens_listed(plant):
    """The logprobs list the tokens of the stop string too, and tell what it is."""

    def fault(piece):
        def faulty(self, text):
            made = piece(self, text)
            tokens = made.tokens + tuple(self._waiting)
            self._waiting.clear()
            return replace(made, tokens=tokens)

        return faulty

    plant("engine.answer.Answer._piece", fault)


def utf8_half_character_streamed(plant):
    """Each token is decoded for itself."""

    def fault(feed):
        return lambda self, index: self._tokenizer.decode([index])

    plant("engine.tokenizer.StreamDecoder.feed", fault)


def utf8_unfinished_character_dropped(plant):
    """What is unfinished when the answer ends is forgotten."""
    plant("engine.text.TextStream.flush", lambda flush: lambda self: "")


def error_in_starlettes_shape(plant):
    """The framework's own refusals go out as they are."""

    def fault(on_http_error):
        async def faulty(self, request, error):
            from starlette.responses import PlainTextResponse

            return PlainTextResponse(error.detail, error.status_code)

        return faulty

    plant("engine.server.Service.on_http_error", fault)


def unknown_fields_ignored(plant):
    """A field that the server does not know is dropped without a word."""

    def fault(parse_request):
        def faulty(kind, body):
            try:
                given = json.loads(body)
                known = {k: v for k, v in given.items() if k in kind.model_fields}
            except (ValueError, AttributeError, RecursionError):
                return parse_request(kind, body)
            return parse_request(kind, json.dumps(known).encode())

        return faulty

    plant("engine.request.parse_request", fault)


def body_parsed_by_recursion(plant):
    """The body is parsed by a parser whose depth is the interpreter's."""
    plant("engine.request.from_json", lambda _: lambda body, **options: json.loads(body))


def error_param_missing(plant):
    """An error does not say which field it is about."""

    def fault(explained):
        def faulty(kind, error):
            found = explained(kind, error)
            return RequestError(str(found), code=found.code)

        return faulty

    plant("engine.request._explained", fault)


def clients_answers_swapped(plant):
    """Now and then an answer goes to the one who asked before."""

    def fault(start_answer):
        asked = []

        def faulty(served, request, limit):
            asked.append(request)
            prompt = asked[-1 - (len(asked) % 8 == 0)]
            mixed = request.model_copy(update={"messages": prompt.messages})
            return start_answer(served, mixed, limit)

        return faulty

    plant("engine.answer.start_answer", fault)


def clients_share_a_cache(plant):
    """Keys and values of one answer are found by the next."""

    def fault(new_cache):
        kept = []

        def faulty(self, capacity=None):
            if not kept or kept[0].length > 400:
                kept[:] = [new_cache(self)]
            return kept[0]

        return faulty

    plant("engine.model.Model.new_cache", fault)


def tools_dropped(plant):
    """The tools of a request do not reach the template."""
    plant("engine.request.ChatRequest.offered_tools", lambda _: lambda self: [])


def tool_arguments_as_string(plant):
    """The arguments of a call reach the template as JSON in a string, and are quoted twice."""

    def fault(conversation):
        def faulty(self):
            messages = conversation(self)
            for call in (c for m in messages for c in m.get("tool_calls", [])):
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
            return messages

        return faulty

    plant("engine.request.ChatRequest.conversation", fault)


def tools_unseen_by_template_accepted(plant):
    """Nobody asks whether the template shows tools at all."""

    def fault(rendered):
        def faulty(template, request):
            from engine.chat import render_chat

            return render_chat(template, request.conversation(), tools=request.offered_tools())

        return faulty

    plant("engine.answer._rendered", fault)
