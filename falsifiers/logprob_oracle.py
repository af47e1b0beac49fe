"""What the logprobs of an answer must say, from one full forward pass in numpy's float64."""

import codecs
from dataclasses import dataclass

import numpy as np

from engine.answer import Served


@dataclass(frozen=True)
class Place:
    """One place of an answer: the token there, where it starts, and every id's log-probability."""

    data: bytes
    offset: int
    logprobs: np.ndarray
    drawn: int

    def best(self, count: int) -> list[int]:
        return np.argsort(-self.logprobs, kind="stable")[:count].tolist()


def places(served: Served, prompt: list[int], made: list[int]) -> list[Place]:
    """The places of `made` after `prompt`: without a cache, at temperature 1."""
    logits = served.model.logits(prompt + made).double().numpy()[len(prompt) - 1 : -1]
    logits -= logits.max(axis=1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    decoder, offset, found = codecs.getincrementaldecoder("utf-8")("replace"), 0, []
    for row, token in zip(logprobs, made, strict=True):
        data = served.tokenizer.token_bytes(token)
        found.append(Place(data, offset, row, token))
        offset += len(decoder.decode(data))
    return found


def spelled(data: bytes) -> str:
    """A token as OpenAI spells it, half characters by their bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_errors(served: Served, entries, expected: list[Place], top: int) -> tuple[float, int]:
    """The largest error of a log-probability, and how many tokens are not what they should be."""
    wrong, error = abs(len(entries) - len(expected)), 0.0
    for entry, place in zip(entries, expected, strict=False):
        best = place.best(top)
        listed = [bytes(each.bytes) for each in entry.top_logprobs]
        tokens = [served.tokenizer.token_bytes(each, special=True) for each in best]
        wrong += bytes(entry.bytes) != place.data or entry.token != spelled(place.data)
        wrong += listed != tokens or [e.token for e in entry.top_logprobs] != list(
            map(spelled, tokens)
        )
        found = [entry.logprob, *(each.logprob for each in entry.top_logprobs)]
        should = place.logprobs[[place.drawn, *best]]
        error = max(error, *(abs(a - b) for a, b in zip(found, should, strict=False)))
    return error, wrong


def completion_errors(served: Served, found, expected: list[Place], top: int) -> tuple[float, int]:
    """The same for the older shape: parallel lists, dictionaries by text, and offsets."""
    wrong = abs(len(found.tokens) - len(expected)) + abs(len(found.text_offset) - len(expected))
    error = 0.0
    for index, place in enumerate(expected[: len(found.tokens)]):
        ids = {*place.best(top), place.drawn}
        should = {
            spelled(served.tokenizer.token_bytes(i, special=True)): place.logprobs[i] for i in ids
        }
        said = found.top_logprobs[index]
        wrong += found.tokens[index] != spelled(place.data) or said.keys() != should.keys()
        wrong += found.text_offset[index] != place.offset
        error = max(error, abs(found.token_logprobs[index] - place.logprobs[place.drawn]))
        error = max(error, *(abs(said.get(text, 99.0) - value) for text, value in should.items()))
    return error, wrong
