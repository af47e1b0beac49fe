"""The torch route, and how a route is chosen and said.

Oracles: float64 products of weights that the `gguf` package decodes, HF transformers in float32,
and the plain route.
"""

import gc
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

import engine
from engine import bench, int4, routes, traffic
from engine.fixture import FixtureShape
from engine.int4 import Int4
from engine.quant import TYPES, quantise
from engine.weights import Blocks
from falsifiers.differences import differing
from falsifiers.forward_cases import prompts
from falsifiers.in_process import Command
from falsifiers.sample_models import write_model
from falsifiers.threads import one_thread  # noqa: F401 (a fixture)

# A calm mixture, as one expert that flips moves a small model far; every size is small.
LITTLE = FixtureShape(
    hidden=256, layers=2, heads=4, kv_heads=2, head_dim=64, dense_width=256, vocabulary=300
)
MODELS = {
    "qwen3moe, Q4_K_M": ("qwen3moe", replace(LITTLE, experts=6, experts_used=3, gain=0.7)),
    "qwen3, Q5_K_M, a window": ("qwen3", replace(LITTLE, window=12, window_from=1, mix="Q5_K_M")),
    "qwen2, Q8_0, tied": ("qwen2", replace(LITTLE, head_dim=64, tied=True, mix="Q8_0")),
}
NOISE = 0.25  # where the plain route's best two logits are nearer, bfloat16 may decide otherwise
POSITIONS = 40
TEXT = "What is the capital of France?"


@pytest.fixture(scope="module", params=MODELS)
def path(request, tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("routes"), *MODELS[request.param])


@pytest.fixture(params=[None, False], ids=["the fastest", "bfloat16"])
def fast(request, path) -> engine.Model:
    return engine.load(path, route=Int4(request.param))


def some_prompt(model: engine.Model) -> list[int]:
    return prompts(model.config.vocabulary_size)[-1][:POSITIONS]


def one_by_one(model: engine.Model, ids: list[int]) -> Tensor:
    """Logits [T, V] of `ids`, each alone through a cache."""
    cache = model.new_cache()
    return torch.cat([model.forward([each], cache) for each in ids])


@pytest.mark.falsifies("FALSIFY-ROUTES-001")
@pytest.mark.parametrize("half", [False, True], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("kind", TYPES)
def test_products_are_those_of_the_decoded_weights(observe, monkeypatch, kind, half):
    for place in ("engine.int4.PIECE", "engine.weights.PIECE"):
        monkeypatch.setattr(place, 64 * 512)  # numbers: 200 rows are four pieces
    random, errors = np.random.default_rng(0), []
    for rows in (1, 37, 200):
        raw = quantise(torch.from_numpy(random.standard_normal((rows, 512))), kind).numpy()
        exact = dequantize(raw, GGMLQuantizationType[kind]).astype(np.float64).reshape(rows, 512)
        multiply = int4.product(Blocks("w", (raw.reshape(-1),), kind, exact.shape), half)
        for tokens in (1, 3, 9):
            x = random.standard_normal((tokens, 512)).astype(np.float32)
            off = multiply(torch.from_numpy(x)).double().numpy() - x @ exact.T
            errors.append(np.abs(off) / (np.linalg.norm(x, axis=1)[:, None] @ norms(exact)))
    observe("error", max(each.max() for each in errors))
    observe("products", sum(each.size for each in errors))


def norms(matrix: np.ndarray) -> np.ndarray:
    """Of each row, [1, out]."""
    return np.linalg.norm(matrix, axis=1)[None]


@pytest.mark.falsifies("FALSIFY-ROUTES-002")
def test_every_positions_logits_are_near_those_of_hf(observe, path, fast):
    from falsifiers.hf_oracle import hf_logits, hf_model

    ids = some_prompt(fast)
    cosine = torch.cosine_similarity(fast.forward(ids), hf_logits(hf_model(path), ids), dim=-1)
    observe("lowest_cosine", cosine.min())
    observe("median_cosine", cosine.median())
    observe("positions", len(cosine))


@pytest.mark.falsifies("FALSIFY-ROUTES-003")
def test_greedy_tokens_are_the_plain_routes(observe, path, fast):
    plain = engine.load(path)
    ids = [1, 2, 3, *engine.generate(plain, [1, 2, 3], max_tokens=21)]
    best = plain.logits(ids).topk(2, dim=-1)
    clear = best.values[:, 0] - best.values[:, 1] > NOISE
    wrong = one_by_one(fast, ids).argmax(dim=-1) != best.indices[:, 0]
    observe("differing_tokens", int((wrong & clear).sum()))
    observe("tokens_compared", int(clear.sum()))


@pytest.mark.falsifies("FALSIFY-ROUTES-004")
def test_one_thread_and_two_give_the_same_tokens(observe, fast):
    made = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        made.append(list(engine.generate(fast, some_prompt(fast), max_tokens=16)))
    observe("differing_tokens", differing(*made))
    observe("tokens", len(made[0]))


@pytest.mark.falsifies("FALSIFY-ROUTES-005")
def test_tokens_one_by_one_are_those_of_one_pass(observe, fast):
    ids = some_prompt(fast)
    cosine = torch.cosine_similarity(one_by_one(fast, ids), fast.forward(ids), dim=-1)
    observe("lowest_cosine", cosine.min())
    observe("median_cosine", cosine.median())


@pytest.fixture
def laid_out(monkeypatch) -> list[str]:
    """The names of the matrices that are laid out from now on."""
    seen, make = [], int4.product

    def watched(weight, half):
        seen.append(weight.name)
        return make(weight, half)

    monkeypatch.setattr(int4, "product", watched)
    return seen


@pytest.mark.falsifies("FALSIFY-ROUTES-006")
def test_only_what_is_used_is_laid_out_and_it_is_kept(observe, tiny, laid_out):
    model = engine.load(tiny, route="torch")
    model.forward([5])
    experts = [name for name in laid_out if "_exps" in name]
    observe("experts_laid_out", len(experts) / (3 * model.config.block_count))
    before = len(laid_out)
    model.forward([5])
    observe("laid_out_again", len(laid_out) - before)
    route, weight = model.route, weakref.ref(model.weights["blk.0.ffn_up_exps.weight"])
    del model
    gc.collect()
    observe("weights_that_outlive_the_model", int(weight() is not None))
    observe("routes", int(route is not None))


@pytest.mark.falsifies("FALSIFY-ROUTES-007")
@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K", "F32"])
def test_a_weight_without_data_or_with_a_nan_is_refused(observe, kind):
    good = quantise(torch.ones(16, 256), kind).numpy().reshape(-1)
    poisoned = good.copy()
    place = {"Q4_K": 0, "Q6_K": 208, "F32": 2}[kind]
    poisoned[place : place + 2] = [0xFF, 0xFF]  # a NaN in a half, and in a float's upper half
    said = [
        refusal(Blocks("blk.3.ffn_up", parts, kind, (16, 256)))
        for parts in ((np.zeros(0, np.uint8),), (), (poisoned,))
    ]
    observe("accepted", said.count(""))
    observe("unnamed", sum("blk.3.ffn_up" not in each for each in said))
    observe("good_refused", int(refusal(Blocks("w", (good,), kind, (16, 256))) != ""))


def refusal(weight: Blocks) -> str:
    try:
        for half in (False, True):
            Int4(half).linear(torch.ones(1, 256), [weight])
    except engine.TensorError as error:
        return str(error)
    return ""


@pytest.fixture
def no_kernels(monkeypatch) -> str:
    """No compiled kernels here; gives why."""
    why = "kernels: found no compiler, expected cc"

    def missing(path):
        raise engine.EngineError(why)

    monkeypatch.setattr(routes, "_native", missing)
    return why


@pytest.mark.falsifies("FALSIFY-ROUTES-008")
def test_the_route_is_the_one_asked_for_or_the_fastest_that_can_run(observe, no_kernels, tiny):
    def chosen(name):
        choice = routes.choose(name)
        return type(choice.route).__name__, choice.reason

    found = {name: chosen(name) for name in ("auto", "torch", "plain")}
    expected = {"auto": "Int4", "torch": "Int4", "plain": "NoneType"}
    observe("wrong_routes", sum(found[name][0] != each for name, each in expected.items()))
    asked = [found[name][1] for name in ("torch", "plain")]
    reasons = [f": because {no_kernels}" in found["auto"][1], *("asked for" in e for e in asked)]
    observe("wrong_reasons", reasons.count(False))
    loaded = [engine.load(tiny).route, engine.load(tiny, route="auto").route]
    observe("wrong_routes_loaded", int([type(e) for e in loaded] != [type(None), Int4]))
    refused = {name: refused_route(name) for name in ("avx2", "portable", "fast", "")}
    observe("accepted", sum(not said for said in refused.values()))
    unclear = [no_kernels not in refused["avx2"], "auto, plain, torch" not in refused["fast"]]
    observe("unclear_refusals", sum(unclear))


def refused_route(name: str) -> str:
    try:
        routes.choose(name)
    except engine.EngineError as error:
        return str(error)
    return ""


@pytest.mark.falsifies("FALSIFY-ROUTES-009")
def test_a_command_says_which_route_runs_and_why(
    observe, no_kernels, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("ENGINE_ROUTE", raising=False)
    monkeypatch.setattr(bench, "PAUSE", 0.0)  # what it measures is nobody's claim here
    monkeypatch.setattr(traffic, "READ", 2**20)
    shape = FixtureShape(hidden=64, heads=4, head_dim=16, dense_width=64, layers=1, mix="F32")
    path = write_model(tmp_path, "qwen3", shape)
    monkeypatch.setattr("engine.server.serve", lambda load, *_: load())
    command = Command(capsys, monkeypatch)
    ask = ["run", path, "--raw", "--prompt", TEXT, "--max-tokens", "4"]
    measure = ["bench", path, "--prompt-tokens", "4", "--tokens", "1", "--runs", "1"]
    told = {
        "run": command(*ask).err,
        "run --json": json.loads(command(*ask, "--json").out)["route"],
        "bench": command(*measure).err,
        "bench --json": json.loads(command(*measure, "--json", "-").out)["route"],
        "bench, table": command(*measure).out,
        "serve": command("serve", path).err,
    }
    print(told)
    silent = [name for name, said in told.items() if f"because {no_kernels}" not in said]
    observe("commands_that_do_not_say", len(silent))
    observe("commands", len(told))
    plain = command(*ask, "--route", "plain").err
    monkeypatch.setenv("ENGINE_ROUTE", "plain")
    observe("plain_unsaid", [plain, command(*ask).err].count("") + ("route: plain" not in plain))
    wrong = [command(*ask, "--route", name) for name in ("avx2", "fast")]
    observe("wrong_exit_codes", sum(each.code != 2 for each in wrong))
    observe("lines_on_error", max(each.err.count("\n") for each in wrong))
