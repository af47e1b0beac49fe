"""Tries to refute the compiled kernels: every path, type and shape, and what they must not touch.

The oracle is `falsifiers.kernel_oracle`: float64, weights decoded by the `gguf` package, 8-bit
activations rounded as the kernels say that they round them. What may crash runs in a forked child.
"""

import ctypes
import faulthandler
import mmap
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from torch import Tensor

import engine
from engine import fixture, kernels
from engine.cache import KVCache
from engine.fixture import FixtureShape
from engine.kernels import TYPES, Kernels
from engine.moe import route
from engine.native import Native
from engine.route import Heads
from engine.weights import Blocks, Floats
from falsifiers import kernel_oracle as oracle
from falsifiers.kept_models import write_fixture
from falsifiers.threads import threads

ROWS = (40, 17, 1)
TOKENS = (1, 2, 4, 6, 7, 8, 13, 40)  # of a last group of lanes: every number
COLUMNS = {"Q4_0": (32, 96, 2048), "Q8_0": (32, 96, 2048)}  # of the others:
WHOLE = (256, 768, 2048)


def weight(kind: str, raw: np.ndarray, columns: int, name: str = "w") -> Blocks:
    """A weight of blocks [rows, bytes], or of a stack of them [E, rows, bytes]."""
    return Blocks(name, (np.ascontiguousarray(raw).reshape(-1),), kind, (*raw.shape[:-1], columns))


def products(path: str, kind: str, columns: int, tokens: int) -> list[tuple[np.ndarray, Blocks]]:
    """x times a weight of each of `ROWS`, all in one call, and the weights."""
    made = [weight(kind, oracle.blocks(kind, rows, columns, rows), columns) for rows in ROWS]
    x = torch.from_numpy(oracle.activations(tokens, columns))
    found = Kernels(path).linear(x, [kernels.matrix(each) for each in made])
    return [(y.numpy(), each) for y, each in zip(found, made, strict=True)]


@pytest.mark.falsifies("FALSIFY-KERNELS-001")
@pytest.mark.parametrize("kind", TYPES)
def test_a_product_is_that_of_8_bit_activations(observe, kind):
    count = 0
    for columns, tokens in np.ndindex(3, len(TOKENS)):
        columns, tokens = COLUMNS.get(kind, WHOLE)[columns], TOKENS[tokens]
        x = oracle.activations(tokens, columns)
        for path in kernels.paths():
            pairs = []
            for y, each in products(path, kind, columns, tokens):
                w = oracle.decoded(kind, each.parts[0].reshape(each.shape[0], -1))
                size = np.linalg.norm(w, axis=1)  # so that rows of small scales count as much
                size[size == 0] = 1
                pairs.append((y / size, oracle.rounded(x, kind) @ w.T / size, x @ w.T / size))
            found, expected, plain = (
                np.concatenate(each, axis=1) for each in zip(*pairs, strict=True)
            )
            observe("error", oracle.relative(found, expected))
            count += found.size
            if columns >= 512 and tokens == 40:  # without the rows and tokens that are not usual
                few = np.s_[3:, 4:40]
                observe("error_to_plain", oracle.relative(found[few], plain[few]))
    observe("products", count // len(kernels.paths()))


# Types of gate and up, and of down; hidden and width of an expert.
EXPERTS = {
    "Q4_K_M": ("Q4_K", "Q6_K", 768, 256),
    "Q5_K_M": ("Q5_K", "Q5_K", 256, 768),
    "Q8_0": ("Q8_0", "Q8_0", 96, 160),
    "Q4_K and Q4_0": ("Q4_K", "Q4_0", 256, 96),
}
COUNT = 10  # experts; the last one is never chosen, 2 and 5 are always equally good


class Mixture:
    """Experts of a kind of `EXPERTS`, a router, and activations."""

    def __init__(self, name: str) -> None:
        most, some, self.hidden, self.width = EXPERTS[name]
        self.kinds = {"gate": most, "up": most, "down": some}
        shapes = {"gate": (self.width, self.hidden), "up": (self.width, self.hidden)}
        shapes["down"] = (self.hidden, self.width)
        self.raw = {
            part: np.stack(
                [
                    oracle.blocks(self.kinds[part], *shapes[part], seed=3 * e + i)
                    for e in range(COUNT)
                ]
            )
            for i, part in enumerate(shapes)
        }
        self.weights = {
            part: weight(self.kinds[part], self.raw[part], shapes[part][1]) for part in shapes
        }
        router = np.random.default_rng(1).standard_normal((COUNT, self.hidden)).astype(np.float32)
        router[5] = router[2]
        router[:, 0], router[9, 0] = 0, -1e4
        self.router = torch.from_numpy(router)

    def x(self, tokens: int) -> Tensor:
        """Small, so that SwiGLU is neither linear nor flat."""
        x = np.random.default_rng(tokens).standard_normal((tokens, self.hidden)) / 30
        x[:, 0] = 0.1
        return torch.from_numpy(x.astype(np.float32))

    def made(self, path: str, x: Tensor, k: int, routed: bool = True) -> Tensor:
        """By the kernels; by the first expert alone where it is not routed."""
        stacks = [kernels.matrix(each if routed else each[0]) for each in self.weights.values()]
        return Kernels(path).experts(x, self.router if routed else None, k, *stacks)

    def expected(self, x: Tensor, k: int, routed: bool = True) -> np.ndarray:
        shares, experts = torch.ones(len(x), 1), torch.zeros(len(x), 1, dtype=torch.long)
        if routed:
            shares, experts = route(x.double() @ self.router.double().T, k)
        out = np.zeros(x.shape)
        for expert in experts.unique().tolist():
            token, rank = (each.numpy() for each in torch.where(experts == expert))
            raw = {part: blocks[expert] for part, blocks in self.raw.items()}
            share = shares.numpy()[token, rank, None]
            np.add.at(out, token, share * oracle.swiglu(x.numpy()[token], self.kinds, raw))
        return out


@pytest.mark.falsifies("FALSIFY-KERNELS-002")
@pytest.mark.parametrize("name", EXPERTS)
def test_experts_are_those_that_the_router_chose(observe, name):
    mixture, compared = Mixture(name), 0
    for tokens, k, routed in (
        (1, 1, False),
        (9, 1, False),
        (1, 4, True),
        (3, 2, True),
        (40, 1, True),
        (40, 4, True),
    ):
        x = mixture.x(tokens)
        expected = mixture.expected(x, k, routed)
        for path in kernels.paths():
            found = mixture.made(path, x, k, routed).numpy()
            errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
            observe("median_error", np.median(errors))
            observe("largest_error", errors.max())
        compared += tokens
    observe("tokens", compared)


@pytest.mark.falsifies("FALSIFY-KERNELS-003")
@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("loud", [False, True], ids=["usual scores", "scores beyond 88"])
def test_attention_through_the_cache_is_that_of_float64(observe, window, loud):
    count, kv, size, filled = 6, 2, 24, 7
    random = torch.Generator().manual_seed(1)
    gains = [torch.rand(size, generator=random) + (11 if loud else 0.5) for _ in range(2)]
    changed = 0
    for path in kernels.paths():
        for gain, tokens, length in ((None, 1, 0), (gains, 1, filled), (gains, 5, filled)):
            q_gain, k_gain = (Floats("g", g) for g in gain) if gain else (None, None)
            heads = Heads(1, count, kv, size, window, q_gain, k_gain, 1e-2)
            drawn = [torch.randn(tokens, n * size, generator=random) for n in (count, kv, kv)]
            angle = torch.rand(tokens, size // 2, generator=random) * 6
            cache = filled_cache(kv, size, length, random)
            cache.keys *= 11 if loud else 1
            before = cache.keys.clone(), cache.values.clone()
            q, k, v = (x.reshape(tokens, -1, size).numpy().copy() for x in drawn)
            if gain:
                q, k = (oracle.norm(x, g.numpy(), 1e-2) for x, g in zip((q, k), gain, strict=True))
            q, k = (oracle.turned(x, angle.cos().numpy(), angle.sin().numpy()) for x in (q, k))
            all_keys, all_values = (
                np.concatenate([old[1, :, :length].numpy(), new.swapaxes(0, 1)], axis=1)
                for old, new in zip(before, (k, v), strict=True)
            )
            expected = oracle.attended(q, all_keys, all_values, window)
            found = Native(path).attend(drawn, heads, (angle.cos(), angle.sin()), cache)
            observe("error", oracle.relative(found.reshape(expected.shape).numpy(), expected))
            for new, made in ((cache.keys, all_keys), (cache.values, all_values)):
                observe("entry_error", oracle.relative(new[1, :, : length + tokens].numpy(), made))
            for old, new in zip(before, (cache.keys, cache.values), strict=True):
                changed += int((old[:, :, :length] != new[:, :, :length]).sum())
                changed += int((old[0] != new[0]).sum())
    observe("changed_entries", changed)


def filled_cache(kv: int, size: int, length: int, random: torch.Generator) -> KVCache:
    """Two layers of random entries, with room for five more."""
    cache = KVCache(2, kv, length + 5, size)
    for layer in range(2):
        cache.append(layer, *torch.randn(2, kv, length + 5, size, generator=random))
    cache.advance(length)
    return cache


@pytest.mark.falsifies("FALSIFY-KERNELS-004")
@pytest.mark.parametrize("columns", [96, 1000])
def test_the_norm_is_that_of_float64(observe, columns):
    random = np.random.default_rng(0)
    x, delta = random.standard_normal((2, 11, columns)).astype(np.float32) / 100
    gain = random.uniform(0.5, 2, columns).astype(np.float32)
    tensors = [torch.from_numpy(each) for each in (x, delta, gain)]
    for path in kernels.paths():
        for added in (None, tensors[1]):
            total, normed = Kernels(path).norm(tensors[0], added, tensors[2], 1e-4)
            expected = x.astype(np.float64) + (0 if added is None else delta)
            observe("sum_error", oracle.relative(total.numpy(), expected))
            observe("error", oracle.relative(normed.numpy(), oracle.norm(expected, gain, 1e-4)))


@pytest.mark.falsifies("FALSIFY-KERNELS-005")
def test_every_path_and_number_of_threads_gives_the_same_bits(observe):
    settings = [(path, count) for path in kernels.paths() for count in (1, 2)]
    made = []
    for path, count in settings:
        with threads(count):
            made.append([bits(each) for each in everything(path)])
    numbers = [sum(map(len, each)) for each in made]
    differing = [
        int((a != b).sum()) for each in made[1:] for a, b in zip(made[0], each, strict=True)
    ]
    observe("differing", sum(differing))
    observe("numbers", min(numbers))
    observe("settings", len(settings))


def bits(x: Tensor | np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32).reshape(-1).view(np.int32)


def everything(path: str) -> Iterator[Tensor | np.ndarray]:
    """What each kernel makes of the same numbers."""
    for kind in TYPES:
        for tokens in (1, 13):
            for columns in COLUMNS.get(kind, WHOLE)[1:]:
                yield from (y for y, _ in products(path, kind, columns, tokens))
    for name in ("Q4_K_M", "Q8_0"):
        mixture = Mixture(name)
        for tokens in (1, 40):
            yield mixture.made(path, mixture.x(tokens), 3)
    random = torch.Generator().manual_seed(0)
    gain = torch.rand(24, generator=random)
    heads = Heads(1, 6, 2, 24, 0, Floats("q", gain), Floats("k", gain), 1e-6)
    for tokens in (1, 3):
        cache = filled_cache(2, 24, 37, random)
        drawn = [torch.randn(tokens, n * 24, generator=random) for n in (6, 2, 2)]
        angle = torch.rand(tokens, 12, generator=random)
        seen = Native(path).attend(drawn, heads, (angle.cos(), angle.sin()), cache)
        yield cache.keys
        if tokens == 1:  # several are attended by torch, which adds otherwise on other threads
            yield seen
    yield from Kernels(path).norm(torch.randn(9, 24, generator=random), None, gain, 1e-6)


BAD = (np.nan, np.inf, -np.inf)


@pytest.mark.falsifies("FALSIFY-KERNELS-006")
@pytest.mark.parametrize("kind", TYPES)
def test_what_is_not_finite_stays_where_it_is(observe, kind):
    columns, finite, changed, seen = 512, 0, 0, 0
    raw, size = oracle.blocks(kind, 21, columns), oracle.BLOCK[kind]
    for path, tokens, bad in (
        (path, tokens, bad) for path in kernels.paths() for tokens in (1, 2, 13) for bad in BAD
    ):
        x = oracle.activations(tokens, columns)
        good = times(path, x, weight(kind, raw, columns))
        for place in oracle.SCALES[kind]:
            spoilt = raw.copy()
            at = size * (512 // oracle.NUMBERS[kind] - 1) + place  # of the last block
            spoilt[18, at : at + 2] = np.array([bad], np.float16).view(np.uint8)
            found = times(path, x, weight(kind, spoilt, columns))
            finite += int(np.isfinite(found[:, 18]).sum())
            changed += int((np.delete(found, 18, 1) != np.delete(good, 18, 1)).sum())
            seen += tokens
        spoilt = x.copy()
        spoilt[-1, 300] = bad
        found = times(path, spoilt, weight(kind, raw, columns))
        finite += int(np.isfinite(found[-1]).sum())
        changed += int((found[:-1] != good[:-1]).sum())
        seen += 21
    observe("finite", finite)
    observe("changed", changed)
    observe("spoilt", seen)


def times(path: str, x: np.ndarray, by: Blocks) -> np.ndarray:
    (y,) = Kernels(path).linear(torch.from_numpy(x), [kernels.matrix(by)])
    return y.numpy()


@pytest.mark.falsifies("FALSIFY-KERNELS-007")
def test_a_weight_that_is_not_finite_is_named(observe, tiny, tmp_path):
    names = ("blk.1.attn_k.weight", "blk.1.ffn_down_exps.weight", "output.weight")
    unnamed, moved = 0, 0
    for name in names:
        [tensor] = [each for each in GGUFReader(tiny).tensors if each.name == name]
        path = tmp_path / "nan.gguf"
        data = bytearray(tiny.read_bytes())
        scale = oracle.SCALES[tensor.tensor_type.name][0]
        blocks = np.frombuffer(data, np.uint8, tensor.n_bytes, tensor.data_offset)
        blocks = blocks.reshape(-1, oracle.BLOCK[tensor.tensor_type.name])
        blocks[:, scale : scale + 2] = np.array([np.nan], np.float16).view(np.uint8)
        path.write_bytes(data)
        model = engine.load(path, route=Native())
        cache = model.new_cache(8)
        unnamed += name not in said(lambda model=model, cache=cache: model.forward([5, 6], cache))
        moved += cache.length
    observe("unnamed", unnamed)
    observe("positions_counted", moved)
    observe("weights", len(names))


def said(run: Callable[[], object]) -> str:
    """The message of an `EngineError`; nothing where there is none."""
    try:
        run()
    except engine.EngineError as error:
        return str(error)
    except Exception as error:
        print(f"not an EngineError: {error!r}")
    return ""


@pytest.mark.falsifies("FALSIFY-KERNELS-008")
@pytest.mark.parametrize("kind", TYPES)
def test_blocks_are_read_wherever_they_lie_and_nothing_beyond(observe, kind):
    columns, crashes, differing, runs = 96 if kind in COLUMNS else 256, 0, 0, 0
    raw = oracle.blocks(kind, 19, columns)
    for path in kernels.paths():
        for tokens in (1, 9):
            x = oracle.activations(tokens, columns)
            expected = times(path, x, weight(kind, raw, columns))
            for back in range(4):  # bytes between the weight and the end of the last page

                def same(path=path, x=x, back=back, expected=expected) -> bool:
                    at_end = np.frombuffer(before_a_hole(raw.tobytes(), back), np.uint8)
                    found = times(path, x, weight(kind, at_end.reshape(raw.shape), columns))
                    return np.array_equal(bits(found), bits(expected))

                code = in_a_child(same)
                crashes += code not in (0, 1)
                differing += code == 1
                runs += 1
    observe("crashes", crashes)
    observe("differing", differing)
    observe("runs", runs // len(kernels.paths()))


def before_a_hole(data: bytes, back: int) -> ctypes.Array:
    """`data`, which ends `back` bytes before a page that must not be touched."""
    size = -(-(len(data) + back) // mmap.PAGESIZE) * mmap.PAGESIZE
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    whole = size + mmap.PAGESIZE
    base = libc.mmap(None, whole, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if libc.mprotect(base + size, mmap.PAGESIZE, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    made = (ctypes.c_uint8 * len(data)).from_address(base + size - back - len(data))
    made[:] = data
    return made


def in_a_child(same: Callable[[], bool]) -> int:
    """0 where it is the same, 1 where not, below 0 the signal that ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which wait for work
        pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 2
    try:
        torch.set_num_threads(1)
        faulthandler.disable()
        code = 0 if same() else 1
    finally:
        os._exit(code)


@pytest.mark.falsifies("FALSIFY-KERNELS-009")
def test_what_does_not_fit_is_refused(observe, tmp_path):
    one, x = Kernels("portable"), torch.ones(2, 256)
    raw = oracle.blocks("Q4_K", 4, 256)
    good = kernels.matrix(weight("Q4_K", raw, 256))
    other = kernels.matrix(weight("Q8_0", oracle.blocks("Q8_0", 4, 256), 256))
    square = kernels.matrix(weight("Q8_0", oracle.blocks("Q8_0", 256, 256), 256))
    heads = kernels.Attention(2, 1, 4, 0, 0, 32, None, None, 0.0)
    angles = (torch.ones(1, 2), torch.ones(1, 2))
    cache, narrow = torch.zeros(1, 8, 4), torch.zeros(1, 4)
    (tmp_path / "_kernels.abi3.so").write_text("no library")
    absent = Blocks("blk.3.attn_q.weight", (np.zeros(0, np.uint8),), "Q4_K", (4, 256))
    refusals = {
        "columns": lambda: one.linear(x[:, :128], [good]),
        "dtype": lambda: one.linear(x.double(), [good]),
        "dimensions": lambda: one.linear(x[None], [good]),
        "other blocks": lambda: one.linear(x, [good, other]),
        "bytes": lambda: kernels.matrix(Blocks("cut", (raw.reshape(-1)[:-1],), "Q4_K", (4, 256))),
        "view": lambda: kernels.matrix(
            Blocks("view", (np.repeat(raw.reshape(-1), 2)[::2],), "Q4_K", (4, 256))
        ),
        "row": lambda: kernels.matrix(Blocks("row", (raw.reshape(-1),), "Q4_K", (4, 100))),
        "experts": lambda: one.experts(x, torch.ones(1, 256), 1, good, good, good),
        "k": lambda: one.experts(x, torch.ones(1, 256), 2, square, square, square),
        "router": lambda: one.experts(x, torch.ones(1, 32), 1, square, square, square),
        "queries": lambda: one.attend(heads, (narrow,) * 3, angles, cache, cache),
        "strided": lambda: one.attend(
            heads, (torch.ones(1, 16)[:, ::2], narrow, narrow), angles, cache, cache
        ),
        "norm": lambda: one.norm(x, None, torch.ones(100), 1e-6),
        "delta": lambda: one.norm(x, x[:1], torch.ones(256), 1e-6),
        "path": lambda: Kernels("sse9"),
        "library": lambda: kernels.library.__wrapped__(tmp_path / "nowhere"),
        "no library": lambda: kernels.library.__wrapped__(tmp_path),
        absent.name: lambda: Native("portable").linear(x, [absent]),
        "blk.4.attn_q": lambda: Native("portable").linear(x, [Blocks.absent("blk.4.attn_q")]),
    }
    messages = {name: said(run) for name, run in refusals.items()}
    accepted = [name for name, message in messages.items() if not message]
    unclear = [
        name
        for name, message in messages.items()
        if message and not ("found" in message or "not compiled" in message)
    ]
    unnamed = [name for name, message in messages.items() if "." in name and name not in message]
    print(accepted, unclear, unnamed)
    observe("accepted", len(accepted))
    observe("unclear", len(unclear) + len(unnamed))
    observe("refusals", len(refusals))


@pytest.mark.falsifies("FALSIFY-KERNELS-010")
@pytest.mark.parametrize("kind", TYPES)
def test_rows_that_are_looked_up_are_the_decoded_ones(observe, kind):
    ids = [39, 0, 3, 17, 3]
    for columns in COLUMNS.get(kind, WHOLE):
        raw = oracle.blocks(kind, 40, columns)
        expected = oracle.decoded(kind, raw)[ids]
        by = weight(kind, raw, columns)  # which the matrix points to
        for path in kernels.paths():
            found = Kernels(path).rows(kernels.matrix(by), ids).numpy()
            observe("error", max(map(oracle.relative, found, expected)))
    observe("rows", len(ids))


LAYERED = {
    "qwen3moe": FixtureShape(layers=2, experts=4),
    "qwen3": FixtureShape(layers=2, window=4, window_from=1, dense_width=256, mix="Q5_K_M"),
    "qwen2": FixtureShape(layers=2, heads=4, dense_width=256, mix="Q8_0"),
}


@pytest.mark.falsifies("FALSIFY-KERNELS-011")
@pytest.mark.parametrize("architecture", LAYERED)
def test_a_token_in_c_is_the_token_by_operations(observe, tmp_path, architecture):
    shape = LAYERED[architecture]
    path = write_fixture(tmp_path / "m.gguf", 1, architecture=architecture, shape=shape)
    at_once, apart = Counted(), Counted()
    apart.layers = lambda *_: None
    made = [alone(engine.load(path, route=route)) for route in (at_once, apart)]
    observe("differing", sum(int((bits(a) != bits(b)).sum()) for a, b in zip(*made, strict=True)))
    observe("passes", at_once.passes)


UNEVEN = {"attn_k": "Q8_0", "attn_v": "Q8_0", "attn_output": "Q5_K"}  # of eight experts' files


@pytest.mark.falsifies("FALSIFY-KERNELS-012")
@pytest.mark.parametrize("uneven", [UNEVEN, {"ffn_up_exps": "Q8_0"}, {"ffn_gate_exps": "Q4_0"}])
def test_a_layer_may_have_blocks_of_several_sizes(observe, monkeypatch, tmp_path, uneven):
    path = write_uneven(tmp_path / "uneven.gguf", monkeypatch, uneven)
    ids = list(range(3, 27))
    plain, fast = engine.load(path).logits(ids), engine.load(path, route=Native())
    cache = fast.new_cache()
    for found in (fast.forward(ids), torch.cat([fast.forward([each], cache) for each in ids])):
        cosine = torch.cosine_similarity(found, plain, dim=-1)
        observe("lowest_cosine", cosine.min())
        observe("median_cosine", cosine.median())
    kinds = {tensor.tensor_type.name for tensor in GGUFReader(path).tensors}
    observe("types", len(kinds & set(TYPES)))


def write_uneven(path: Path, monkeypatch, kinds: dict[str, str]) -> Path:
    """A calm mixture of experts, some of whose tensors have other types than their neighbours."""
    specs = fixture.tensor_specs

    def changed(*args) -> Iterator[fixture.TensorSpec]:
        for spec in specs(*args):
            yield replace(spec, type=kinds.get(spec.name.split(".")[-2], spec.type))

    monkeypatch.setattr(fixture, "tensor_specs", changed)
    return engine.write_fixture(path, shape=FixtureShape(layers=2, experts=6, gain=0.7))


class Counted(Native):
    """Counts the passes that went through all layers in C."""

    passes = 0

    def layers(self, *args) -> tuple[Tensor, Tensor] | None:
        made = super().layers(*args)
        self.passes += made is not None
        return made


def alone(model: engine.Model) -> list[Tensor]:
    """Logits of 12 tokens, each alone through the cache, and what is cached then."""
    cache = model.new_cache(12)
    logits = torch.cat([model.forward([id_], cache) for id_ in range(3, 15)])
    return [logits, cache.keys[:, :, :12], cache.values[:, :, :12]]
