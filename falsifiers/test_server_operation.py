"""How the server keeps house, over a socket: who may enter, how much, how long, and how it ends.

Oracles: the requests' own limits, Prometheus's own parser, the exit codes and the signals of a
command that runs in this thread; and a model held up at a gate, which tells what was computed.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest

import httpx
import pytest

import engine
from engine.answer import Served
from falsifiers import commands, serving
from falsifiers.bad_requests import CHAT, COMPLETIONS
from falsifiers.parrot import Gate
from falsifiers.serving import (
    NAME,
    booted,
    cut,
    differing,
    events,
    get,
    heard,
    is_refusal,
    knock,
    made,
    post,
    question,
    request_bytes,
    until,
)

KEY = "sésame-ouvre-toi"
TEXT = "What is the capital of France?"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return serving.write_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def served(small) -> Served:
    return serving.opened(small)


@pytest.fixture
def parrot(served):
    return serving.parrot_of(served)


def body(**fields: object) -> bytes:
    data = json.dumps({"model": NAME, "temperature": 0, **fields}).encode()
    return request_bytes(COMPLETIONS, data)


@pytest.mark.falsifies("FALSIFY-OPERATION-001")
def test_only_the_key_opens_the_door(observe, parrot):
    wrong = [KEY[:-1], KEY + "x", KEY.upper(), "", "none", KEY[:1], "ses\u0301ame-ouvre-toi"]
    headers = [{"authorization": f"Bearer {key}".strip().encode()} for key in wrong]
    headers += [{}, {"authorization": KEY.encode()}, {"authorization": f"Basic {KEY}".encode()}]
    doors = [("GET", "/v1/models"), ("POST", CHAT), ("GET", "/metrics"), ("GET", "/nowhere")]
    with parrot(api_key=KEY) as address:
        with httpx.Client(base_url=address, verify=False) as visitor:
            refused = [
                is_refusal(visitor.request(*door, headers=each), 401)
                for door in doors
                for each in headers
            ]
            right = {"authorization": f"Bearer {KEY}".encode()}
            statuses = [visitor.get("/v1/models", headers=right).status_code]
            observe("health_status", visitor.get("/health").status_code)
            ask = {"model": NAME, "prompt": "ab", "max_tokens": 1}
            statuses.append(visitor.post(COMPLETIONS, json=ask, headers=right).status_code)
            observe("right_keys_refused", sum(status != 200 for status in statuses))
    observe("wrong_keys_let_in", refused.count(False))


@pytest.mark.falsifies("FALSIFY-OPERATION-002")
def test_limits_hold_and_say_so(observe, parrot, served):
    with parrot(max_body=500, max_prompt_tokens=20, timeout=0.7) as address:
        declared = heard(knock(address, request_bytes(COMPLETIONS, b"", length=10**12)))
        chunked = b"\r\n".join([b"1f4", b"x" * 500, b""]) * 2
        head = request_bytes(COMPLETIONS, b"", "transfer-encoding: chunked").split(
            b"\r\ncontent-length"
        )
        grown = heard(knock(address, head[0] + b"\r\n\r\n" + chunked))
        slow = heard(knock(address, request_bytes(COMPLETIONS, b"{", length=100)))
        long = post(address, COMPLETIONS, prompt=[5] * 21)
        fits = post(address, COMPLETIONS, prompt=[5] * 20, max_tokens=1)
    with parrot() as address:
        beyond = post(address, CHAT, messages=question("a " * 4000))
    found = [(declared, 413), (grown, 413), (slow, 408), (long, 400), (beyond, 400)]
    observe("wrong_refusals", [is_refusal(*each) for each in found].count(False))
    observe("status_within_limits", fits.status_code)
    observe("answers_out_of_time", out_of_time(parrot))
    refusal, answers = full_line(parrot)
    observe("queue_refused", is_refusal(refusal, 429) and "retry-after" in refusal.headers)
    observe("answers_of_those_in_line", answers)


def out_of_time(parrot) -> int:
    """How many of two answers that never end are ended by the time limit, and say so."""
    gate = Gate(passes=1, patience=2.0)
    with parrot(gate, timeout=0.7) as address:
        streamed = post(address, COMPLETIONS, prompt="abc", max_tokens=9, stream=True)
        gate.opened.set()
    gate = Gate(passes=0, patience=2.0)
    with parrot(gate, timeout=0.7) as address:
        whole = post(address, COMPLETIONS, prompt="abc", max_tokens=9)
        gate.opened.set()
    last = list(events(streamed))[-1:]
    told = (
        is_refusal(httpx.Response(504, json=last[0] if last else None), 504)
        and "[DONE]" not in streamed.text
    )
    return told + is_refusal(whole, 504)


def full_line(parrot) -> tuple[httpx.Response, int]:
    """What the third gets when one generates and the one place to wait is taken."""
    gate = Gate(passes=0)
    with parrot(gate, max_waiting=1) as address, ThreadPoolExecutor(2) as pool:
        ask = {"prompt": [65, 66], "max_tokens": 2}
        first = pool.submit(post, address, COMPLETIONS, **ask)
        gate.is_reached()
        second = pool.submit(post, address, COMPLETIONS, **ask)
        until(lambda: serving.sample(address, "engine_requests_waiting") == 1)
        third = heard(knock(address, body(**ask)))
        gate.opened.set()
        return third, [each.result().status_code for each in (first, second)].count(200)


@pytest.mark.falsifies("FALSIFY-OPERATION-003")
@pytest.mark.parametrize("stream", [True, False])
def test_when_the_client_goes_away_its_answer_stops(observe, parrot, stream):
    gate, prompts = Gate(passes=2), ([70] * 3, [71] * 3, [72] * 3)
    asks = [body(prompt=prompt, max_tokens=400, stream=stream) for prompt in prompts]
    with parrot(gate, max_waiting=1) as address:
        left = [knock(address, asks[0])]
        gate.is_reached()
        left.append(knock(address, asks[1]))
        until(lambda: serving.sample(address, "engine_requests_waiting") == 1)
        for connection in reversed(left):
            connection.close()
        gone = until(lambda: serving.sample(address, "engine_requests_abandoned_total") == 2)
        gate.opened.set()
        said = post(address, COMPLETIONS, prompt=prompts[2], max_tokens=3).json()
    observe("noticed", gone)
    observe("tokens_after_leaving", gate.steps[tuple(prompts[0])] - 3)
    observe("tokens_for_who_left_the_line", gate.steps[tuple(prompts[1])])
    observe("tokens_for_the_next", said.get("usage", {}).get("completion_tokens", 0))


@pytest.mark.falsifies("FALSIFY-OPERATION-004")
def test_the_metrics_count_what_was_done(observe, parrot):
    gate = Gate(passes=7)
    with (
        parrot(gate, api_key=KEY) as address,
        httpx.Client(base_url=address, verify=False) as visitor,
    ):
        visitor.headers = {"authorization": f"Bearer {KEY}".encode()}
        ask = {"model": NAME, "prompt": [65] * 4, "max_tokens": 3, "temperature": 0}
        visitor.post(COMPLETIONS, json=ask)
        list(events(visitor.post(COMPLETIONS, json=ask | {"stream": True})))
        visitor.post(COMPLETIONS, json=ask | {"top_p": 7})
        for path in ("/a", "/b", "/v1/models/none", "/health"):
            visitor.get(path)
        observe("status_without_key", get(f"{address}/metrics").status_code)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(visitor.post, COMPLETIONS, json=ask)
            gate.is_reached()
            alone = waiting(visitor)
            second = pool.submit(visitor.post, COMPLETIONS, json=ask)
            until(lambda: waiting(visitor) == 1)
            gate.opened.set()
            observe("answers", [first.result().status_code, second.result().status_code].count(200))
        found = serving.parsed(visitor.get("/metrics").text)
    expected = {
        ("engine_requests_total", (COMPLETIONS, "200")): 4,
        ("engine_requests_total", (COMPLETIONS, "400")): 1,
        ("engine_requests_total", ("other", "404")): 2,
        ("engine_requests_total", ("other", "401")): 1,
        ("engine_requests_total", ("/v1/models/{name:path}", "404")): 1,
        ("engine_requests_total", ("/health", "200")): 1,
        ("engine_request_seconds_count", (COMPLETIONS,)): 5,
        ("engine_first_token_seconds_count", ()): 4,
        ("engine_prompt_tokens_total", ()): 16,
        ("engine_completion_tokens_total", ()): 12,
        ("engine_requests_abandoned_total", ()): 0,
        ("engine_requests_waiting", ()): 0,
    }
    routes = {labels for name, labels in found if name == "engine_requests_total"}
    known = {labels for name, labels in expected if name == "engine_requests_total"}
    observe("wrong_samples", sum(found.get(key) != value for key, value in expected.items()))
    observe("unexpected_labels", len(routes - known - {("/metrics", "200")}))
    observe("waiting_while_one_runs", int(alone))


def waiting(visitor: httpx.Client) -> float:
    return serving.parsed(visitor.get("/metrics").text)["engine_requests_waiting", ()]


@pytest.mark.falsifies("FALSIFY-OPERATION-005")
def test_a_signal_lets_running_answers_end(observe, small, monkeypatch):
    forward, gate = engine.Model.forward, Gate(passes=2)
    monkeypatch.setattr(engine.Model, "forward", commands.gated(forward, gate))
    run = commands.served_until_told(monkeypatch, small, gate, drain=20)
    observe("exit_code", run.code)
    observe("answer_ended_by_done", run.seen.ended)
    observe("new_connections_refused", run.seen.refused)
    observe("signals_let_through", len(run.signals))
    observe("status_without_the_key_of_the_environment", run.seen.keyless_status)
    gate = Gate(passes=2, patience=3)
    monkeypatch.setattr(engine.Model, "forward", commands.gated(forward, gate))
    hasty = commands.served_until_told(monkeypatch, small, gate, drain=0)
    observe("hasty_exit_code", hasty.code)
    observe("ended_though_the_answer_had_not", hasty.seen.told)
    observe("exit_code_of_a_process", commands.exit_code_of_a_process(small))


@pytest.mark.falsifies("FALSIFY-OPERATION-006")
def test_the_server_listens_while_it_loads(observe, small, served, tmp_path, monkeypatch, capsys):
    loading: Future[Served] = Future()
    with booted(loading) as address:
        early = get(f"{address}/health")
        refused = [
            is_refusal(get(f"{address}/v1/models"), 503),
            is_refusal(get(f"{address}/v1/models/{NAME}"), 503),
            is_refusal(post(address, CHAT, messages=question("a")), 503),
            is_refusal(post(address, COMPLETIONS, prompt="a"), 503),
        ]
        loading.set_result(served)
        late = get(f"{address}/health")
        answer = post(address, COMPLETIONS, prompt="a", max_tokens=1)
    observe("health", f"{early.status_code} {early.text} {late.status_code} {late.text}")
    observe("answered_early", refused.count(False))
    observe("status_when_ready", answer.status_code)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(small.read_bytes()[:1000])
    ended = commands.run(monkeypatch, "serve", str(broken), "--port", "0")
    observe("exit_code_of_a_broken_file", ended.code)
    observe("ended_by_itself", not ended.told)
    said = capsys.readouterr().err
    observe("error_lines", len([line for line in said.splitlines() if line.startswith("error: ")]))
    observe("lines", len(said.splitlines()))


@pytest.mark.falsifies("FALSIFY-OPERATION-007")
def test_run_prints_what_is_generated_and_ends_well(observe, small, served, monkeypatch):
    ids = made(served, TEXT, 16)
    text = served.tokenizer.decode(ids)
    stop = text[5:8]
    ask = ["run", str(small), "--raw", "--prompt", TEXT, "--max-tokens", "16", "--route", "plain"]
    expected = {(): text, ("--stop", stop): cut(text, [stop])}
    for options, should in expected.items():
        plain = commands.run(monkeypatch, *ask, *options)
        told = json.loads(commands.run(monkeypatch, *ask, *options, "--json").out)
        observe("differing_characters", differing(plain.out, f"{should}\n"))
        observe("differing_characters", differing(told["text"], should))
        observe("exit_code", plain.code)
    forward = engine.Model.forward
    before = small.read_bytes()
    monkeypatch.setattr(engine.Model, "forward", commands.interrupted(forward, after=6))
    stopped = commands.run(monkeypatch, *ask)
    kept = served.tokenizer.decode(ids[:6]).rstrip("\ufffd")
    observe("interrupted_exit_code", stopped.code)
    observe("lost_characters", differing(stopped.out.rstrip("\n"), kept))
    observe("changed_bytes", sum(a != b for a, b in zip_longest(small.read_bytes(), before)))
