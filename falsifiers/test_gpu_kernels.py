"""The route of a GPU: each kernel against float64, whole models against the plain route.

On a machine without a GPU the kernels run in Triton's interpreter, and a token's pass runs without
being captured: from its static buffers, by the same code.
"""

import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import engine
from engine.errors import EngineError
from engine.fixture import FixtureShape
from engine.quant import TYPES
from falsifiers import triton_cases as cases
from falsifiers.kept_models import write_fixture

CUDA = torch.device("cuda")
GB = 10**9


@pytest.fixture(autouse=True)
def interpreting():
    with cases.interpreting():
        yield


@pytest.fixture
def gpu(interpreting):
    """The module, which needs triton: without it every claim here is BLOCKED."""
    return importlib.import_module("engine.gpu")


@pytest.fixture
def launch(gpu):
    return gpu.launch


@pytest.fixture
def tiles(launch):
    """Small ones, so that a small matrix has several."""
    return launch.Tiles(
        rows=16, words=32, tokens=16, grouped=16, columns=32, queries=16, keys=16, splits=4
    )


@pytest.fixture
def packed(gpu):
    return lambda weight: gpu.Packed.of(weight, cases.DEVICE)


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-PACK-001")
@pytest.mark.parametrize("kind", TYPES)
def test_a_packed_weight_holds_the_files_numbers_in_its_bytes(observe, packed, kind):
    weight = cases.blocks("w", kind, 3, 7, 768)
    found = packed(weight)
    held = {part.data_ptr(): part.numel() * part.element_size() for part in found.pointers}
    observe("bytes_beside_the_files", abs(sum(held.values()) - weight.parts[0].size))
    expected = cases.decoded(weight)
    observe("differing", int((cases.exact(found.dequantise()) != expected).sum()))
    observe("differing", int((cases.exact(found[2].rows([6, 0])) != expected[2][[6, 0]]).sum()))


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-MATVEC-001")
@pytest.mark.parametrize("kinds", [("Q4_K", "Q6_K", "F32"), ("Q5_K", "Q8_0", "Q4_0")])
def test_one_token_times_three_matrices(observe, gpu, launch, packed, tiles, kinds):
    x = cases.numbers(1, 768)
    weights = [cases.blocks(kind, kind, n, 768) for kind, n in zip(kinds, (17, 5, 1), strict=True)]
    matrices = [gpu._matrix(packed(weight)) for weight in weights]
    for found, weight in zip(launch.matvec(x, matrices, tiles=tiles), weights, strict=True):
        expected = cases.exact(x) @ cases.decoded(weight).T
        observe("error", cases.relative_error(found, expected))
        observe("rows", found.shape[1])


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-MATMUL-001")
@pytest.mark.parametrize("kind, scale", [("Q4_K", 3e4), ("Q6_K", 1e-3)])
def test_many_tokens_times_a_matrix(observe, gpu, launch, packed, tiles, kind, scale):
    x, weight = cases.numbers(19, 512), cases.blocks("w", kind, 33, 512, scale=scale)
    x *= torch.logspace(-6, 6, 19, device=x.device)[:, None]
    x[7] = 0.0
    found = launch.matmul(x, gpu._matrix(packed(weight)), tiles=tiles)
    expected = cases.exact(x) @ cases.decoded(weight).T
    for token in range(19):
        if token != 7:
            observe("error", cases.relative_error(found[token], expected[token]))
    observe("from_nothing", float(found[7].abs().max()))
    observe("products", found.numel())


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-ROUTER-001")
def test_the_routers_choice_and_shares(observe, launch):
    logits = cases.numbers(6, 12)
    logits[0] = 0.0  # all equal
    logits[1, [7, 3]] = logits[1].max() + 1  # two that are equal
    logits[2] *= 200  # all but one vanish
    logits[3] = torch.arange(12) - 6.0  # the last is first
    shares, experts = launch.top_experts(logits, 3)
    expected, order = cases.chosen(cases.exact(logits), 3)
    observe("differing_experts", int((experts.cpu().numpy() != order).sum()))
    observe("max_abs_error", np.abs(cases.exact(shares) - expected).max())
    observe("choices", experts.numel())


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-EXPERTS-001")
@pytest.mark.parametrize("tokens", [1, 19])
def test_tokens_through_their_experts(observe, gpu, packed, tokens):
    x = cases.numbers(tokens, 256)
    x[:, 0] = 10
    shapes = (("Q4_K", 5, 512, 256), ("Q4_K", 5, 512, 256), ("Q6_K", 5, 256, 512))
    stacks = [cases.blocks("s", *shape, seed=n, scale=0.1) for n, shape in enumerate(shapes)]
    router = np.random.default_rng(9).standard_normal((5, 256)).astype(np.float32) / 32
    router[3, 0] = -1e3  # nobody goes there
    parts = [engine.weights.Blocks("r", (router.view(np.uint8).reshape(-1),), "F32", (5, 256))]
    parts += stacks
    route = gpu.Gpu(cases.DEVICE)
    found = route.experts(x, *map(packed, parts), 2)
    expected = cases.mixture(cases.exact(x), *map(cases.decoded, parts), 2)
    observe("error", cases.relative_error(found, expected))
    _, experts = cases.chosen(cases.exact(x) @ router.T.astype(np.float64), 2)
    observe("idle_experts", 5 - len(np.unique(experts)))


# Heads, key heads, D, window, whether they are normed, positions before, tokens.
HEADS = [
    (6, 2, 32, 0, True, 0, 1),
    (6, 2, 32, 3, True, 11, 1),
    (3, 3, 20, 0, False, 40, 1),
    (4, 1, 32, 5, True, 3, 9),
]


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-ATTENTION-001")
@pytest.mark.parametrize("case", HEADS, ids=str)
def test_attention_over_the_cache(observe, launch, tiles, case):
    heads, kv_heads, size, window, normed, start, tokens = case
    q, k, v = (cases.numbers(tokens, n * size) for n in (heads, kv_heads, kv_heads))
    capacity = start + tokens  # the last token is at the end of the cache
    keys, values = cases.numbers(2, kv_heads, capacity, size, seed=2)
    gains = tuple(cases.numbers(size, seed=s) for s in (3, 4)) if normed else None
    layout = launch.Attention(heads, kv_heads, size, window, gains, 1e-6, keys, values)
    rates = torch.from_numpy(1e4 ** (-np.arange(size // 2) / (size // 2))).to(cases.DEVICE)
    angle = torch.arange(start, capacity, device=cases.DEVICE)[:, None] * rates
    angles = angle.cos().float(), angle.sin().float()
    past = [each[:, :start].transpose(0, 1) for each in (keys, values)]
    new = [each.reshape(tokens, kv_heads, size) for each in (k, v)]
    old = [cases.exact(torch.cat(each)) for each in zip(past, new, strict=True)]
    if tokens == 1:
        position = torch.tensor([start], device=cases.DEVICE)
        found = launch.attend_one((q, k, v), angles, layout, position, tiles)
    else:
        found = launch.attend_many((q, k, v), angles, layout, start, tiles)
    exact_gains = tuple(map(cases.exact, gains)) if gains else (None, None)
    queries = cases.exact(q).reshape(tokens, heads, size)
    expected = cases.attended(queries, *old, exact_gains, window, start, 1e4)
    observe("error", cases.relative_error(found, expected))
    expected_key = cases.turned(old[0][-1, -1], exact_gains[1], capacity - 1, 1e4)
    observe("cached_error", cases.relative_error(keys[-1, -1], expected_key))
    observe("cached_error", cases.relative_error(values[-1, -1], old[1][-1, -1]))


SMALL = FixtureShape(
    hidden=64, layers=1, heads=2, kv_heads=1, head_dim=32, dense_width=64, mix="F16"
)
MODELS = {
    "qwen3moe": FixtureShape(
        layers=1, heads=2, kv_heads=1, head_dim=128, experts=4, vocabulary=300, window=6
    ),
    "qwen2": SMALL,
    "qwen3": replace(SMALL, mix="Q8_0", tied=True),
}


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-MODEL-001")
@pytest.mark.parametrize("architecture", MODELS)
def test_a_model_by_prompt_and_by_token(observe, gpu, tmp_path, architecture):
    both = pair(gpu, tmp_path, architecture, MODELS[architecture], 10)
    for ids in ([5, 6, 7, 8, 9, 10, 11, 12, 13], [200]):  # the last fills the cache
        observe("lowest_cosine", lowest_cosine(*(model.forward(ids, c) for model, c in both)))
        observe("positions", both[1][1].length)


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-STEP-001")
def test_a_tokens_pass_from_static_buffers(observe, gpu, tmp_path):
    both = pair(gpu, tmp_path, "qwen3", SMALL, 6)
    (_, _), (fast, cache) = both
    for ids in ([5, 6, 7], [200], [9]):
        expected, found = (model.forward(ids, c) for model, c in both)
        observe("lowest_cosine", lowest_cosine(expected, found))
    cache.truncate(4)
    observe("differing_logits", int((fast.forward([9], cache) != found).sum()))
    observe("passes_of_another_cache", len(set(fast._steps) - {cache}))


def pair(gpu, folder, architecture: str, shape: FixtureShape, capacity: int) -> list[tuple]:
    """The plain route's model and the GPU's, each with an empty cache."""
    path = write_fixture(folder / "model.gguf", architecture=architecture, shape=shape)
    both = engine.load(path), engine.load(path, cases.DEVICE, gpu.Gpu(cases.DEVICE))
    return [(model, model.new_cache(capacity)) for model in both]


def lowest_cosine(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(found.cpu().double(), expected.double(), dim=-1).min()


# Bytes free, bytes in all, weights, cache: and whether that fits below 95 %.
MEMORY = [
    (100 * GB, 100 * GB, 90 * GB, 3 * GB, True),
    (100 * GB, 100 * GB, 93 * GB, 3 * GB, False),
    (10 * GB, 100 * GB, 8 * GB, 0, False),
    (40 * GB, 100 * GB, 18 * GB, 51 * GB, False),
]


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-MEMORY-001")
@pytest.mark.parametrize("free, total, weights, cache, fits", MEMORY)
def test_what_does_not_fit_is_refused_before_it_is_taken(
    observe, gpu, monkeypatch, free, total, weights, cache, fits
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free, total))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device=None: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: 0)
    said = refusal(lambda: gpu.require_memory(CUDA, {"weights": weights, "cache": cache}))
    observe("wrongly_judged", int((said is None) != fits))
    parts = ("GB free", "of weights", "of cache", "; use")
    observe("unsaid", sum(said is not None and part not in said for part in parts))


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-MEMORY-002")
def test_weights_and_cache_are_counted_before_they_are_placed(observe, gpu, monkeypatch, tiny):
    asked = []

    def noted(device, sizes, what=""):
        asked.append((sum(sizes.values()) - gpu.WORK, torch.device(device).type))
        raise EngineError("no room")

    model = engine.load(tiny)
    monkeypatch.setattr("engine.gpu.require_memory", noted)
    taken = []
    monkeypatch.setattr("engine.gpu.place", lambda weight, device: taken.append(weight))
    said = refusal(lambda: engine.load(tiny, cases.DEVICE, gpu.Gpu(cases.DEVICE)))
    held = sum(part.size for weight in model.weights.values() for part in weight.parts)
    observe("bytes_beside_the_files", abs(asked[-1][0] - held))
    observe("placed_in_spite", len(taken) + (said is None))
    cache = model.new_cache(64)
    said = refusal(lambda: gpu.Gpu(cases.DEVICE).reserve(cache))
    c = model.config
    expected = 2 * c.block_count * c.head_count_kv * 64 * c.key_length * 4
    observe("bytes_beside_the_caches", abs(asked[-1][0] - expected))
    observe("placed_in_spite", cache.keys.numel() + (said is None))


@pytest.mark.falsifies("FALSIFY-GPU-KERNELS-DEVICE-001")
def test_a_device_or_module_that_is_not_there_is_said(observe, gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    said = refusal(lambda: gpu.Gpu("cuda:7"))
    observe("unsaid", unsaid(said, "cuda:7", "found 1"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    said = refusal(lambda: gpu.Gpu("cuda"))
    observe("unsaid", unsaid(said, "7.5", "--route plain"))
    for name in ("engine.gpu", "engine.launch", "engine.packed"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(engine, "launch")
    monkeypatch.delattr(engine, "triton_kernels")
    monkeypatch.delitem(sys.modules, "engine.triton_kernels")
    monkeypatch.setitem(sys.modules, "triton", None)
    from engine.routes import choose

    said = refusal(lambda: choose("auto", "cuda"))
    observe("unsaid", unsaid(said, "triton", "pip install"))


def unsaid(said: str | None, *parts: str) -> int:
    """How many parts a message lacks."""
    return sum(part not in (said or "") for part in parts)


def refusal(call) -> str | None:
    """The message of the `EngineError` that `call` ends in, or None."""
    try:
        call()
    except EngineError as error:
        return str(error)
    return None
