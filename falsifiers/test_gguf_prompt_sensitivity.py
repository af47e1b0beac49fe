"""Tries to refute that an answer depends on its prompt, and on nothing said before.

A model that is loaded wrongly, or a prompt that is lost on the way, gives fluent text that is the
same for every question. All prompts end in the same words, so that the last token alone cannot tell
them apart. The file is the embedded default, or the one of the true shapes that is given.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import engine
from falsifiers.conftest import REAL, SHAPE
from falsifiers.embedded import trained_gguf

TOKENS = 32
QUESTIONS = (
    "What is the capital of France?",
    "How many days are there in a week?",
    "Write a Python function to compute the nth Fibonacci number.",
)
Answer = Callable[[str], Sequence[int]]


@pytest.fixture(scope="module")
def gguf() -> Path:
    """Where tokens alone are compared, a file without words will do."""
    return Path(REAL or SHAPE or trained_gguf())


@pytest.fixture(scope="module")
def answer(gguf) -> Answer:
    """The greedy continuation of a text, 32 tokens of it, made anew for each call."""
    model, tokenizer = engine.load(gguf), engine.load_tokenizer(gguf)
    if not (REAL or SHAPE):
        model = model.to_float()  # decoded once and not for every token; the numbers are the same

    def made(text: str) -> list[int]:
        return list(engine.generate(model, tokenizer.encode(text), max_tokens=TOKENS))

    return made


def plain(question: str) -> str:
    return f"Question: {question} Answer:"


def compare(observe, answer: Answer, prompts: Sequence[str]) -> None:
    """Observe the answers to `prompts`, and to the first of them once more."""
    made = [tuple(answer(prompt)) for prompt in prompts]
    observe("prompts", len(set(prompts)))
    observe("distinct_answers", len(set(made)))
    observe("fewest_tokens", min(map(len, made)))
    observe("same_again", tuple(answer(prompts[0])) == made[0])


@pytest.mark.falsifies("FALSIFY-GGUF-PROMPT-SENS-001")
def test_two_prompts_have_two_answers(observe, shape_gguf, answer):
    compare(observe, answer, [plain(each) for each in QUESTIONS[:2]])


@pytest.mark.falsifies("FALSIFY-GGUF-PROMPT-SENS-002")
def test_three_prompts_have_at_least_two_answers(observe, shape_gguf, answer):
    compare(observe, answer, [plain(each) for each in QUESTIONS])


@pytest.mark.falsifies("FALSIFY-GGUF-PROMPT-SENS-003")
def test_two_prompts_in_the_control_format_have_two_answers(observe, shape_gguf, answer, gguf):
    chats = [[{"role": "user", "content": each}] for each in QUESTIONS[:2]]
    prompts = [engine.render_chat(gguf, chat) for chat in chats]
    compare(observe, answer, prompts)
