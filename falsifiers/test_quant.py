"""Quantised weights: what encoding loses, and that every way to read a weight gives the same.

Oracles: the `gguf` package's quantisers and dequantisers; where it cannot encode, the error of
uniform rounding in closed form.
"""

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

import engine
from engine.quant import TYPES, dequantise, quantise
from engine.weights import Blocks, linear

LEAST = 1e-8  # an error that is small beside any weight's
# Type -> bits of a number, numbers that share a scale, whether it has a minimum besides.
K_QUANTS = {"Q4_K": (4, 32, True), "Q5_K": (5, 32, True), "Q6_K": (6, 16, False)}
SHAPE = (3, 5, 512)  # a stack of matrices


@pytest.fixture
def numbers() -> np.ndarray:
    """Normal and uniform rows, and what breaks a quantiser: zeros, constants, one sign, a spike,
    numbers below what a half can scale."""
    random = np.random.default_rng(0)
    rows = np.concatenate([random.standard_normal((200, 512)), random.uniform(-1, 1, (200, 512))])
    rows[0], rows[1], rows[2] = 0, 0.5, -0.5
    rows[3], rows[4] = np.abs(rows[3]), -np.abs(rows[4])
    rows[5] *= 1e-9
    rows[6, 17] = 1000
    return rows.astype(np.float32)


@pytest.mark.falsifies("FALSIFY-QUANT-001")
@pytest.mark.parametrize("kind", TYPES)
def test_encoding_loses_no_more_than_it_must(observe, numbers, kind):
    encoded = quantise(torch.from_numpy(numbers), kind).numpy()
    decoded = dequantize(encoded, GGMLQuantizationType[kind])
    observe("not_finite", int((~np.isfinite(decoded)).sum()))
    found, expected = rms(decoded - numbers), rms(step_errors(numbers, kind))
    observe("error", (found / np.maximum(expected, LEAST)).max())


def rms(x: np.ndarray) -> np.ndarray:
    """Of each row."""
    return np.sqrt(np.square(x, dtype=np.float64).mean(axis=1))


def step_errors(numbers: np.ndarray, kind: str) -> np.ndarray:
    """The package's own errors; for K-quants those of rounding to a grid: step / sqrt(12)."""
    if kind not in K_QUANTS:
        packed = quantize(numbers, GGMLQuantizationType[kind])
        return dequantize(packed, GGMLQuantizationType[kind]) - numbers
    bits, size, has_minimum = K_QUANTS[kind]
    blocks = numbers.reshape(-1, size)
    low, high = np.minimum(blocks.min(axis=1), 0), np.maximum(blocks.max(axis=1), 0)
    span = high - low if has_minimum else 2 * np.abs(blocks).max(axis=1)
    step = span / (2**bits - 1) / np.sqrt(12)
    return np.repeat(step, size).reshape(numbers.shape)


@pytest.fixture(params=TYPES)
def weights(request, monkeypatch) -> list[Blocks]:
    """One stack of matrices, stored together and stored apart; a piece is two rows of it."""
    monkeypatch.setattr("engine.weights.PIECE", 2 * SHAPE[-1])
    random = torch.Generator().manual_seed(0)
    raw = quantise(torch.randn(SHAPE, generator=random), request.param).numpy().reshape(-1)
    apart = tuple(raw.reshape(SHAPE[0], -1))
    return [Blocks("w", parts, request.param, SHAPE) for parts in ((raw,), apart)]


@pytest.mark.falsifies("FALSIFY-QUANT-002")
def test_every_way_to_read_a_weight_gives_the_same_numbers(observe, weights):
    differing = compared = 0
    for weight in weights:
        raw = np.concatenate([part.reshape(-1) for part in weight.parts])
        whole = dequantize(raw, GGMLQuantizationType[weight.type]).reshape(SHAPE)
        for found, expected in readings(weight, whole):
            compared += 1
            differing += not np.array_equal(found.numpy(), expected)
    observe("differing", differing)
    observe("compared", compared)


def readings(weight: Blocks, whole: np.ndarray):
    """What each way gives, and what it should give."""
    yield weight.dequantise(), whole
    x = torch.eye(SHAPE[-1])
    for index in range(SHAPE[0]):
        matrix = weight[index]
        yield matrix.dequantise(), whole[index]
        yield torch.cat(list(matrix.pieces())), whole[index]
        yield matrix.rows([4, 0, 4]), whole[index][[4, 0, 4]]
        yield linear(x, matrix).T, whole[index]


@pytest.fixture
def decoded(monkeypatch) -> list[tuple[str, int]]:
    """The name and size of everything that is decoded from now on."""
    seen = []

    def watched(raw, kind, shape, name="tensor", device="cpu"):
        seen.append((name, int(np.prod(shape))))
        return dequantise(raw, kind, shape, name, device)

    monkeypatch.setattr("engine.weights.dequantise", watched)
    return seen


@pytest.mark.falsifies("FALSIFY-QUANT-003")
def test_no_more_is_decoded_than_is_used(observe, tiny, decoded):
    model = engine.load(tiny)
    decoded.clear()
    model.logits([5, 6, 7])
    hidden, width = model.config.embedding_length, model.config.expert_feed_forward_length
    experts = [size for name, size in decoded if "_exps" in name]
    observe("embedding_rows", sum(s for n, s in decoded if n == "token_embd.weight") / hidden)
    observe("matrices_at_once", max(experts) / (hidden * width))
    observe("experts_decoded", len(experts) / (3 * model.config.block_count))
    decoded.clear()
    tall = Blocks("tall", (np.zeros(2 * 40_000 * 1024, np.uint8),), "F16", (40_000, 1024))
    observe("rows", linear(torch.ones(1, 1024), tall).shape[-1])
    observe("largest_piece", max(size for _, size in decoded))
