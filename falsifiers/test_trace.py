"""Traces and comparisons: their statistics, what they name, what they refuse, how they are shown.

Oracles: numpy in float64, and HF transformers' own modules through hooks.
"""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import engine
from engine.compare import compare
from engine.errors import EngineError, FormatError
from engine.trace import EXPERTS, Recording, Stage, read_trace, record
from engine.weights import Floats
from falsifiers import trace_cases
from falsifiers.in_process import Command
from falsifiers.kept_models import write_fixture
from falsifiers.sample_models import SMALL

IDS = list(range(5, 96, 7))  # tokens
PARTS = ("mean", "std", "min", "max")


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A mixture of experts in float32 that takes milliseconds."""
    path = tmp_path_factory.mktemp("trace") / "small.gguf"
    return write_fixture(path, 4, shape=replace(SMALL, layers=3, mix="F32"))


@pytest.fixture(scope="session")
def small_dense(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "dense.gguf"
    shape = replace(SMALL, head_dim=16, layers=3, mix="F32")
    return write_fixture(path, 4, architecture="qwen2", shape=shape)


@pytest.fixture
def model(small) -> engine.Model:
    return engine.load(small).to_float()


@pytest.fixture
def command(capsys, monkeypatch, tmp_path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capsys, monkeypatch)


def statistics_of(x: np.ndarray) -> dict[str, float | None]:
    """Of the finite numbers, in float64, by their definitions."""
    x = x[np.isfinite(x)].astype(np.float64)
    if not x.size:
        return dict.fromkeys(PARTS)
    mean = math.fsum(x) / x.size
    std = math.sqrt(math.fsum((x - mean) ** 2) / x.size)
    return {"mean": mean, "std": std, "min": x.min(), "max": x.max()}


def error_of(found: float | None, expected: float | None, scale: float) -> float:
    if found is None or expected is None:
        return 0.0 if found is expected else math.inf
    return abs(found - expected) / scale


@pytest.mark.falsifies("FALSIFY-TRACE-001")
@pytest.mark.parametrize("kind", trace_cases.TENSORS)
def test_statistics_are_numpys_in_float64(observe, kind):
    made = trace_cases.TENSORS[kind](np.random.default_rng(1))
    found, expected = Stage.of(0, "qkv", torch.from_numpy(made)), statistics_of(made)
    finite = made[np.isfinite(made)].astype(np.float64)
    scale = float(np.abs(finite).max(initial=0)) or 1.0
    observe("max_error", max(error_of(getattr(found, p), expected[p], scale) for p in PARTS))
    observe("std_error", error_of(found.std, expected["std"], expected["std"] or 1.0))
    observe("wrong_counts", int(found.count != made.size))
    observe("wrong_nonfinite", int(found.nonfinite != made.size - finite.size))


@pytest.mark.falsifies("FALSIFY-TRACE-002")
@pytest.mark.parametrize("tokens", ["last", "all"])
@pytest.mark.parametrize("name", ["tiny", "small_dense"])
def test_stages_are_those_of_hf_transformers(observe, request, name, tokens):
    from falsifiers.hf_stages import hf_stages

    path = request.getfixturevalue(name)
    expected = hf_stages(path, IDS)
    rows = slice(-1, None) if tokens == "last" else slice(None)
    found = record(engine.load(path), IDS, tokens=tokens).trace
    chosen = [made[rows].tolist() for (_, stage), made in expected.items() if stage == EXPERTS]
    places = [place for place in expected if place[1] != EXPERTS]
    of = {stage.place: stage for stage in found.stages}
    observe("missing_stages", len(of.keys() ^ set(places)))
    observe("wrong_shapes", sum(of[p].shape != tuple(expected[p][rows].shape) for p in of))
    observe("max_error", max(stage_error(of[p], expected[p][rows].numpy()) for p in of))
    observe("other_experts", int([[list(t) for t in layer] for layer in found.experts] != chosen))
    observe("stages", len(of))


def stage_error(found: Stage, made: np.ndarray) -> float:
    expected = statistics_of(made)
    return max(error_of(getattr(found, p), expected[p], expected["std"]) for p in PARTS)


@pytest.mark.falsifies("FALSIFY-TRACE-003")
@pytest.mark.parametrize("case", trace_cases.CHANGES)
def test_the_first_place_that_leaves_the_band_is_named(observe, model, case):
    weight, change, stage = trace_cases.CHANGES[case]
    before = record(model, IDS, keep=True)
    wrong = 0
    for layer in range(model.config.block_count):
        name = weight.format(layer=layer)
        tensor = change(model.weights[name].dequantise())
        changed = engine.Model(model.config, {**model.weights, name: Floats(name, tensor)})
        found = compare(before, record(changed, IDS, keep=True)).first
        expected = (None if stage == "output" else layer, stage)
        wrong += found is None or found.place != expected
    observe("wrong_places", wrong)
    again = compare(before, record(model, IDS, keep=True))
    observe("false_alarms", sum(bool(line.fault) for line in again.lines))
    observe("layers", model.config.block_count)


@pytest.mark.falsifies("FALSIFY-TRACE-004")
@pytest.mark.parametrize("tokens", ["last", "all"])
def test_ratios_cosines_and_shares_are_numpys(observe, model, tokens):
    noise = torch.Generator().manual_seed(0)
    weights = {
        name: Floats(name, w.tensor + 0.1 * w.tensor.std() * torch.randn(w.shape, generator=noise))
        for name, w in model.weights.items()
    }
    other = engine.Model(model.config, weights)
    a, b = (record(each, IDS, tokens=tokens, keep=True) for each in (model, other))
    lines = compare(a, b).lines
    expected = [trace_cases.line_of(line.place, a.tensors, b.tensors) for line in lines]
    pairs = list(zip(lines, expected, strict=True))
    for part in ("ratio", "cosine", "experts"):
        errors = [error_of(getattr(line, part), each.get(part), 1.0) for line, each in pairs]
        observe(f"{part}_error", max(errors))
    observe("flipped_choices", sum(line.experts not in (None, 1.0) for line in lines))
    observe("lines", len(lines))


@pytest.mark.falsifies("FALSIFY-TRACE-005")
def test_traces_of_unlike_things_are_not_compared(observe, small, small_dense, tiny):
    pairs = trace_cases.unlike_pairs(small, small_dense, tiny, IDS)
    said = {name: refusal(*pair) for name, pair in pairs.items()}
    print(said)
    observe("accepted", sum(error is None for error in said.values()))
    clear = [all(word in str(error) for word in ("found", "expected")) for error in said.values()]
    observe("unclear_errors", clear.count(False))
    observe("pairs", len(pairs))


def refusal(a: Recording, b: Recording) -> EngineError | None:
    try:
        compare(a, b)
    except EngineError as error:
        return error
    except Exception:  # to fail later is not to refuse
        return None
    return None


@pytest.mark.falsifies("FALSIFY-TRACE-006")
def test_json_is_strict_and_whole(observe, model, tmp_path):
    path, strange = tmp_path / "trace.json", []
    name = "blk.1.ffn_up_exps.weight"
    weights = {**model.weights, name: Floats(name, model.weights[name].dequantise() * 1e38)}
    trace = record(engine.Model(model.config, weights), IDS, tokens="all").trace
    path.write_text(trace.to_json())
    document = json.loads(path.read_text(), parse_constant=strange.append)
    observe("strange_numbers", len(strange))
    observe("lost", int(read_trace(path) != trace))
    said = [refused(path, text) for text in trace_cases.bad_documents(document)]
    observe("bad_documents_accepted", sum(error is None for error in said))
    observe("bad_documents", len(said))
    infinite = [stage for stage in document["stages"] if stage["nonfinite"]]
    observe("nonfinite_stages", len(infinite))
    observe("nonfinite_before_the_fault", sum(stage["layer"] == 0 for stage in infinite))


def refused(path: Path, text: str) -> FormatError | None:
    path.write_text(text)
    try:
        read_trace(path)
    except FormatError as error:
        return error
    return None


@pytest.mark.falsifies("FALSIFY-TRACE-007")
def test_the_command_says_what_it_traced_and_how_it_ended(observe, command, small, tmp_path):
    cases = trace_cases.commands(shutil.copy(small, "small.gguf"))
    ran = {name: command("trace", *arguments) for name, (arguments, _) in cases.items()}
    wrong = {name: ran[name].code for name, (_, code) in cases.items() if ran[name].code != code}
    print(wrong, [each.err for each in ran.values()])
    observe("wrong_exit_codes", len(wrong))
    printed = [line for name, each in ran.items() if name != "json" for line in each.lines]
    observe("wide_lines", sum(len(line) > 80 for line in printed))
    observe("colours", sum("\x1b" in each.out + each.err for each in ran.values()))
    said = ["last of 3 tokens" in ran["last"].out, "all 3 tokens" in ran["all"].out]
    observe("tokens_unsaid", said.count(False))
    observe("stages_unshown", len(unshown(ran["all"], tmp_path / "all.json")))
    first = "first outside: layer 1, ffn_gate: found ratio 3"
    observe("first_place_unsaid", int(first not in ran["outside"].out))
    observe("lines_on_error", max(each.err.count("\n") for each in ran.values() if each.code == 2))
    report = json.loads(ran["json"].out)
    observe("wrong_first_in_json", int((report["first"] or {}).get("stage") != "ffn_gate"))


def unshown(ran, path: Path) -> list[Stage]:
    """Stages of the trace whose numbers are not on their line of the table."""
    rows = [line.split() for line in ran.lines]
    return [
        stage
        for stage in read_trace(path).stages
        if [
            "-" if stage.layer is None else str(stage.layer),
            stage.stage,
            str(stage.count),
            *(f"{getattr(stage, part):.4g}" for part in PARTS),
            str(stage.nonfinite),
        ]
        not in rows
    ]


@pytest.mark.falsifies("FALSIFY-TRACE-008")
def test_plots_show_the_numbers(observe, model, small, command, tmp_path):
    from engine.plot import draw_comparison, draw_trace

    name = "blk.1.ffn_gate_exps.weight"
    weights = {**model.weights, name: Floats(name, model.weights[name].dequantise() * 3)}
    a, b = (record(m, IDS, keep=True) for m in (model, engine.Model(model.config, weights)))
    comparison = compare(a, b)
    figures = draw_trace(a.trace), draw_comparison(comparison)
    found = set().union(*map(trace_cases.points, figures))
    expected = trace_cases.drawn_lines(a.trace, comparison)
    observe("wrong_lines", len(set(expected) - found))
    observe("lines", len(expected))
    observe("first_place_unmarked", int(1 not in trace_cases.marks(figures[1])))
    picture = tmp_path / "trace.png"
    command("trace", small, "--ids", "1,2,3", "--plot", picture)
    observe("pictures", int(picture.exists() and picture.read_bytes()[:4] == b"\x89PNG"))
