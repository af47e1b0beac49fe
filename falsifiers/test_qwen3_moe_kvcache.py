"""Tries to refute the KV cache: that it changes nothing but the time that a token takes.

The oracle is the same model's forward pass without a cache, which falsifiers of the forward pass
compare with independent implementations; for the products, the `gguf` package and float64; for the
fast route, the plain one. Where
QWEN3_MOE_SHAPE_GGUF_PATH or QWEN3_MOE_GGUF_PATH names a file, some run on it too.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor
from torch.overrides import TorchFunctionMode

import engine
from engine import kernels
from engine.kernels import TYPES as KERNEL_TYPES
from engine.model import Model
from engine.quant import TYPES, quantise
from engine.routes import choose
from engine.weights import Blocks, linear
from falsifiers.cache_models import CALM, MODELS, loader, some_ids
from falsifiers.conftest import GIVEN
from falsifiers.differences import differing, relative_error, relative_l2
from falsifiers.forward_cases import wrong_and_clear

TOKENS = 64
DENSE = ("window", "qwen2")
VARIED = ("grouped", *DENSE)  # float32-stored or nearly, so cheap
ON_A_ROUTE = (*CALM, "128 experts", "tied", *DENSE)  # top 1 turns one flip into another text


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Callable[[str], Model]:
    """A model of `MODELS` or `CALM` by name."""
    return loader(tmp_path_factory.mktemp("models"))


def in_steps(model: Model, ids: Sequence[int], sizes: Sequence[int], cache=None) -> Tensor:
    """Logits [T, V] of `ids` passed through a cache in chunks of `sizes`."""
    cache = cache or model.new_cache(len(ids))
    chunks = torch.tensor(ids).split(list(sizes))
    return torch.cat([model.forward(chunk.tolist(), cache) for chunk in chunks])


class Watched(Model):
    """The same model; keeps the last position's logits of every pass."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.config, model.weights, model.device)
        self.seen: list[Tensor] = []

    def forward(self, ids, cache=None, **options) -> Tensor:
        logits = super().forward(ids, cache, **options)
        self.seen.append(logits[-1])
        return logits


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_KVCACHE_V1_001")
def test_greedy_tokens_with_the_cache_are_those_without(observe, model):
    prompts = [some_ids(size, seed=size) for size in (1, 2, 3, 5, 8, 13, 21, 34)]
    observe("prompts", len(prompts))
    for name in MODELS:
        watched = Watched(model(name).to_float())
        chosen = prompts if name == "grouped" else prompts[6:7]
        made = [compare_greedy(observe, watched, prompt) for prompt in chosen]
        observe("distinct_tokens", len(set().union(*made)))
    prompt = prompts[3]
    made = list(engine.generate(model("grouped"), prompt, max_tokens=TOKENS))
    observe("differing_tokens", differing(made, greedy_without_cache(model("grouped"), prompt)))


def compare_greedy(observe, model: Watched, prompt: list[int]) -> list[int]:
    """Generate with the cache and compare with one pass over prompt and answer.

    If each token is the best after those before it, by logits that no later token enters, then
    greedy generation without a cache makes the same tokens, by induction.
    """
    model.seen.clear()
    made = list(engine.generate(model, prompt, max_tokens=TOKENS))
    expected = model.logits(prompt + made[:-1])[len(prompt) - 1 :]
    observe("tokens_per_prompt", len(made))
    observe("differing_tokens", differing(made, expected.argmax(dim=-1).tolist()))
    found = torch.stack(model.seen)
    same_shape = found.shape == expected.shape
    observe("max_abs_error", (found - expected).abs().max() if same_shape else math.inf)
    return made


def greedy_without_cache(model: Model, prompt: list[int]) -> list[int]:
    """Step by step, the whole text again for every token."""
    ids = list(prompt)
    for _ in range(TOKENS):
        ids.append(int(model.logits(ids)[-1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_KVCACHE_V1_002")
def test_decoding_is_quick_on_the_true_shapes(observe, shape_gguf):
    if shape_gguf is None:
        pytest.skip("needs QWEN3_MOE_SHAPE_GGUF_PATH or QWEN3_MOE_GGUF_PATH")
    model = engine.load(shape_gguf, route=choose().route)
    made = engine.generate(model, some_ids(16), max_tokens=33)
    next(made)  # the prompt's pass
    started = time.perf_counter()
    tokens = sum(1 for _ in made)
    observe("tokens", tokens)
    observe("tokens_per_second", tokens / (time.perf_counter() - started))


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_KVCACHE_V1_003")
def test_a_token_costs_the_same_late_as_early(observe, shape_gguf, tiny):
    model = engine.load(shape_gguf) if shape_gguf else engine.load(tiny).to_float()
    early, late = model.new_cache(64), model.new_cache(256)
    model.forward(some_ids(31), early, last_only=True)
    model.forward(some_ids(223), late, last_only=True)
    products = [
        products_of(lambda cache=cache: model.forward([7], cache)) for cache in (early, late)
    ]
    # Taken in turns, so that what else the machine does falls on both.
    taken = [[seconds_of(model, cache) for cache in (early, late)] for _ in range(32)]
    observe("time_ratio", median(b for _, b in taken) / median(a for a, _ in taken))
    observe("products_ratio", products[1] / products[0])
    observe("reallocations", reallocations(model))


class Products(TorchFunctionMode):
    """Counts the multiplications of matrix products; torch's own counter loads its compiler."""

    count = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if function.__name__ in ("linear", "matmul"):
            self.count += made.numel() * args[0].shape[-1]
        return made


def products_of(run: Callable[[], Tensor]) -> int:
    with Products() as products:
        run()
    return products.count


def seconds_of(model: Model, cache: engine.KVCache) -> float:
    """Of the processor's time, which other processes do not take."""
    started = time.process_time()
    model.forward([7], cache, last_only=True)
    return time.process_time() - started


def reallocations(model: Model) -> int:
    """How often the keys of 256 tokens, one at a time and of no model's making, are moved."""
    c, cache = model.config, model.new_cache(256)
    places = set()
    for _ in range(256):
        entry = torch.ones(c.head_count_kv, 1, c.key_length)
        cache.append(0, entry, entry)
        cache.advance(1)
        places.add((cache.keys.data_ptr(), cache.keys.shape))
    return len(places)


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_KVCACHE_V1_004")
@pytest.mark.parametrize("name", DENSE)
def test_dense_logits_are_the_same_before_and_after_cached_passes(observe, model, name):
    dense, ids = model(name).to_float(), some_ids(24)
    before = dense.logits(ids)
    for each in (dense, model("grouped")):
        list(engine.generate(each, ids, max_tokens=8))
    cached = in_steps(dense, ids, [16, 1, 7])
    after = made_by(lambda: dense.logits(ids))
    same_shape = after.shape == before.shape
    observe("changed_logits", int((after != before).sum()) if same_shape else before.numel())
    observe("max_relative_error", relative_error(cached, before))


@pytest.mark.falsifies("FALSIFY-QWEN3_MOE_KVCACHE_V1_005")
def test_what_does_not_fit_is_refused_and_a_cache_may_be_reused(observe, model):
    model, other = short(model("grouped").to_float(), 24), model("window")
    full, partly, small = (model.new_cache(size) for size in (24, 24, 16))
    ids = some_ids(25)
    filled = [model.forward(ids[:24], full), model.forward(ids[:20], partly)]
    refusals = [
        lambda: model.forward(ids),
        lambda: model.forward(ids, model.new_cache()),
        lambda: model.forward(ids[:17], small),
        lambda: model.forward(ids[:1], full),
        lambda: model.forward(ids[:5], partly),
        lambda: engine.generate(model, ids, max_tokens=1),
        lambda: engine.generate(model, ids[:17], max_tokens=1, cache=small),
        lambda: model.forward(ids[:2], other.new_cache(24)),
        lambda: model.forward(ids[:2], with_layers(model, 1).new_cache(24)),
        lambda: full.truncate(25),
        lambda: full.truncate(-1),
    ]
    outcomes = [outcome_of(refusal) for refusal in refusals]
    observe("accepted", outcomes.count("accepted"))
    observe("untyped_errors", sum(each not in ("accepted", "refused") for each in outcomes))
    # A refused pass left its cache as it was; what follows is right, to the last position.
    found = [*filled, made_by(lambda: model.forward(ids[20:24], partly))]
    found += [made_by(lambda: model.forward(ids[:16], small))]
    whole = model.logits(ids[:24])
    expected = [whole, whole[:20], whole[20:], whole[:16]]
    for prompt in (ids[9:21], ids[3:19]):
        found.append(made_by(lambda prompt=prompt: reused(model, small, prompt)))
        expected.append(model.logits(prompt))
    observe("max_relative_error", max(map(relative_error, found, expected)))
    made = list(engine.generate(model, ids[:10], max_tokens=100))
    best = model.logits([*ids[:10], *made][:24])[9:].argmax(dim=-1).tolist()
    observe("tokens_until_full", len(made))
    observe("differing_tokens", differing(made, best))


def short(model: Model, context: int) -> Model:
    return Model(replace(model.config, context_length=context), model.weights)


def with_layers(model: Model, count: int) -> Model:
    return Model(replace(model.config, block_count=count), model.weights)


def reused(model: Model, cache: engine.KVCache, prompt: list[int]) -> Tensor:
    cache.truncate()
    return model.forward(prompt, cache)


def made_by(run: Callable[[], Tensor]) -> Tensor:
    """What it makes; nothing, which equals nothing, where it is refused."""
    try:
        return run()
    except (engine.EngineError, RuntimeError):
        return torch.zeros(0)


def outcome_of(run: Callable[[], object]) -> str:
    try:
        run()
    except engine.EngineError as error:
        return "refused" if "found" in str(error) else "a message that does not say what"
    except Exception as error:
        return type(error).__name__
    return "accepted"


@pytest.mark.falsifies("FALSIFY-KCE-001")
@pytest.mark.parametrize("name", [*MODELS, *GIVEN])
def test_one_token_at_a_time_gives_the_logits_of_one_pass(request, observe, model, name):
    here = name in MODELS
    judged = model(name) if here else engine.load(request.getfixturevalue("shape_gguf"))
    ids = some_ids(24)
    observe(
        "max_relative_error", relative_error(in_steps(judged, ids, [1] * 24), judged.logits(ids))
    )
    observe("positions", len(ids))


@pytest.mark.falsifies("FALSIFY-KCE-002")
@pytest.mark.parametrize("name", VARIED)
def test_prefill_in_one_pass_is_prefill_token_by_token(observe, model, name):
    judged, ids = model(name).to_float(), some_ids(24)
    batched, serial = judged.new_cache(24), judged.new_cache(24)
    in_steps(judged, ids, [24], batched)
    in_steps(judged, ids, [1] * 24, serial)
    pairs = [(batched.keys, serial.keys), (batched.values, serial.values)]
    errors = [relative_error(b[..., :24, :], s[..., :24, :]) for b, s in pairs]
    observe("max_entry_error", max(errors))
    after = [judged.forward([7], each) for each in (extended(batched), extended(serial))]
    observe(
        "max_relative_error", max(relative_error(a, judged.logits([*ids, 7])[-1:]) for a in after)
    )


def extended(cache: engine.KVCache) -> engine.KVCache:
    """The same cache with room for one position more."""
    cache.capacity += 1
    return cache


@pytest.mark.falsifies("FALSIFY-KCE-003")
@pytest.mark.parametrize("name", VARIED)
def test_prefill_in_chunks_of_any_sizes_is_prefill_in_one_pass(observe, model, name):
    judged, ids = model(name).to_float(), some_ids(40)
    random = np.random.default_rng(0)
    cuts = [sorted({0, 40, *random.integers(1, 40, count)}) for count in (1, 2, 3, 5, 8, 13)]
    splits = [[1, 39], [39, 1], *(np.diff(each).tolist() for each in cuts)]
    expected = judged.logits(ids)
    errors = [relative_error(in_steps(judged, ids, sizes), expected) for sizes in splits]
    observe("max_relative_error", max(errors))
    observe("splits", len(splits))


@pytest.mark.falsifies("FALSIFY-KCE-004")
@pytest.mark.parametrize("name", VARIED)
def test_a_common_prefix_is_continued_more_than_once(observe, model, name):
    judged, prefix = model(name).to_float(), some_ids(12)
    cache = judged.new_cache(64)
    judged.forward(prefix, cache)
    before = torch.stack([cache.keys[..., :12, :], cache.values[..., :12, :]]).clone()
    endings = [some_ids(count, seed=count) for count in (9, 14, 2)]
    errors = []
    for ending in (*endings, endings[0]):
        cache.truncate(12)
        found = made_by(lambda ending=ending: in_steps(judged, ending, [len(ending) - 1, 1], cache))
        errors.append(relative_error(found, judged.logits(prefix + ending)[12:]))
    after = torch.stack([cache.keys[..., :12, :], cache.values[..., :12, :]])
    observe("max_relative_error", max(errors))
    observe("changed_entries", int((after != before).sum()))


@pytest.mark.falsifies("FALSIFY-KCE-005")
@pytest.mark.parametrize("kind", TYPES)
def test_quantised_products_are_those_of_the_decoded_weights(observe, monkeypatch, kind):
    monkeypatch.setattr("engine.weights.PIECE", 7 * 512)  # numbers: the last piece is a short one
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(3, 60, 512, generator=generator) / math.sqrt(512)
    blocks = quantise(numbers, kind).reshape(3, 60, -1).numpy()
    decoded = torch.from_numpy(dequantize(blocks, GGMLQuantizationType[kind])).double()
    stack = Blocks("stack", (blocks.reshape(-1),), kind, (3, 60, 512))
    bias = torch.randn(60, generator=generator)
    added = Blocks("bias", (bias.numpy().view(np.uint8),), "F32", (60,))
    for x in (torch.randn(tokens, 512, generator=generator) for tokens in (1, 5)):
        products = [linear(x, stack[expert], added) for expert in range(3)]
        expected = x.double() @ decoded.transpose(1, 2) + bias.double()
        observe("max_relative_error", relative_error(torch.stack(products), expected))
    observe("weights", decoded.numel())


@pytest.mark.falsifies("FALSIFY-KCE-007")
@pytest.mark.parametrize("kind", KERNEL_TYPES)
def test_products_by_blocks_are_near_those_of_the_decoded_weights(observe, kind):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(3, 60, 512, generator=generator) / math.sqrt(512)
    blocks = quantise(numbers, kind).reshape(3, 60, -1).numpy()
    decoded = torch.from_numpy(dequantize(blocks, GGMLQuantizationType[kind])).double()
    stack = Blocks("stack", (blocks.reshape(-1),), kind, (3, 60, 512))
    for x in (torch.randn(tokens, 512, generator=generator) for tokens in (1, 5)):
        products = choose().route.linear(x, [stack[expert] for expert in range(3)])
        expected = x.double() @ decoded.transpose(1, 2)
        observe("relative_error", relative_l2(torch.stack(products), expected))
    observe("weights", decoded.numel())


@pytest.mark.falsifies("FALSIFY-KCE-008")
@pytest.mark.parametrize("name", ON_A_ROUTE)
def test_on_the_fast_route_one_token_at_a_time_gives_the_logits_of_one_pass(observe, model, name):
    judged, ids = on_a_route(model(name)), some_ids(24)
    found, expected = in_steps(judged, ids, [1] * 24), judged.forward(ids)
    cosine = torch.cosine_similarity(found, expected, dim=-1)
    observe("lowest_cosine", cosine.min())
    observe("median_cosine", cosine.median())
    observe("positions", len(ids))


def on_a_route(model: Model, name: str = "auto") -> Model:
    return Model(model.config, model.weights, route=choose(name).route)


@pytest.mark.falsifies("FALSIFY-KCE-009")
@pytest.mark.parametrize("name", ON_A_ROUTE)
def test_greedy_tokens_on_the_fast_route_are_the_plain_routes(observe, model, name):
    judged, prompt = model(name), some_ids(16)
    plain = judged.to_float()
    text = [*prompt, *engine.generate(plain, prompt, max_tokens=32)][:-1]
    found = in_steps(on_a_route(judged), text, [16, *[1] * 31])
    wrong, clear = wrong_and_clear(found, plain.logits(text))
    observe("wrong_tokens", wrong)
    observe("clear_positions", clear)
    settings = [(path, threads) for path in kernels.paths() for threads in (1, 2)]
    made = [greedy_on(judged, *each, prompt) for each in settings]
    observe("differing_tokens", sum(differing(made[0], each) for each in made[1:]))
    observe("tokens", sum(map(len, made)))


def greedy_on(model: Model, path: str, threads: int, prompt: list[int]) -> list[int]:
    """Twenty tokens by the kernels of an instruction path, with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return list(engine.generate(on_a_route(model, path), prompt, max_tokens=20))
    finally:
        torch.set_num_threads(before)


@pytest.mark.falsifies("FALSIFY-KCE-010")
@pytest.mark.parametrize("name", ON_A_ROUTE)
def test_a_long_prompt_goes_through_a_route_in_passes(observe, monkeypatch, model, name):
    judged, ids = on_a_route(model(name)), some_ids(45)
    expected = judged.forward(ids)[5:]  # in one pass
    monkeypatch.setattr("engine.model.PASS", 12)
    passes = Passes(monkeypatch)
    caches = [judged.new_cache(48) for _ in range(3)]
    for cache in caches:
        judged.forward(ids[:5], cache)
    found = judged.forward(ids[5:], caches[0])
    passes.sizes.clear()
    last = judged.forward(ids[5:], caches[1], last_only=True)
    observe("passes", len(passes.sizes))
    cosine = torch.cosine_similarity(found, expected, dim=-1)
    observe("lowest_cosine", cosine.min())
    observe("median_cosine", cosine.median())
    observe("last_error", relative_l2(last, found[-1:]))
    passes.sizes.clear()
    refused = outcome_of(lambda: judged.forward(ids, caches[0])) == "refused"
    observe("passes_of_a_refused_prompt", len(passes.sizes) if refused else math.inf)
    passes.fail_at = 3
    outcome_of(lambda: judged.forward(ids[5:], caches[2]))
    lengths = [cache.length for cache in caches]
    observe("miscounted_positions", differing(lengths, [45, 45, 5]))


class Passes:
    """Notes how many tokens each pass of a model takes; the one numbered `fail_at` fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self.fail_at = 0
        run = Model._run

        def noted(model: Model, ids: Sequence[int], *arguments, **options) -> Tensor:
            self.sizes.append(len(ids))
            if len(self.sizes) == self.fail_at:
                raise engine.EngineError("found a pass that fails")
            return run(model, ids, *arguments, **options)

        monkeypatch.setattr(Model, "_run", noted)


@pytest.mark.falsifies("FALSIFY-KCE-006")
@pytest.mark.parametrize("name", ["grouped", "window"])
def test_a_corrupted_entry_is_noticed_and_unfilled_places_are_not_read(observe, model, name):
    judged = model(name).to_float()
    cache = drawn_cache(judged, filled=12, size=16)
    expected = next_logits(judged, cache)
    effects: dict[bool, list[float]] = {True: [], False: []}  # by whether the entry is in sight
    for entries, layer, head, place in np.ndindex(2, *cache.keys.shape[:2], 12):
        window = judged.config.window(layer)
        entry = (cache.keys, cache.values)[entries][layer, head, place]
        kept = entry.clone()
        entry.copy_(torch.randn(len(entry), generator=torch.Generator().manual_seed(place)) * 5)
        effect = relative_error(next_logits(judged, cache), expected)
        effects[not window or place > 12 - window].append(effect)
        entry.copy_(kept)
    observe("smallest_effect", min(effects[True]))
    observe("largest_effect_out_of_sight", max(effects[False], default=0.0))
    observe("entries", sum(map(len, effects.values())))
    cache.keys[:, :, 12:], cache.values[:, :, 12:] = 1e3, 1e3
    observe("effect_of_unfilled_places", relative_error(next_logits(judged, cache), expected))


def drawn_cache(model: Model, filled: int, size: int) -> engine.KVCache:
    """A cache of random entries whose keys are short, so that attention is nearly uniform.

    With a text's own entries attention may pass one over, and then nothing is there to notice.
    """
    cache, generator = model.new_cache(size), torch.Generator().manual_seed(0)
    c = model.config
    for layer in range(c.block_count):
        entries = torch.randn(2, c.head_count_kv, size, c.key_length, generator=generator)
        cache.append(layer, entries[0] * 0.01, entries[1])
    cache.advance(filled)
    return cache


def next_logits(model: Model, cache: engine.KVCache) -> Tensor:
    """Logits of one more token, which is then forgotten."""
    length = cache.length
    logits = model.forward([7], cache)
    cache.truncate(length)
    return logits
