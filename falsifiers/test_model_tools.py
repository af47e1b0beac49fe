"""The commands that look at models and make them: inspect, bench, fixture.

Oracles: the `gguf` package's reader, sums over its tensors, a clock that the test turns, a peer
that plays a script, and llama.cpp.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.gguf_reader import ReaderTensor

import engine
from benchmarks import cpu
from engine import bench, peer, traffic
from engine.bench_report import rates as own_rates
from engine.bench_table import profile_text
from engine.fixture import FixtureShape
from engine.gguf import Checkpoint
from engine.inspection import Fold, inspect
from engine.memory import memory_over, peak_memory, watching
from engine.profile import Spent, profile
from engine.tables import inspection_text
from falsifiers.altered import write_altered
from falsifiers.bench_cases import (
    BYTES_READ,
    KEYS,
    Hollow,
    Scripted,
    Ticks,
    Turned,
    bar_report,
    log_turns,
    play,
)
from falsifiers.in_process import Command
from falsifiers.kept_models import write_fixture
from falsifiers.sample_models import SMALL, write_model

TEMPLATE = "tokenizer.chat_template"
PLAN = bench.Plan(prompt_tokens=(8, 24), tokens=4, runs=3)
MEBI = 2**20
QUICK = ["--route", "plain", "--prompt-tokens", "8,24", "--tokens", "2", "--runs", "1"]


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """No pause between turns, and little to read."""
    monkeypatch.setattr(bench, "PAUSE", 0.0)
    monkeypatch.setattr(traffic, "READ", MEBI)


@pytest.fixture
def command(capsys, monkeypatch, tmp_path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capsys, monkeypatch)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """A model whose forward pass takes a millisecond."""
    path = tmp_path_factory.mktemp("tools") / "small.gguf"
    shape = replace(SMALL, layers=1, mix="F32")
    return write_fixture(path, architecture="qwen3", shape=shape)


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


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


@pytest.mark.falsifies("FALSIFY-TOOLS-004")
def test_bench_reports_what_the_clock_says(observe, monkeypatch, small, scripted):
    clock = Turned(engine.Model.forward)
    monkeypatch.setattr(engine.Model, "forward", lambda m, *a, **o: clock.forward(m, *a, **o))
    model, start = bench.start(small, PLAN, clock=clock)
    found = list(bench.samples(model, PLAN, scripted, clock=clock))
    order = [("prefill", 8), ("decode", 8), ("read", 0), ("prefill", 24), ("decode", 24)]
    order = [*order, ("read", 0)] * PLAN.runs
    observe("wrong_order", int([(s.stage, s.prompt_tokens) for s in found] != order))
    calls = [(8, 0)]
    for size in (8, 24) * PLAN.runs:
        calls += [(size, 0), *((1, size + i) for i in range(PLAN.tokens))]
    observe("wrong_passes", int(clock.calls != calls))
    costs = [0.001 * n * place for place, (n, _) in enumerate(clock.calls, start=1)]
    expected = expected_rates(costs[1:])
    rates = {(r.stage, r.prompt_tokens): (r.median, r.least, r.most) for r in own_rates(found)}
    pairs = [(x, y) for key in expected for x, y in zip(rates[key], expected[key], strict=True)]
    observe("rate_error", max(abs(x - y) / y for x, y in pairs))
    observe("start_error", abs(start.first_token_seconds - costs[0]) + start.load_seconds)
    observe("memory_misjudged", int(not resident() <= (peak_memory() or 0) < resident() + 2**36))


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
    options = ["--prompt-tokens", "8,24", "--tokens", "2", "--runs", "2", "--route", "plain"]
    whole = command("bench", small, *options, "--json", "-")
    with monkeypatch.context() as patch:
        # One pass at the start, three while memory is watched, three for each two samples.
        interrupt_at(patch, engine.Model, "forward", 1 + 3 + 8)  # in the sixth sample
        cut = command("bench", small, *options, "--json", "cut.json")
    reports = [json.loads(whole.out or "{}"), json.loads(read(tmp_path / "cut.json"))]
    counts = [sum(len(r["seconds"]) for r in report.get("rates", [])) for report in reports]
    observe("lost_samples", abs(counts[0] - 8) + abs(counts[1] - 5))
    complete = [report.get("complete") for report in reports]
    observe("interrupt_unsaid", int("interrupted" not in cut.out or complete != [True, False]))
    bad = [f"--prompt-tokens={each}" for each in ("0", "a", "999999", "-5")]
    wrong = [command("bench", small, each, "--route=plain").code - 2 for each in bad]
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


@pytest.mark.falsifies("FALSIFY-TOOLS-007")
@pytest.mark.parametrize("name", BYTES_READ)
def test_the_bytes_of_a_token_are_those_of_the_gguf_package(observe, tmp_path, name):
    architecture, shape = BYTES_READ[name]
    path = write_model(tmp_path, architecture, shape)
    opened = engine.open_checkpoint(path)
    config, positions = engine.ModelConfig.from_metadata(opened.metadata), range(20, 30)
    found = traffic.token_bytes(config, opened.tensors, positions, 4)
    weights = sum(read_of(tensor, shape) for tensor in GGUFReader(path).tensors)
    cached = 0.0
    for seen in positions:
        for layer in range(shape.layers):
            limited = shape.window and layer >= shape.window_from
            reach = min(seen, shape.window) if limited else seen
            cached += 2 * reach * shape.kv_heads * shape.head_dim * 4 / len(positions)
    observe("wrong_bytes", abs(found - weights - cached))


def read_of(tensor: ReaderTensor, shape: FixtureShape) -> int:
    """Bytes of a tensor that one token reads."""
    size = int(tensor.n_bytes)
    if tensor.name == "token_embd.weight":
        return size // int(tensor.shape[-1]) + (size if shape.tied else 0)
    return size * shape.experts_used // shape.experts if "_exps" in tensor.name else size


@pytest.mark.falsifies("FALSIFY-TOOLS-008")
def test_a_comparison_takes_turns_and_divides_the_medians(
    observe, command, monkeypatch, small, scripted
):
    turns = log_turns(monkeypatch)
    play(monkeypatch, scripted)
    ran = command("bench", small, *QUICK, "--runs", "3", "--compare", "llama.cpp", "--json", "-")
    report = json.loads(ran.out or "{}")
    sizes = [t for size in (8, 24) for t in (("engine", size), ("the peer", size), ("memory", 0))]
    observe("wrong_order", int(turns != [("engine", 8), ("the peer", 8), *sizes] * 3))
    observe("missing_keys", len(KEYS ^ report.keys()))
    rates = {(r["stage"], r["prompt_tokens"]): r["seconds"] for r in report["rates"]}
    theirs = {"prefill": scripted.runs[::2], "decode": scripted.runs[1::2]}
    expected = {
        ("first token", 8): median(scripted.launches[::2]) / median(scripted.launches[1::2])
    }
    for (stage, size), seconds in rates.items():
        place = (8, 24).index(size)
        expected[stage, size] = median(theirs[stage][place::2]) / median(seconds)
    ratios = {(r["stage"], r["prompt_tokens"]): r["ratio"] for r in report["compared"]["ratios"]}
    observe("missing_ratios", len(ratios.keys() ^ expected.keys()))
    observe("ratio_error", max(abs(ratios[key] / each - 1) for key, each in expected.items()))
    read = median(scripted.bytes / each for each in scripted.readings)
    errors = []
    for each in report["traffic"]:
        taken = each["bytes_per_token"] * 2 / median(rates["decode", each["prompt_tokens"]])
        errors += [each["share"] / (taken / read) - 1, each["bytes_per_second"] / taken - 1]
    observe("share_error", max(map(abs, errors)))
    observe("peers_left", int(scripted.closed != 1))


@pytest.mark.falsifies("FALSIFY-TOOLS-009")
def test_a_comparison_that_cannot_be_is_refused(observe, command, monkeypatch, small, tmp_path):
    ended = {
        "'ollama'": command("bench", small, "--compare", "ollama"),
        "folder": command("bench", tmp_path, "--compare", "llama.cpp"),
        "plain route": command("bench", small, *QUICK, "--profile"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(peer, "find_spec", lambda name: None)
        ended["tollens[oracles]"] = command("bench", small, "--compare", "llama.cpp")
    script = tmp_path / "ends.py"
    script.write_text("import sys; sys.exit('no such thing as a model')")
    with monkeypatch.context() as patch:
        patch.setattr(peer, "SCRIPT", script)
        patch.setattr(bench, "launch", lambda *arguments: 1.0)
        patch.setattr(peer, "version", lambda name: "1")
        patch.setattr(peer, "find_spec", lambda name: name)
        options = [*QUICK, "--compare", "llama.cpp"]
        ended["no such thing as a model"] = command("bench", small, *options)
    observe("wrong_exit_codes", sum(ran.code != 2 for ran in ended.values()))
    observe("unsaid", sum(word not in ran.err for word, ran in ended.items()))


@pytest.mark.falsifies("FALSIFY-TOOLS-010")
def test_memory_over_the_file_leaves_the_file_out(observe, command, small, tmp_path):
    path = tmp_path / "a file of 64 MiB"
    path.write_bytes(b"x" * 64 * MEBI)
    before = memory_over([path]) or 0
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        touched = sum(mapped[::4096])
        with_map, with_another = (memory_over(each) or 0 for each in ([path], [small]))
    observe("counted_of_the_map", abs(with_map - before) / MEBI)
    observe("uncounted_of_another_map", abs(with_another - before - 64 * MEBI) / MEBI)
    with watching(lambda: memory_over([path])) as seen:
        held = np.full(64 * MEBI, touched % 7, np.uint8)
        time.sleep(0.1)
        del held
    observe("unseen_of_what_was_held", abs(max(seen) - before - 64 * MEBI) / MEBI)
    ran = command("bench", small, *QUICK, "--json", "-")
    told = json.loads(ran.out or "{}").get("memory", {}).get("over_file") or 0
    observe("report_error", abs(told - (memory_over([small]) or 0)) / MEBI)


@pytest.mark.falsifies("FALSIFY-TOOLS-011")
@pytest.mark.parametrize("name", ["tiny", "tiny_dense"])
def test_a_profile_gives_each_stage_its_time(observe, request, monkeypatch, name):
    clock = Ticks()
    model = engine.load(request.getfixturevalue(name), route=Hollow(clock))
    embed = engine.Model._embed
    monkeypatch.setattr(engine.Model, "_embed", lambda m, *a: clock.spend(64, embed(m, *a)))
    layers, ticks = model.config.block_count, clock.ticks
    spent = {each.stage: each.seconds for each in profile(model, [1, 2, 3], 5, clock)}
    expected = {
        "qkv": layers * ticks["qkv"],
        "attention": layers * ticks["attention"],
        "output projection": layers * ticks["output"],
        "norms": (2 * layers + 1) * ticks["norm"],
        "router and experts": layers * ticks["feed-forward"],
        "logits": ticks["logits"],
        "embedding": ticks["embedding"],
        "sampling": 0,
        "rest": 64,
    }
    observe("wrong_stages", len(spent.keys() ^ expected.keys()))
    observe("stage_error", sum(abs(spent.get(each, 0) - expected[each]) for each in expected))
    text = "\n".join(profile_text([Spent(*each) for each in spent.items()]))
    observe("unsaid", sum(f"{1000 * each:.3f} ms" not in text for each in expected.values()))


@pytest.mark.falsifies("FALSIFY-TOOLS-012")
def test_llama_cpp_makes_the_same_tokens_of_the_same_prompts(observe, command, small):
    from engine.llama_child import Runner
    from falsifiers.llama_oracle import llama_greedy, opened

    model = engine.load(small)
    prompts = [bench.prompt(model, size) for size in (24, 8, 24)]
    runner = Runner(str(small), threads=1, context=40, batch=24)
    made = [runner.run(ids, 8)["tokens"] for ids in prompts]
    runner.close()
    with opened(small) as oracle:
        expected = [llama_greedy(oracle, ids, 9) for ids in prompts]
    expected += [list(engine.generate(model, ids, max_tokens=9)) for ids in prompts]
    pairs = list(zip(made * 2, expected, strict=True))
    observe("differing_texts", sum(x != y for x, y in pairs))
    observe("tokens", sum(len(x) for x, _ in pairs))
    ran = command("bench", small, *QUICK, "--compare", "llama.cpp", "--json", "-")
    report = json.loads(ran.out or "{}").get("compared") or {"rates": [], "ratios": []}
    observe("samples", sum(len(each["seconds"]) for each in report["rates"]))
    observe("ratios", len(report["ratios"]))
    launches = [report.get(key) or {} for key in ("first_token", "peer_first_token")]
    observe("launches", sum(len(each.get("seconds", ())) for each in launches))


@pytest.mark.falsifies("FALSIFY-TOOLS-013")
def test_a_bar_is_met_where_the_report_says_so(observe):
    at, below = bar_report(1.05, 0.85, 1.5, 1.0, 300e6), bar_report(1.04, 0.84, 1.4, 1.1, 301e6)
    observe("met_wrongly", sum(bar.met for bar in cpu.bars({"fastest": below})))
    unknown = bar_report(1.05, None, 1.5, 1.0, None)
    observe("unknown_but_met", sum(bar.met for bar in cpu.bars({"fastest": unknown})) - 3)
    bars = list(cpu.bars({"fastest": at, "torch": at}))
    observe("missed_wrongly", sum(not bar.met for bar in bars))
    observe("bars", len(bars))
    machine = {"processor": "A processor", "cores": 2, "flags": ["avx2"], "memory_bytes": 2**34}
    document = {"machine": machine, "versions": {"torch": "2"}, "date": "2026-01-01T00:00:00"}
    text = list(cpu.table({**document, "reports": {"fastest": at, "torch": below}}))
    observe("rows_of_the_table", sum(line.startswith("| ") for line in text) - 1)
    observe("machine_unsaid", int("A processor, 2 cores (avx2), 16 GiB" not in text[-1]))


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
