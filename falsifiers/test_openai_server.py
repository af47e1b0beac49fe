"""What the server answers, put to the test over a socket and mostly through the `openai` client.

Oracles: `engine.generate` on literal prompts, one full forward pass in numpy for log-probabilities,
a scan letter by letter for stop strings; and a model that says its prompt again, for which the
right answer is in the request.
"""

import asyncio
import json

import httpx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answer import Served
from engine.chat import ChatTemplate
from engine.generate import Sampling, sample
from engine.text import TextStream
from falsifiers import bad_requests, logprob_oracle, serving
from falsifiers.bad_requests import CHAT, COMPLETIONS
from falsifiers.sampling_oracle import CASES, allowed
from falsifiers.serving import (
    NAME,
    booted,
    cut,
    differing,
    events,
    is_refusal,
    made,
    post,
    question,
    ready,
)
from falsifiers.thorough import THOROUGH

PROMPT = "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
TEXTS = ("What is the capital of France?", "Say 漢字 and 🎉.")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Served:
    return serving.opened(serving.write_small(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def url(served):
    with booted(ready(served), max_waiting=64) as address:
        yield address


@pytest.fixture
def parrot(served):
    return serving.parrot_of(served)


def client(url: str, kind: str = "OpenAI"):
    openai = pytest.importorskip("openai")
    return getattr(openai, kind)(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=30)


@pytest.mark.falsifies("FALSIFY-SERVER-001")
def test_a_completion_continues_its_prompt(observe, url, served):
    with client(url) as openai:
        for text in TEXTS:
            for prompt in (text, served.tokenizer.encode(text)):
                ask = {"model": NAME, "prompt": prompt, "temperature": 0}
                whole = openai.completions.create(**ask, max_tokens=9)
                chunks = list(
                    openai.completions.create(
                        **ask, max_tokens=9, stream=True, stream_options={"include_usage": True}
                    )
                )
                ids = made(served, prompt, 9)
                expected = served.tokenizer.decode(ids)
                streamed = "".join(choice.text for each in chunks for choice in each.choices)
                counts = (len(served.tokenizer.encode(text)), len(ids))
                usages = [
                    (u.prompt_tokens, u.completion_tokens) for u in (whole.usage, chunks[-1].usage)
                ]
                ends = [whole.choices[0].finish_reason, chunks[-2].choices[0].finish_reason]
                observe("differing_characters", differing(whole.choices[0].text, expected))
                observe("differing_streamed_characters", differing(streamed, expected))
                observe("wrong_usages", sum(usage != counts for usage in usages))
                observe("wrong_finish_reasons", sum(end != "length" for end in ends))
        default = openai.completions.create(model=NAME, prompt=TEXTS[0], temperature=0)
        observe("default_tokens", default.usage.completion_tokens)


@pytest.mark.falsifies("FALSIFY-SERVER-002")
def test_sampling_draws_what_is_left_and_repeats_with_its_seed(observe, url, served):
    generator = torch.Generator().manual_seed(observe.seed)
    forbidden = missing = 0
    for logits, parameters in CASES:
        drawn = {sample(logits, Sampling(*parameters), generator) for _ in range(300)}
        forbidden += len(drawn - allowed(logits.numpy(), *parameters))
        missing += len(allowed(logits.numpy(), *parameters) - drawn)
    observe("forbidden_draws", forbidden)
    observe("missing_draws", missing)
    heat = {"temperature": 1.8, "top_p": 0.9}
    more = {"top_k": 40, "min_p": 0.01}
    answers = []
    with client(url) as openai:
        for seed in (1, 2, -3):
            ask = {"model": NAME, "messages": question(TEXTS[0]), "max_tokens": 8, "seed": seed}
            said = openai.chat.completions.create(**ask, **heat, extra_body=more)
            ids = made(served, PROMPT.format(question=TEXTS[0]), 8, seed=seed, **heat, **more)
            answers.append(said.choices[0].message.content)
            observe("differing_characters", differing(answers[-1], served.tokenizer.decode(ids)))
        ask = {"model": NAME, "prompt": TEXTS[1], "temperature": 2, "max_tokens": 8}
        cold = openai.completions.create(**ask, extra_body={"top_k": 1}).choices[0].text
    greedy = served.tokenizer.decode(made(served, TEXTS[1], 8))
    observe("differing_characters", differing(cold, greedy))
    observe("distinct_answers", len(set(answers)))


@pytest.mark.falsifies("FALSIFY-SERVER-003")
@pytest.mark.parametrize("heat", [{"temperature": 0}, {"temperature": 1.7, "seed": 5}])
def test_logprobs_are_the_models_own(observe, url, served, heat):
    with client(url) as openai:
        for text in TEXTS:
            prompt = PROMPT.format(question=text)
            ask = {"model": NAME, "messages": question(text), "max_tokens": 12, **heat}
            ask |= {"logprobs": True, "top_logprobs": 4}
            whole = openai.chat.completions.create(**ask).choices[0]
            parts = [c.choices[0] for c in openai.chat.completions.create(**ask, stream=True)]
            entries = [e for part in parts if part.logprobs for e in part.logprobs.content]
            expected = logprob_oracle.places(
                served, served.tokenizer.encode(prompt), made(served, prompt, 12, **heat)
            )
            for found in (whole.logprobs.content, entries):
                error, wrong = logprob_oracle.chat_errors(served, found, expected, top=4)
                observe("max_abs_error", error)
                observe("wrong_tokens", wrong)
            ask = {"model": NAME, "prompt": text, "max_tokens": 12, "logprobs": 3, **heat}
            ids = served.tokenizer.encode(text)
            expected = logprob_oracle.places(served, ids, made(served, ids, 12, **heat))
            found = openai.completions.create(**ask).choices[0].logprobs
            error, wrong = logprob_oracle.completion_errors(served, found, expected, top=3)
            observe("max_abs_error", error)
            observe("wrong_tokens", wrong)
            observe(
                "half_characters",
                sum("\ufffd" in p.data.decode(errors="replace") for p in expected),
            )


STOPS = st.lists(st.text("ab é", min_size=1, max_size=4), min_size=1, max_size=4)
CHUNKS = st.lists(st.text("ab é\n", min_size=1, max_size=5), min_size=1, max_size=6)


@pytest.mark.falsifies("FALSIFY-SERVER-004")
def test_a_stop_string_ends_the_answer_wherever_tokens_end(observe, parrot, served):
    encode, wrong, examples = served.tokenizer.encode, [0], [0]

    @THOROUGH
    @given(CHUNKS, STOPS)
    def streams(chunks, stops):
        stream, said = TextStream(served.tokenizer, stops), ""
        for token in (token for chunk in chunks for token in encode(chunk)):
            said += stream.feed(token)
            if stream.stopped:
                break
        expected = cut("".join(chunks), stops)
        wrong[0] += said + stream.flush() != ("".join(chunks) if expected is None else expected)
        wrong[0] += stream.stopped != (expected is not None)
        examples[0] += 1

    @settings(THOROUGH, max_examples=25)
    @given(CHUNKS, STOPS)
    def answers(chunks, stops):
        ids, text = [token for chunk in chunks for token in encode(chunk)], "".join(chunks)
        ask = {"prompt": ids, "max_tokens": len(ids), "stop": stops, "logprobs": 0}
        whole = post(address, COMPLETIONS, **ask).json()["choices"][0]
        parts = [e["choices"][0] for e in events(post(address, COMPLETIONS, stream=True, **ask))]
        expected, said = cut(text, stops), "".join(part["text"] for part in parts)
        should = (text, "length") if expected is None else (expected, "stop")
        offsets = whole["logprobs"]["text_offset"]
        observe("wrong_answers", int((whole["text"], whole["finish_reason"]) != should))
        observe("wrong_streams", int((said, parts[-1]["finish_reason"]) != should))
        observe("leaked_tokens", sum(offset >= len(should[0]) for offset in offsets))
        examples[0] += 1

    streams()
    with parrot() as address:
        answers()
    observe("wrong_texts", wrong[0])
    observe("examples", examples[0])


PIECES = st.sampled_from(["a", "é", "漢", "🎉", "👩‍🔬"]).map(str.encode) | st.binary(max_size=2)


@pytest.mark.falsifies("FALSIFY-SERVER-005")
def test_a_character_is_streamed_whole_or_not_yet(observe, parrot, served):
    ids = {served.tokenizer.token_bytes(i): i for i in range(served.tokenizer.vocab_size)}

    @settings(THOROUGH, max_examples=40)
    @given(st.lists(PIECES, min_size=1, max_size=6).map(b"".join).filter(bool))
    def streams(data):
        prompt = [ids[bytes([byte])] for byte in data]
        ask = {"prompt": prompt, "max_tokens": len(prompt), "stream": True}
        parts = [e["choices"][0]["text"] for e in events(post(address, COMPLETIONS, **ask))]
        expected = data.decode(errors="replace")
        torn = "".join(parts).count("\ufffd") - expected.count("\ufffd")
        observe("differing_characters", differing("".join(parts), expected))
        observe("torn_characters", abs(torn))

    with parrot() as address:
        streams()


@pytest.mark.falsifies("FALSIFY-SERVER-006")
def test_what_is_malformed_is_refused_in_openais_shape(observe, url):
    with httpx.Client(base_url=url, timeout=30, verify=False) as visitor:

        def send(path: str, data: bytes) -> httpx.Response:
            head = {"content-type": "application/json; charset=utf-8"}
            try:
                return visitor.post(path, content=data, headers=head)
            except httpx.TransportError as error:  # a server that hangs up has not refused
                return httpx.Response(599, text=str(error))

        refused = [
            is_refusal(send(path, data))
            for data in bad_requests.BODIES
            for path in (CHAT, COMPLETIONS)
        ]
        for path, field, value in bad_requests.FIELDS:
            name = bad_requests.field_of(field)
            good = {"model": NAME, **bad_requests.GOOD[path]}
            response = send(path, json.dumps(good | {name: value}).encode())
            right = is_refusal(response, 400)
            param = response.json()["error"]["param"] if right else None
            named = param == field or not field.isascii() or len(field) > 80
            refused.append(right)
            observe("unnamed_fields", int(not named))
        for method, path, headers, status in bad_requests.DOORS:
            refused.append(is_refusal(visitor.request(method, path, headers=headers), status))

        @settings(THOROUGH, max_examples=120)
        @given(bad_requests.ANY_BODIES)
        def anything(data):
            refused.append(is_refusal(send(CHAT, data)))

        anything()
        observe("not_refused_in_shape", refused.count(False))
        observe("requests", len(refused))
    observe("status_afterwards", post(url, COMPLETIONS, prompt="a", max_tokens=1).status_code)


@pytest.mark.falsifies("FALSIFY-SERVER-007")
def test_64_clients_at_once_each_get_their_own_answer(observe, url, served):
    questions = [f"Client {number}, what is {number} times {number}?" for number in range(64)]
    said = asyncio.run(all_at_once(url, questions))
    wrong = 0
    for number, (text, found) in enumerate(zip(questions, said, strict=True)):
        ids = made(served, PROMPT.format(question=text), 5, **heat_of(number))
        wrong += found != served.tokenizer.decode(ids)
    observe("wrong_answers", wrong)
    observe("answers", len(said))
    observe("distinct_answers", len(set(said)))


def heat_of(number: int) -> dict[str, float]:
    return {"temperature": 0} if number % 2 else {"temperature": 1.5, "seed": number}


async def all_at_once(url: str, questions: list[str]) -> list[str]:
    async with client(url, kind="AsyncOpenAI") as openai:

        async def ask(number: int, text: str) -> str:
            fields = {"model": NAME, "messages": question(text), "max_tokens": 5, **heat_of(number)}
            try:
                if number % 3:
                    answer = await openai.chat.completions.create(**fields)
                    return answer.choices[0].message.content
                chunks = await openai.chat.completions.create(**fields, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks])
            except Exception as error:  # told as a wrong answer, not as a broken test
                return repr(error)

        return list(await asyncio.gather(*map(ask, range(len(questions)), questions)))


CALLS = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
SHOWN = ChatTemplate(
    "{{ tools | tojson }}{% for m in messages %}|{{ m.role }}:{{ m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments | tojson }})"
    "{% endfor %}{% endfor %}"
)


@pytest.mark.falsifies("FALSIFY-SERVER-008")
def test_tools_and_their_calls_reach_the_template(observe, parrot, served):
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?"}],
        },
        {"role": "assistant", "content": None, "tool_calls": CALLS},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    ]
    said = '|user:1+1?|assistant:add({"a": 1})|tool:2'
    prompts = {
        json.dumps(TOOLS) + said: {"tools": TOOLS},
        f"null{said}": {"tools": TOOLS, "tool_choice": "none"},
    }
    with parrot(template=SHOWN) as address:
        for expected, more in prompts.items():
            count = len(served.tokenizer.encode(expected))
            answer = post(address, CHAT, messages=messages, max_tokens=count, **more)
            found = answer.json()["choices"][0]["message"]["content"] if answer.is_success else ""
            observe("differing_characters", differing(found, expected))
    with parrot() as address:
        blind = [post(address, CHAT, messages=question("a"), tools=TOOLS, max_tokens=1)]
        blind += [post(address, CHAT, messages=messages[:2], max_tokens=1)]
    observe("tools_silently_dropped", [is_refusal(each, 400) for each in blind].count(False))
