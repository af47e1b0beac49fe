"""The commands that look at models and make them: inspect, bench, fixture.

Oracles: the `gguf` package's reader, sums over its tensors, and a clock that the test turns.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

import engine
from engine import bench
from engine.gguf import Checkpoint
from engine.inspection import Fold, inspect
from engine.tables import inspection_text
from falsifiers.altered import write_altered
from falsifiers.in_process import Command
from falsifiers.sample_models import SMALL

TEMPLATE = "tokenizer.chat_template"
PLAN = bench.Plan(prompt_tokens=(8, 24), tokens=4, runs=3)


@pytest.fixture
def command(capsys, monkeypatch, tmp_path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capsys, monkeypatch)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A model whose forward pass takes a millisecond."""
    path = tmp_path_factory.mktemp("tools") / "small.gguf"
    shape = replace(SMALL, layers=1, mix="F32")
    return engine.write_fixture(path, architecture="qwen3", shape=shape)


@pytest.mark.falsifies("FALSIFY-TOOLS-001")
@pytest.mark.parametrize("name", ["tiny", "tiny_dense"])
def test_inspect_counts_what_the_gguf_package_counts(observe, request, command, name):
    path = request.getfixturevalue(name)
    tensors, found = GGUFReader(path).tensors, inspect(engine.open_checkpoint(path))
    counts = Counter(t.tensor_type.name for t in tensors)
    total = sum(int(t.n_elements) for t in tensors)
    idle = sum(int(t.n_elements) * 6 // 8 for t in tensors if "_exps" in t.name)  # 2 of 8 experts
    expected = {(t.name, t.tensor_type.name, tuple(t.shape[::-1].tolist())) for t in tensors}
    unfolded = [each for fold in found.folds for each in unfold(fold)]
    observe("wrong_totals", sum([found.parameters != total, found.active != total - idle]))
    observe("wrong_types", len({t.type: t.tensors for t in found.types}.items() ^ counts.items()))
    observe("wrong_bytes", sum(t.bytes for t in found.types) - sum(int(t.n_bytes) for t in tensors))
    observe("wrong_tensors", len(set(unfolded) ^ expected) + len(unfolded) - len(expected))
    out = command("inspect", path, "--tensors").out
    unsaid = [t.name for t in tensors if t.name not in out]
    observe("unsaid", len(unsaid) + sum(f"{n:,}" not in out for n in (total, total - idle)))
    observe("lines_per_tensor", len(list(found.folds)) / len(tensors))


def unfold(fold: Fold) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    names = [f"blk.{layer}.{fold.name}" for layer in fold.layers] or [fold.name]
    return ((name, fold.type, fold.shape) for name in names)


@pytest.mark.falsifies("FALSIFY-TOOLS-002")
def test_inspect_shows_what_the_engine_refuses_and_says_so(observe, command, tiny, tmp_path):
    refused = {
        write_altered(tiny, tmp_path / "llama.gguf", architecture="llama"): "llama",
        write_altered(tiny, tmp_path / "less.gguf", without=["blk.1.attn_q.weight"]): "attn_q",
        write_altered(tiny, tmp_path / "cut.gguf", shortened=["blk.2.ffn_norm.weight"]): "ffn_norm",
        write_altered(
            tiny, tmp_path / "mute.gguf", without=["tokenizer.chat_template"]
        ): "template",
        write_altered(tiny, tmp_path / "pre.gguf", without=["tokenizer.ggml.pre"]): "ggml.pre",
        write_of_another_type(tmp_path / "type.gguf"): "IQ4_NL",
    }
    ran = {path: command("inspect", path, "--json", "-") for path in refused}
    documents = {path: json.loads(each.out or "{}") for path, each in ran.items()}
    observe("not_shown", sum(each.code != 0 or "tensors" not in each.out for each in ran.values()))
    warned = [word in str(documents[path].get("warnings")) for path, word in refused.items()]
    observe("not_warned", warned.count(False))
    observe("refused_files", len(refused))
    observe("false_warnings", len(inspect(engine.open_checkpoint(tiny)).warnings))
    (tmp_path / "none.gguf").write_bytes(b"GGUX")
    observe("wrong_exit_codes", int(command("inspect", "none.gguf").code != 2))


def write_of_another_type(path: Path) -> Path:
    writer = GGUFWriter(path, "qwen3")
    kind = GGMLQuantizationType.IQ4_NL
    writer.add_tensor("token_embd.weight", np.zeros((2, 18), np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.falsifies("FALSIFY-TOOLS-003")
def test_inspect_is_quick_and_a_file_cannot_write_to_the_terminal(observe, tiny):
    good = engine.open_checkpoint(tiny)
    hostile = {
        "general.name": "\x1b[31mred\x07\u202e",
        "tokenizer.chat_template": "\x1b]0;title\x07\n" + "x" * 500 + "\n\n",
        "tokenizer.ggml.tokens": [f"token{i}\x1b[2J" for i in range(151_936)],
        "tokenizer.ggml.token_type": [1] * 151_936,
        "qwen3moe.of\x1b[1mkey": [1.5] * 1000,
    }
    metadata = {**good.metadata, **hostile}
    began = time.perf_counter()
    lines = list(inspection_text(inspect(Checkpoint(tiny, metadata, good.tensors))))
    observe("seconds", time.perf_counter() - began)
    shown = [line for line in "\n".join(lines[2:]).split("\n") if line]
    observe("wide_lines", sum(len(line) > 80 for line in shown))
    observe("control_characters", sum(not line.isprintable() for line in shown))
    observe("lines", len(shown))


class Turned:
    """A clock that only a forward pass moves: 1 ms per token, and longer with each run."""

    def __init__(self, forward) -> None:
        self.seconds, self.calls, self._forward = 0.0, [], forward

    def __call__(self) -> float:
        return self.seconds

    def forward(self, model, ids, cache=None, **options):
        self.calls.append((len(ids), cache.length))
        self.seconds += 0.001 * len(ids) * len(self.calls)
        return self._forward(model, ids, cache, **options)


@pytest.mark.falsifies("FALSIFY-TOOLS-004")
def test_bench_reports_what_the_clock_says(observe, monkeypatch, small):
    clock = Turned(engine.Model.forward)
    monkeypatch.setattr(engine.Model, "forward", lambda m, *a, **o: clock.forward(m, *a, **o))
    model, start = bench.start(small, PLAN, clock=clock)
    found = list(bench.samples(model, PLAN, clock))
    order = [("prefill", 8), ("decode", 8), ("prefill", 24), ("decode", 24)] * PLAN.runs
    observe("wrong_order", int([(s.stage, s.prompt_tokens) for s in found] != order))
    calls = [(8, 0)]
    for size in (8, 24) * PLAN.runs:
        calls += [(size, 0), *((1, size + i) for i in range(PLAN.tokens))]
    observe("wrong_passes", int(clock.calls != calls))
    costs = [0.001 * n * place for place, (n, _) in enumerate(clock.calls, start=1)]
    expected = expected_rates(costs[1:])
    rates = {(r.stage, r.prompt_tokens): (r.median, r.least, r.most) for r in bench.rates(found)}
    pairs = [(x, y) for key in expected for x, y in zip(rates[key], expected[key], strict=True)]
    observe("rate_error", max(abs(x - y) / y for x, y in pairs))
    observe("start_error", abs(start.first_token_seconds - costs[0]) + start.load_seconds)
    observe(
        "memory_misjudged", int(not resident() <= (bench.peak_memory() or 0) < resident() + 2**36)
    )


def expected_rates(costs: list[float]) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Median, least and most tokens per second by stage and prompt."""
    per_prompt = 1 + PLAN.tokens
    speeds: dict[tuple[str, int], list[float]] = {}
    for place, size in enumerate(PLAN.prompt_tokens * PLAN.runs):
        prefill, *decode = costs[place * per_prompt : (place + 1) * per_prompt]
        speeds.setdefault(("prefill", size), []).append(size / prefill)
        speeds.setdefault(("decode", size), []).append(PLAN.tokens / sum(decode))
    return {key: (median(each), min(each), max(each)) for key, each in speeds.items()}


def resident() -> int:
    """Bytes that this process holds now; 0 where the system does not tell."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.falsifies("FALSIFY-TOOLS-005")
def test_an_interrupted_bench_keeps_its_samples(observe, command, monkeypatch, small, tmp_path):
    options = ["--prompt-tokens", "8,24", "--tokens", "2", "--runs", "2"]
    whole = command("bench", small, *options, "--json", "-")
    with monkeypatch.context() as patch:
        interrupt_at(patch, engine.Model, "forward", 9)  # in the sixth sample
        cut = command("bench", small, *options, "--json", "cut.json")
    reports = [json.loads(whole.out or "{}"), json.loads(read(tmp_path / "cut.json"))]
    counts = [sum(len(r["seconds"]) for r in report.get("rates", [])) for report in reports]
    observe("lost_samples", abs(counts[0] - 8) + abs(counts[1] - 5))
    complete = [report.get("complete") for report in reports]
    observe("interrupt_unsaid", int("interrupted" not in cut.out or complete != [True, False]))
    bad = [f"--prompt-tokens={each}" for each in ("0", "a", "999999", "-5")]
    wrong = [command("bench", small, each).code - 2 for each in bad]
    observe("wrong_exit_codes", sum(map(bool, [whole.code, cut.code - 130, *wrong])))


@pytest.mark.falsifies("FALSIFY-TOOLS-006")
def test_fixture_writes_what_it_was_asked_for_or_nothing(observe, command, monkeypatch, tmp_path):
    asked = ["--layers", "1", "--mix", "Q8_0", "--architecture", "qwen2"]
    ended = {"made": command("fixture", "made.gguf", *asked).code}
    model = engine.load("made.gguf")
    types = {t.type for t in inspect(engine.open_checkpoint("made.gguf")).types}
    made = (model.config.architecture, model.config.block_count, types)
    observe("wrong_fixture", int(made != ("qwen2", 1, {"Q8_0", "F32"})))
    with monkeypatch.context() as patch:
        interrupt_at(patch, engine.fixture.Random, "blocks", 5)
        ended["interrupted"] = command("fixture", "b.gguf").code - 130
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
        ended["full disk"] = command("fixture", "c.gguf").code - 2
    for bad in (["--shape", "x"], ["--mix", "Q1"], ["--architecture", "gpt"], ["--layers", "0"]):
        ended[" ".join(bad)] = command("fixture", "d.gguf", *bad).code - 2
    ended["no folder"] = command("fixture", "none/e.gguf").code - 2
    print(ended)
    observe("wrong_exit_codes", sum(code != 0 for code in ended.values()))
    observe("files_left", len({path.name for path in tmp_path.iterdir()} ^ {"made.gguf"}))


def interrupt_at(monkeypatch, owner: type, name: str, call: int) -> None:
    """Ctrl-C at the given call of a method."""
    calls, original = [], getattr(owner, name)

    def counted(*arguments, **options):
        calls.append(name)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else "{}"
