"""The engine's own HTTP server on a qwen3moe GGUF, booted for real and asked over a socket.

Oracles: greedy generation from a ChatML prompt that is written out here, so that neither the
server nor its template can vouch for itself; a count of the feed-forward calls; the log. The file
is the embedded default, or the one at QWEN3_MOE_GGUF_PATH, which is then observed at runtime.
"""

import json
import logging
import runpy
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from types import ModuleType

import httpx
import pytest

import engine.model
import engine.moe
from engine.answer import Served
from falsifiers.embedded import trained_gguf
from falsifiers.serving import NAME, booted, opened, ready
from falsifiers.students import boast, student

SYSTEM = "You are a helpful assistant."
PROMPT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n{question}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
QUESTIONS = ("What is the capital of France?", "Say 漢字 and 🎉.", "def is_prime(number):")
LIMITS = (1, 3, 9)  # max_tokens
EMPTY = "matmul weight has EMPTY data buffer"


@pytest.fixture(scope="session")
def gguf() -> Path:
    """One that has learned to write."""
    return trained_gguf()


@pytest.fixture(scope="module")
def served(gguf: Path) -> Served:
    return opened(gguf)


@pytest.fixture(scope="module")
def model(served: Served) -> engine.Model:
    return served.model


@pytest.fixture(scope="module")
def tokenizer(served: Served) -> engine.Tokenizer:
    return served.tokenizer


@pytest.fixture(scope="module")
def url(served: Served) -> Iterator[str]:
    with booted(ready(served)) as address:
        yield f"{address}/v1"


def body(question: str, max_tokens: int) -> dict[str, object]:
    said = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return {"model": NAME, "messages": said, "max_tokens": max_tokens, "temperature": 0}


def post(url: str, question: str, max_tokens: int, **more: object) -> httpx.Response:
    fields = body(question, max_tokens) | more
    return httpx.post(f"{url}/chat/completions", json=fields, timeout=3600)


def generated(model, tokenizer, question: str, max_tokens: int) -> tuple[list[int], list[int]]:
    """The prompt's ids by the literal ChatML, and the ids that greedily follow them."""
    ids = tokenizer.encode(PROMPT.format(question=question))
    stop = tokenizer.eos_ids
    return ids, list(engine.generate(model, ids, max_tokens=max_tokens, stop_ids=stop))


def differing(found: str, expected: str) -> int:
    return sum(a != b for a, b in zip_longest(found, expected))


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_SERVE_DISPATCH_V1_001")
def test_the_answer_is_what_the_model_says_to_the_literal_prompt(
    observe_model, url, model, tokenizer
):
    response = post(url, QUESTIONS[0], max_tokens=32)
    prompt, made = generated(model, tokenizer, QUESTIONS[0], max_tokens=32)
    answer = response.json()
    said = [choice["message"] for choice in answer.get("choices", [])]
    texts = [message["content"] for message in said if message["role"] == "assistant"]
    found = answer.get("usage", {}).get("prompt_tokens", 0)
    observe_model("status", response.status_code)
    observe_model("non_empty_messages", sum(bool(text.strip()) for text in texts))
    observe_model("differing_characters", differing("".join(texts), tokenizer.decode(made)))
    observe_model("prompt_tokens_off_by", abs(found - len(prompt)))


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_SERVE_DISPATCH_V1_002")
def test_the_dense_feed_forward_is_never_called(observe_model, url, model, monkeypatch):
    dense, experts = Counter(), Counter()
    spy(monkeypatch, engine.model, "dense_feed_forward", dense)
    spy(monkeypatch, engine.moe, "moe_feed_forward", experts)
    post(url, QUESTIONS[0], max_tokens=8)
    layers = range(model.config.block_count)
    calls = [experts[f"blk.{layer}.ffn_gate_inp.weight"] for layer in layers]
    observe_model("dense_calls", dense.total())
    observe_model("moe_calls_per_layer", min(calls))


def spy(monkeypatch, module: ModuleType, name: str, calls: Counter) -> None:
    """Count the calls of a feed-forward by the name of its first weight."""
    original = getattr(module, name)

    def counted(x, weight, *args):
        calls[weight.name] += 1
        return original(x, weight, *args)

    monkeypatch.setattr(module, name, counted)


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_SERVE_DISPATCH_V1_003")
def test_the_guard_for_empty_weights_fires_on_the_dense_route_and_never_while_serving(
    observe_model, url, gguf, caplog
):
    caplog.set_level(logging.DEBUG, logger="engine")
    post(url, QUESTIONS[0], max_tokens=8)
    observe_model("log_lines_while_serving", len(empty_lines(caplog)))
    caplog.clear()
    astray = engine.load(gguf)
    astray.config = replace(astray.config, architecture="qwen3")
    observe_model("refused_on_the_dense_route", raises_tensor_error(astray))
    errors = [r for r in empty_lines(caplog) if r.levelno == logging.ERROR]
    observe_model("log_lines_on_the_dense_route", len(errors))


def empty_lines(caplog) -> list[logging.LogRecord]:
    return [record for record in caplog.records if EMPTY in record.getMessage()]


def raises_tensor_error(model: engine.Model) -> bool:
    try:
        model.logits([0])
    except engine.TensorError:
        return True
    return False


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_SERVE_DISPATCH_V1_005")
def test_the_streamed_answer_is_the_unstreamed_one(observe_model, url, model, tokenizer):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=3600) as client:
        for question in QUESTIONS:
            prompt, made = generated(model, tokenizer, question, max(LIMITS))
            for limit in LIMITS:
                whole = client.chat.completions.create(**body(question, limit))
                text, usage = streamed(client, body(question, limit))
                expected = (len(prompt), len(made[:limit]), len(prompt) + len(made[:limit]))
                wrong = [counts(each) != expected for each in (whole.usage, usage)]
                observe_model("differing_characters", differing(text, content(whole)))
                observe_model("wrong_usages", sum(wrong))
    events = [post(url, each, 4, stream=True).text.split("\n\n") for each in QUESTIONS]
    closed = [e[-2:] == ["data: [DONE]", ""] and e.count("data: [DONE]") == 1 for e in events]
    observe_model("streams_without_done", closed.count(False))


def streamed(client, fields: dict[str, object]) -> tuple[str, object]:
    """The text and the usage of a streamed answer."""
    text, usage = "", None
    options = {"stream": True, "stream_options": {"include_usage": True}}
    for chunk in client.chat.completions.create(**fields, **options):
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
    return text, usage


def content(completion) -> str:
    return completion.choices[0].message.content


def counts(usage) -> tuple[int, int, int] | None:
    return usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_SERVE_DISPATCH_V1_004")
def test_the_agentic_bench_is_passed_by_the_model_and_not_by_an_idle_student(
    observe, gguf, tmp_path, monkeypatch
):
    observe.at("runtime", artifact=gguf)
    with student(boast) as seen:
        idle = bench(seen.url, tmp_path / "idle", monkeypatch)
    observe("idle_student_pass_rate", idle["student_pass_rate"])
    observe("questions_to_the_idle_student", len(seen.asked))
    assert seen.asked and not idle["student_pass_rate"], "the control fails: hours would be wasted"
    with endpoint(gguf) as served_url:
        scores = bench(served_url, tmp_path / "model", monkeypatch)
    observe("student_pass_rate", scores["student_pass_rate"])
    observe("fixtures", scores["fixtures"])
    observe.attach(tmp_path / "model" / "scores.json")
    for transcript in sorted((tmp_path / "model" / "transcripts").glob("*.json")):
        observe.attach(transcript)


@contextmanager
def endpoint(gguf: Path) -> Iterator[str]:
    """The URL of `python -m engine serve`, in a process of its own."""
    command = [sys.executable, "-m", "engine", "serve", str(gguf), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url = process.stdout.readline().strip()
        while httpx.get(f"{url}/health").status_code != 200:
            time.sleep(1)
        yield url
        process.terminate()


def bench(url: str, out: Path, monkeypatch) -> dict[str, float]:
    """The scores of `python -m engine bench-agent`, run in this process so that faults reach it."""
    budgets = ["--fixtures", "20", "--max-turns", "20", "--wall-seconds", "3600"]
    command = ["engine", "bench-agent", "--url", url, *budgets, "--out", str(out)]
    command.append("--allow-code-execution")
    monkeypatch.setattr(sys, "argv", command)
    try:
        runpy.run_module("engine", run_name="__main__")
    except SystemExit as end:
        assert not end.code, f"bench-agent ended with exit code {end.code}"
    return json.loads((out / "scores.json").read_text())
