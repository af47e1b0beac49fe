"""Several routes to one answer, held against each other at every layer and stage.

The routes: blocks decoded when used, weights decoded up front, a HF folder that transformers wrote
from weights that the `gguf` package decoded, and the compiled kernels. Ratios and cosines are
numpy's, over the tensors that the traces keep; `engine.compare` is not trusted with them. Of a file
of the true shapes, where one is given, the first two layers are compared: decoded up front, the
whole would not fit.
"""

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from engine.compare import compare
from engine.fixture import FixtureShape
from engine.model import feed_forward, project
from engine.routes import choose
from engine.trace import Recording, record
from falsifiers.conftest import GIVEN, REAL, SHAPE
from falsifiers.differences import relative_l2
from falsifiers.kept_models import write_fixture
from falsifiers.sample_models import SMALL

IDS = list(range(3, 96, 8))  # tokens
MODELS = {
    # More than ten experts, because HF's files number them in their names.
    "qwen3moe": FixtureShape(experts=12, experts_used=3, layers=3),
    "qwen3": FixtureShape(layers=2, heads=4, dense_width=256, mix="Q5_K_M", tied=True),
    "qwen2": replace(SMALL, head_dim=16, mix="Q8_0"),
}


@pytest.fixture(scope="session", params=[*MODELS, *GIVEN])
def file(request, tmp_path_factory) -> Path:
    if request.param in GIVEN:
        return Path(REAL or SHAPE)
    path = tmp_path_factory.mktemp("parity") / f"{request.param}.gguf"
    return write_fixture(path, 2, architecture=request.param, shape=MODELS[request.param])


@pytest.fixture(scope="session")
def folder(file) -> Path:
    """The same model as HF saves it."""
    return saved_by_hf(file, file.with_suffix(""))


def saved_by_hf(file: Path, folder: Path) -> Path:
    from falsifiers.hf_oracle import hf_model

    hf_model(file).save_pretrained(folder)
    return folder


def load(path: Path) -> engine.Model:
    """The model of `path`; of a file that is given, what its first two layers make."""
    model = engine.load(path)
    if not is_given(path):
        return model
    kept = {name: w for name, w in model.weights.items() if not name.startswith(beyond(model))}
    return engine.Model(replace(model.config, block_count=2), kept)


def is_given(path: Path) -> bool:
    return bool(GIVEN) and path == Path(REAL or SHAPE)


def beyond(model: engine.Model) -> tuple[str, ...]:
    return tuple(f"blk.{layer}." for layer in range(2, model.config.block_count))


def traced(path: Path, route: str = "plain", tokens: str = "all") -> Recording:
    model = load(path)
    chosen = model.to_float() if route == "float" else model
    return record(chosen, IDS, tokens=tokens, file=str(path), route=route, keep=True)


@pytest.fixture
def plain(request, file) -> Recording:
    if is_given(file):
        request.getfixturevalue("shape_gguf")
    return traced(file)


@pytest.fixture
def decoded(file) -> Recording:
    return traced(file, "float")


def ratios(a: Recording, b: Recording, stage: str) -> list[float]:
    """std B / std A in each layer."""
    places = [place for place in a.tensors if place[1] == stage]
    return [np.std(numbers(b, place)) / np.std(numbers(a, place)) for place in places]


def least_cosine(a: Recording, b: Recording, stages: set[str]) -> float:
    """Of any token (and expert) at any layer's `stages`."""
    found = [1.0]
    for place in a.tensors:
        if place[1] in stages:
            x, y = numbers(a, place), numbers(b, place)
            lengths = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
            found += ((x * y).sum(axis=-1) / lengths).ravel().tolist()
    return min(found)


def numbers(recording: Recording, place: tuple[int | None, str]) -> np.ndarray:
    return recording.tensors[place].double().numpy()


def observe_stage(observe, a: Recording, b: Recording, stage: str) -> None:
    found = ratios(a, b, stage)
    observe("least_ratio", min(found))
    observe("greatest_ratio", max(found))
    observe("least_cosine", least_cosine(a, b, {stage}))
    observe("layers", len(found))


@pytest.mark.falsifies("FALSIFY-FFN-GGUF-003")
def test_swiglu_agrees_at_every_layer(observe, plain, decoded):
    observe_stage(observe, plain, decoded, "ffn_swiglu")


@pytest.mark.falsifies("FALSIFY-APR-GGUF-PARITY-001")
def test_the_gate_agrees_at_every_layer(observe, plain, decoded):
    observe_stage(observe, plain, decoded, "ffn_gate")


@pytest.mark.falsifies("FALSIFY-APR-GGUF-PARITY-002")
@pytest.mark.parametrize("file", MODELS, indirect=True)
def test_file_and_folder_agree_at_every_layer_and_stage(observe, plain, folder):
    try:
        saved = traced(folder)
    except engine.EngineError as error:
        pytest.fail(f"the folder is refused: {error}")
    stages = {stage for _, stage in plain.tensors} - {"router_experts"}
    observe("least_ratio", min(min(ratios(plain, saved, stage)) for stage in stages))
    observe("greatest_ratio", max(max(ratios(plain, saved, stage)) for stage in stages))
    observe("least_cosine", least_cosine(plain, saved, stages))
    observe("other_experts", int(plain.trace.experts != saved.trace.experts))
    observe("stages", len(stages))


@pytest.mark.falsifies("FALSIFY-APR-GGUF-PARITY-003")
@pytest.mark.parametrize("file", MODELS, indirect=True)
@pytest.mark.parametrize("tokens", ["last", "all"])
def test_both_traces_count_the_same_elements(observe, file, folder, tokens):
    mixed = "all" if tokens == "last" else "last"
    sides = [traced(file, "plain", tokens), traced(file, "float", tokens)]
    sides.append(traced(folder, "plain", tokens))
    expected = expected_counts(engine.load(file).config, 1 if tokens == "last" else len(IDS))
    counts = [[stage.count for stage in side.trace.stages] for side in sides]
    observe("wrong_counts", sum(different(each, expected) for each in counts))
    observe("differing_counts", sum(different(each, counts[0]) for each in counts))
    observe("mixed_comparisons_accepted", accepted(sides[0], traced(file, "float", mixed)))
    observe("stages", len(expected))


def different(found: list[int], expected: list[int]) -> int:
    return sum(x != y for x, y in zip(found, expected, strict=True))


def accepted(a: Recording, b: Recording) -> int:
    try:
        compare(a, b)
    except engine.EngineError:
        return 0
    return 1


def expected_counts(c: engine.ModelConfig, tokens: int) -> list[int]:
    """Numbers that each stage makes for so many tokens, in order."""
    qkv = (c.head_count + 2 * c.head_count_kv) * c.key_length
    h, k = c.embedding_length, c.expert_used_count
    wide = k * c.expert_feed_forward_length if c.is_moe else c.feed_forward_length
    layer = [h, qkv, h, h, *([k] if c.is_moe else []), wide, wide, wide, wide, h]
    return [tokens * n for n in layer * c.block_count] + [tokens * c.vocabulary_size]


@pytest.mark.falsifies("FALSIFY-APR-GGUF-PARITY-005")
def test_split_and_fused_projections_agree(observe, file, plain):
    model = load(file)
    errors, seen = [], []
    for layer in range(model.config.block_count):
        x = plain.tensors[layer, "attn_norm"]
        names = [f"blk.{layer}.attn_{part}" for part in "qkv"]
        fused = x.double() @ joined(model, names, "weight").T
        if model.config.has_qkv_bias:
            fused += joined(model, names, "bias")
        split = torch.cat([project(model, name, x) for name in names], dim=-1)
        for found in (split, plain.tensors[layer, "qkv"]):
            errors.append(float((found - fused).abs().max() / fused.std()))
        seen.append(prod(fused.shape))
    observe("max_error", max(errors))
    observe("layers", len(seen))


def joined(model: engine.Model, names: list[str], kind: str) -> torch.Tensor:
    """One matrix or bias of all three, in float64, decoded by the `gguf` package."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    parts = []
    for name in names:
        weight = model.weights[f"{name}.{kind}"]
        raw = weight.parts[0].reshape(*weight.shape[:-1], -1)
        decoded = dequantize(raw, GGMLQuantizationType[weight.type]).reshape(weight.shape)
        parts.append(torch.from_numpy(decoded.copy()).double())
    return torch.cat(parts)


@pytest.mark.falsifies("FALSIFY-APR-GGUF-PARITY-008")
def test_the_fast_route_makes_nearly_what_the_plain_one_makes(observe, file, plain):
    model, route = load(file), choose().route
    layers = range(model.config.block_count)
    for layer in layers:
        x = plain.tensors[layer, "attn_norm"]
        names = [f"blk.{layer}.attn_{part}" for part in "qkv"]
        made = torch.cat(route.linear(x, [model.weight(name) for name in names]), dim=-1).double()
        if model.config.has_qkv_bias:
            made += joined(model, names, "bias")
        observe("qkv_error", relative_l2(made, plain.tensors[layer, "qkv"]))
        made = feed_forward(model, layer, plain.tensors[layer, "ffn_norm"], route=route)
        observe("ffn_error", relative_l2(made, plain.tensors[layer, "ffn_out"]))
    observe("layers", len(layers))


@pytest.mark.falsifies("FALSIFY-APR-GGUF-PARITY-007")
@pytest.mark.parametrize("architecture", MODELS)
def test_a_float32_model_takes_the_float32_route_unchanged(observe, architecture, tmp_path):
    path = tmp_path / "float32.gguf"
    shape = replace(SMALL, head_dim=16, mix="F32")
    write_fixture(path, 3, architecture=architecture, shape=shape)
    plain, *others = (
        traced(path),
        traced(path, "float"),
        traced(saved_by_hf(path, tmp_path / "folder")),
    )
    differing = [
        int((each.tensors[place] != made).sum())
        for each in others
        for place, made in plain.tensors.items()
    ]
    observe("differing_numbers", sum(differing))
    observe("numbers", sum(made.numel() for made in plain.tensors.values()))
    model = engine.load(path)
    observe("changed_weights", changed(path, model) + changed(path, model.to_float()))


def changed(path: Path, model: engine.Model) -> int:
    """Weights that are not the file's own numbers."""
    from gguf import GGUFReader

    return sum(
        int((torch.from_numpy(np.array(raw.data)) != model.weights[raw.name].dequantise()).sum())
        for raw in GGUFReader(path).tensors
    )
