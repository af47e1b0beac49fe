"""Training: what a student gains by its teacher, what a run leaves, and how it ends.

A falling loss alone cannot tell a teacher from a mirror, nor from none at all. So what counts is
what the student shares with *its* teacher on text that neither learned from, over what it shares
with it after the same run under a twin: a teacher as good, from another seed.

Oracles: a loop in plain torch, HF transformers, a reader of safetensors of its own.
"""

import json
import os
import statistics
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from engine import plot
from engine.distill import checkpoint
from engine.distill.checkpoint import Progress
from engine.distill.curves import draw_curves
from engine.distill.data import open_data
from engine.distill.precompute import precompute
from engine.distill.run import Plan, prepare
from engine.distill.student import open_student
from engine.distill.teachers import ModelTeacher, open_teacher
from engine.errors import EngineError
from falsifiers import distill_cases as cases
from falsifiers.commands import surviving
from falsifiers.distill_cases import RECIPE, SEEDS, T, V, agreement, cosine, divergence, trained
from falsifiers.distill_oracles import Failing, Poisoned, Slow, mirror_of, plain_loop, rounded
from falsifiers.hf_folders import read_shard
from falsifiers.in_process import Command
from falsifiers.ran import Ran
from falsifiers.threads import one_thread  # noqa: F401 (a fixture)

CORPUS = os.environ.get("DISTILL_CORPUS_PATH")  # what `engine corpus` made
SHORT = replace(RECIPE, steps=12, heldout_every=4, heldout_windows=8, save_every=3)


@pytest.fixture(scope="module")
def pair() -> cases.Pair:
    return cases.embedded() if CORPUS is None else cases.on_corpus(Path(CORPUS))


@pytest.fixture(scope="module")
def runs(pair, tmp_path_factory):
    """Runs by teacher and seed, made when they are asked for, under whatever fault is planted."""
    return cache(lambda who, seed: pair.run(tmp_path_factory.mktemp(who), who, seed))


@pytest.fixture
def observe_pair(observe, runs):
    """`observe`, at level functional and with the curves where a corpus is given."""
    if CORPUS is None:
        return observe
    observe.at("functional", artifact=Path(CORPUS) / "manifest.json")
    kinds = [(who, seed) for who in ("teacher", "twin", "nobody") for seed in SEEDS]
    curves = runs("teacher", 0).run / "curves.png"
    plot.save(
        draw_curves({f"{who}, seed {seed}": runs(who, seed).rows for who, seed in kinds}), curves
    )
    observe.attach(curves)
    return observe


def gains(pair, runs, measure) -> list[float]:
    """What `measure` finds between student and teacher, over what it finds after the twin's run."""
    said = pair.said(pair.teachers[0])
    shared = [
        [measure(pair.said(runs(who, seed).model), said) for seed in SEEDS]
        for who in ("teacher", "twin")
    ]
    return [own - other for own, other in zip(*shared, strict=True)]


def observe_gain(observe, found: list[float], name: str = "agreement_gain") -> None:
    """The least of the seeds; their mean and spread."""
    observe(name, min(found))
    observe(f"{name}_mean", statistics.mean(found))
    observe(f"{name}_spread", statistics.stdev(found))
    observe("seeds", len(found))


@pytest.mark.falsifies("F-DISTILL-SMOKE-001")
def test_the_held_out_loss_falls_by_the_teacher(observe_pair, pair, runs):
    found = [runs("teacher", seed).held_out_at(500) for seed in SEEDS]
    observe_pair("heldout_ratio", max(after / before for before, after in found))
    observe_gain(observe_pair, gains(pair, runs, agreement))


@pytest.mark.falsifies("F-DISTILL-KD-001")
def test_the_loss_falls_within_a_hundred_steps(observe, pair, runs):
    found = [runs("teacher", seed).losses[:100] for seed in SEEDS]
    observe("loss_ratio", max(statistics.mean(each[-5:]) / each[0] for each in found))
    observe("steps", len(found[0]))
    observe_gain(observe, gains(pair, runs, agreement))


@pytest.mark.falsifies("F-DISTILL-KD-002")
def test_the_students_logits_turn_to_the_teachers(observe_pair, pair, runs):
    said = pair.said(pair.teachers[0])
    before = [cosine(pair.said(pair.fresh(seed)), said) for seed in SEEDS]
    after = [cosine(pair.said(runs("teacher", seed).model), said) for seed in SEEDS]
    observe_pair("cosine_rise", min(b - a for a, b in zip(before, after, strict=True)))
    observe_gain(observe_pair, gains(pair, runs, agreement))


@pytest.mark.falsifies("FALSIFY-APR-DISTILL-TRAIN-001")
@pytest.mark.parametrize("kind", cases.KINDS)
def test_the_tensors_of_the_file_really_change(observe, tmp_path, kind):
    run = trained(tmp_path, cases.teacher(), replace(RECIPE, steps=20), model=cases.student(kind))
    saved = engine_weights(tmp_path / "best")
    changed = {n: float((saved[n] - each).abs().max()) for n, each in run.before.items()}
    observe("least_change", min(changed.values()))
    observe("tensors_that_differ_from_the_student", differing_tensors(saved, run.model))


def engine_weights(folder: Path) -> dict[str, torch.Tensor]:
    import engine

    model = engine.load(folder)
    return {name: weight.dequantise() for name, weight in model.weights.items()}


def differing_tensors(saved, model) -> int:
    ours = cases.weights(model)
    return len(ours.keys() ^ saved.keys()) + sum(
        not torch.equal(saved[name], each) for name, each in ours.items() if name in saved
    )


@pytest.mark.falsifies("FALSIFY-APR-DISTILL-TRAIN-002")
def test_the_divergence_falls_without_rising_on_the_way(observe, tmp_path):
    said, found, model = cases.logits(cases.teacher()), [], cases.student()
    found.append(divergence(said, cases.logits(model)))

    def see(row):
        if row["step"] % 10 == 0 and "loss" in row:
            found.append(divergence(said, cases.logits(model)))

    trained(tmp_path, cases.teacher(), replace(RECIPE, alpha=0.0), model=model, see=see)
    observe("final_ratio", found[-1] / found[0])
    lowest = [min(found[: place + 1]) for place in range(len(found))]
    observe("rise", max(b / a - 1 for a, b in zip(lowest, found[1:], strict=False)))
    observe("looks", len(found))


@pytest.mark.falsifies("FALSIFY-APR-DISTILL-TRAIN-009")
def test_distilled_beats_from_scratch(observe_pair, runs):
    scratch, taught = (
        [runs(who, seed).held_out[-1] for seed in SEEDS] for who in ("nobody", "teacher")
    )
    found = [a - b for a, b in zip(scratch, taught, strict=True)]
    observe_gain(observe_pair, found, "loss_gain")


@pytest.mark.falsifies("F-DISTILL-LOOP-001")
@pytest.mark.parametrize("accumulate", [1, 4])
def test_the_loop_is_the_plain_one(observe, tmp_path, accumulate):
    recipe = replace(
        SHORT, steps=8, alpha=0.3, temperature=2.0, warmup=3, clip=0.5, accumulate=accumulate
    )
    compare_with_plain(observe, tmp_path, cases.teacher(), cases.teacher(), recipe)


def compare_with_plain(observe, place, by, teacher, recipe) -> cases.Trained:
    """A run by one, and torch's own functions by the other."""
    run = trained(place, by, recipe, model=cases.student("qwen3moe"))
    expected, losses = plain_loop(cases.student("qwen3moe"), teacher, recipe)
    found = cases.weights(run.model)
    observe("weight_error", max(float((found[n] - w).abs().max()) for n, w in expected.items()))
    errors = [abs(a - b) for a, b in zip(run.losses, losses, strict=True)]
    observe("loss_error", max(errors))
    return run


@pytest.mark.falsifies("F-DISTILL-ALONE-001")
def test_without_a_teacher_the_text_alone_is_learned(observe, command, arguments, tmp_path):
    recipe = replace(SHORT, steps=8, alpha=1.0, temperature=2.0)
    nobody = open_teacher("none")
    run = compare_with_plain(observe, tmp_path / "alone", nobody, cases.Silent(V), recipe)
    observe("agreements_with_nobody", sum("agreement" in row for row in run.rows))
    alone = [*arguments, "--teacher", "none", "--out", tmp_path / "run", "--dry-run"]
    ended = [command(*alone, "--alpha", alpha) for alpha in ("0", "0.5", "0.999")]
    observe("taken_with_a_share_for_nobody", sum(ran.code != 2 for ran in ended))
    observe("unclear", sum("alpha: found" not in ran.err for ran in ended))
    observe("refused_without", command(*alone, "--alpha", "1").code)


@pytest.mark.falsifies("F-DISTILL-PRECISION-001")
def test_half_precision_multiplies_and_keeps_nothing(observe, tmp_path):
    runs = {
        precision: trained(
            tmp_path / precision, cases.teacher(), replace(SHORT, precision=precision)
        )
        for precision in ("float32", "bf16")
    }
    full, half = (runs[each].losses for each in ("float32", "bf16"))
    first = abs(half[0] / full[0] - 1)
    observe("first_loss_off", first)
    observe("products_rounded", first > 0)
    observe("last_loss_off", abs(half[-1] / full[-1] - 1))
    kept = cases.weights(runs["bf16"].model).values()
    observe("weights_in_half", sum(each.dtype != torch.float32 for each in kept))
    saved = open_student(runs["bf16"].run / "last").parameters()
    coarse = [torch.equal(each, each.bfloat16().float()) for each in saved]
    observe("tensors_rounded_in_the_file", sum(coarse))


# Runs that stop


BY_HEART = replace(SHORT, alpha=1.0, learning_rate=0.03)  # whose held-out loss soon rises


@pytest.mark.falsifies("F-DISTILL-RESUME-001")
@pytest.mark.parametrize("at", [5, 6])
@pytest.mark.parametrize(("kind", "recipe"), [("qwen3", BY_HEART), ("qwen3moe", SHORT)])
def test_a_resumed_run_is_the_uninterrupted_one(observe, tmp_path, kind, recipe, at):
    def train(place, model, **options):
        source = cases.text(8 if recipe is BY_HEART else 64)
        return trained(place, cases.teacher(), recipe, model=model, source=source, **options)

    whole = train(tmp_path / "whole", cases.student(kind))
    rows, place = [], tmp_path / "stopped"
    train(place, cases.student(kind), see=rows.append, stopped=lambda: len(rows) > at)
    with (place / "metrics.jsonl").open("a") as metrics:  # steps that were never saved
        metrics.write(json.dumps({"step": 11, "loss": 0.0}) + '\n{"step": 1')
    saved = checkpoint.load(checkpoint.newest(place))
    model = checkpointed(place)
    resumed = train(place, model, saved=saved)
    observe("stopped_at", saved.progress.step)
    observe("differing_rows", differing_rows(whole.rows, resumed.rows))
    observe("differing_tensors", differing_tensors(cases.weights(whole.model), model))
    best = [os.readlink(run / "best") for run in (whole.run, resumed.run)]
    observe("differing_bests", int(best[0] != best[1]))


def checkpointed(run: Path):
    return open_student(checkpoint.newest(run))


TIMES = ("seconds", "made", "waited")


def differing_rows(a: list[dict], b: list[dict]) -> int:
    """Rows that are not equal, number by number, but for the clock."""
    left, right = ([{k: r[k] for k in r if k not in TIMES} for r in rows] for rows in (a, b))
    pairs = zip(left, right, strict=False)
    return abs(len(a) - len(b)) + sum(one != other for one, other in pairs)


@pytest.fixture
def command(capsys, monkeypatch):
    return Command(capsys, monkeypatch)


@pytest.fixture
def arguments(tmp_path) -> list[str]:
    """A run on the command line."""
    data, config = cases.stream(tmp_path / "data", 400), cases.config_file(tmp_path / "s.json")
    recipe = "--steps 12 --batch 8 --warmup 3 --learning-rate 0.01 --heldout-every 6 --alpha 0.2"
    pair = ["--teacher", str(cases.teacher_folder()), "--student", str(config), "--data", str(data)]
    return ["distill", *pair, *recipe.split(), "--seq-len", str(T), "--temperature", "1"]


@pytest.mark.falsifies("F-DISTILL-RESUME-002")
@pytest.mark.parametrize("number", [2, 15], ids=["SIGINT", "SIGTERM"])
def test_a_signal_saves_first_and_says_how_to_go_on(observe, command, arguments, tmp_path, number):
    run = tmp_path / "run"
    arguments = [*arguments, "--out", str(run), "--steps", "90"]
    sender = threading.Thread(target=send_when_begun, args=(run, number))
    with surviving() as let_through:
        sender.start()
        ran = command(*arguments)
        sender.join()
    observe("exit_code_off", abs(ran.code - 128 - number))
    observe("signals_let_through", len(let_through))
    rows = cases.read_metrics(run)
    last = max(row["step"] for row in rows)
    exists = (run / "last").exists()
    saved = checkpoint.load(run / "last").progress.step if exists else 0
    observe("steps_lost", last - saved)
    observe("stopped_early", int(last < 90))
    observe("resume_said", int(f"--resume {run}" in ran.out))


def send_when_begun(run: Path, number: int) -> None:
    """A signal to this process, when four steps are done."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if (run / "metrics.jsonl").exists() and len(cases.read_metrics(run)) > 4:
            break
        time.sleep(0.005)
    os.kill(os.getpid(), number)


@pytest.mark.falsifies("F-DISTILL-NONFINITE-001")
def test_a_loss_that_is_not_finite_stops_the_run(observe, tmp_path):
    teacher = Poisoned(cases.teacher(), 7)
    error, model = "", cases.student()
    try:
        trained(tmp_path, teacher, SHORT, model=model)
    except EngineError as found:
        error = str(found)
    observe("went_on", int(not error))
    windows = map(str, cases.text().batch(7, SHORT.batch).windows)
    observe("unnamed", sum(word not in error for word in ("step 8", ", ".join(windows), "last")))
    rows = cases.read_metrics(tmp_path)
    observe("steps_recorded", max(row["step"] for row in rows))
    observe("bad_weights", sum(int((~w.isfinite()).sum()) for w in cases.weights(model).values()))
    observe("last_checkpoint", checkpoint.load(tmp_path / "last").progress.step)


# Checkpoints


@pytest.mark.falsifies("F-DISTILL-CKPT-001")
@pytest.mark.parametrize("kind", cases.KINDS)
def test_a_checkpoint_holds_every_tensor(observe, tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    model = cases.student(kind, num_hidden_layers=2)
    recipe = replace(SHORT, steps=2, warmup=1, heldout_every=2)
    run = trained(tmp_path, cases.teacher(), recipe, model=model)
    batch = cases.held_out().take(range(8))
    expected = run.model.logits(batch.inputs).detach()
    stored = read_shard((tmp_path / "last/model.safetensors").read_bytes())
    numbers = sum(len(data) // 4 for _, _, data in stored.values())
    observe("numbers_missing", sum(w.numel() for w in run.before.values()) - numbers)
    if numbers == 0:
        observe("logit_error", float("inf"))
        observe("logit_error_in_hf", float("inf"))
        return
    again = checkpointed(tmp_path).logits(batch.inputs).detach()
    observe("logit_error", (again - expected).abs().max())
    hf, loading = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "last", output_loading_info=True
    )
    observe("numbers_missing", sum(map(len, (loading["missing_keys"], loading["unexpected_keys"]))))
    with torch.no_grad():
        observe("logit_error_in_hf", (hf(batch.inputs).logits - expected).abs().max())


@pytest.mark.falsifies("F-DISTILL-CKPT-002")
def test_a_crash_while_saving_leaves_the_checkpoint_before(observe, tmp_path, monkeypatch):
    tensors, hf = cases.weights(cases.student()), cases.config()

    def save(step, best_step, best=1.0):
        progress = Progress(step, best, best_step)
        return checkpoint.save(tmp_path, progress, tensors, {}, hf, None)

    save(1, 1)
    lost, crashes = 0, 0
    for name in ("save_file", "verify", "flush", "point"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, name, crash)
            with pytest.raises(Crash):
                save(2, 2)
        crashes += 1
        lost += sum(steps_at(tmp_path / link) != {1} for link in ("last", "best"))
    observe("checkpoints_lost", lost)
    observe("crashes", crashes)
    save(3, 3)
    save(4, 3)
    wrong = [steps_at(tmp_path / "last") != {4}, steps_at(tmp_path / "best") != {3}]
    observe("wrong_links", sum(wrong))
    left = {each.name for each in (tmp_path / "checkpoints").iterdir()}
    observe("leftovers", len(left ^ {"step-00000003", "step-00000004"}))


class Crash(BaseException):
    """The power is gone."""


def crash(*given, **options):
    raise Crash


def steps_at(link: Path) -> set[int]:
    """The step of a checkpoint that is whole."""
    try:
        return {checkpoint.load(link).progress.step}
    except (EngineError, OSError):
        return set()


# Who teaches


@pytest.mark.falsifies("F-DISTILL-V2-001-TEACHER-DIVERGENCE")
def test_a_long_run_under_a_mirror_is_refused(observe, tmp_path):
    own, data = cases.teacher_folder(), cases.stream(tmp_path / "data")
    copies = {name: mirror_of(own, tmp_path / name, name) for name in ("copy", "half", "renamed")}
    refused = [refused_as_mirror(copy, own, data, 5000) for copy in copies.values()]
    observe("mirrors_taken", refused.count(False))
    observe("mirrors", len(refused))
    twin = refused_as_mirror(cases.teacher_folder(1), own, data, 5000)
    short = refused_as_mirror(copies["copy"], own, data, 4999)
    allowed = refused_as_mirror(copies["copy"], own, data, 5000, allow_mirror=True)
    observe("good_refused", sum([twin, short, allowed]))


def refused_as_mirror(teacher: Path, student: Path, data: Path, steps: int, **options) -> bool:
    if teacher.name == "half":
        student = rounded(student, teacher.parent / "rounded")
    recipe = replace(RECIPE, steps=steps)
    plan = Plan(str(teacher), str(student), str(data), recipe, route="plain", **options)
    try:
        prepare(plan, teacher.parent / "run")
    except EngineError as error:
        return "student's" in str(error)
    return False


# The cache and the ring


@pytest.mark.falsifies("FALSIFY-APR-DISTILL-TRAIN-005")
def test_what_is_precomputed_is_the_same_every_time(observe, tmp_path):
    made = []
    for name in ("one", "two"):
        precompute(cases.teacher(), cases.text(16), tmp_path / name, k=8)
        made.append({each.name: each.read_bytes() for each in (tmp_path / name).iterdir()})
    observe(
        "differing_files", sum(made[0].get(n) != made[1].get(n) for n in {**made[0], **made[1]})
    )
    observe("files", len(made[0]))


@pytest.mark.falsifies("FALSIFY-APR-DISTILL-TRAIN-006")
def test_training_goes_on_from_the_cache_without_the_teacher(observe, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    precompute(cases.teacher(), cases.text(), cache, k=V)
    online = trained(tmp_path / "online", cases.teacher(), SHORT)
    asked = []
    for name in ("logits", "hidden"):
        honest = getattr(ModelTeacher, name)
        watch = lambda self, batch, honest=honest: asked.append(1) or honest(self, batch)  # noqa: E731
        monkeypatch.setattr(ModelTeacher, name, watch)
    teacher, rows = open_teacher(cache), []
    place = tmp_path / "cached"
    stop = {"see": rows.append, "stopped": lambda: len(rows) > 6}
    trained(place, teacher, SHORT, **stop)
    saved = checkpoint.load(checkpoint.newest(place))
    resumed = trained(place, teacher, SHORT, model=checkpointed(place), saved=saved)
    observe("teacher_forwards", len(asked))
    observe("steps", len(resumed.losses))
    pairs = zip(online.losses, resumed.losses, strict=True)
    observe("loss_off_the_online_one", max(abs(a - b) for a, b in pairs))


@pytest.mark.falsifies("F-DISTILL-RING-001")
def test_the_teacher_ahead_changes_no_number_and_hides_its_time(observe, tmp_path):
    runs = [
        trained(tmp_path / str(ahead), Slow(cases.teacher()), SHORT, ahead=ahead, see=pause)
        for ahead in (0, 3)
    ]
    observe("differing_rows", differing_rows(runs[0].rows, runs[1].rows))
    observe("differing_tensors", differing_tensors(cases.weights(runs[0].model), runs[1].model))
    shares = []
    for run in runs:
        steps = [row for row in run.rows if "waited" in row][2:]  # the first have nothing ahead
        shares.append(sum(r["waited"] for r in steps) / sum(r["made"] for r in steps))
    observe("waited_in_line", shares[0])
    observe("waited_ahead", shares[1])


def pause(row: dict) -> None:
    """What a student of some size takes."""
    time.sleep(0.02)


@pytest.mark.falsifies("F-DISTILL-RING-002")
def test_a_teacher_that_fails_stops_the_run_with_its_own_words(observe, tmp_path):
    error = None
    try:
        trained(tmp_path, Failing(cases.teacher()), SHORT, ahead=2)
    except EngineError as found:
        error = found
    observe("error", str(error))
    alive = [each for each in threading.enumerate() if each.name == "prefetch"]
    observe("threads_left", len(alive))


# Processes


@pytest.mark.falsifies("F-DISTILL-PARALLEL-001")
@pytest.mark.parametrize("sharding", ["ddp", "fsdp2"])
def test_two_processes_are_one(observe, tmp_path, sharding):
    from falsifiers.distill_processes import two_processes

    recipe = replace(SHORT, steps=5, accumulate=2, heldout_every=5)
    whole = trained(tmp_path / "one", cases.teacher(), recipe, model=cases.student("qwen3moe"))
    two_processes(tmp_path / "two", sharding, recipe)
    rows = cases.read_metrics(tmp_path / "two")
    for name, key in (("curve", "loss"), ("heldout", "heldout_loss"), ("norm", "grad_norm")):
        ours, theirs = ([r[key] for r in each if key in r] for each in (whole.rows, rows))
        pairs = zip(ours, theirs, strict=True)
        observe(f"{name}_error", max(abs(a - b) for a, b in pairs))
    saved = engine_weights(tmp_path / "two/last")
    ours = cases.weights(whole.model)
    observe("weight_error", max(float((saved[n] - w).abs().max()) for n, w in ours.items()))


# The command


@pytest.mark.falsifies("F-DISTILL-PIPELINE-001")
def test_from_a_teacher_and_a_text_to_a_better_student(observe, command, arguments, tmp_path):
    run = tmp_path / "run"
    ran = command(*arguments, "--out", run, "--json", "--steps", "40")
    rows = cases.read_metrics(run)
    losses = [row["loss"] for row in rows if "loss" in row]
    observe("exit_code", ran.code)
    observe("loss_ratio", statistics.mean(losses[-5:]) / losses[0])
    said = [row["agreement"] for row in rows if "agreement" in row]
    observe("agreement_rise", said[-1] - said[0])
    found = judged(run / "best", tmp_path / "data")
    best = min(row["heldout_loss"] for row in rows if "heldout_loss" in row)
    observe("heldout_off_the_reported", abs(found - best))
    observe("best_off_the_reported", abs(json.loads(ran.out)["best"] - best))
    wanted = ("dispatch.json", "metrics.jsonl", "curves.png", "best/config.json", "last")
    observe("missing_files", sum(not (run / name).exists() for name in wanted))


def judged(folder: Path, data: Path) -> float:
    """The held-out loss of a saved student, by the engine's own forward pass."""
    import engine

    _, held_out = open_data(data, T, vocabulary_size=V)
    batch = held_out.take(range(len(held_out)))
    try:
        logits = engine.load(folder).logits(batch.inputs)
    except EngineError:
        return float("inf")  # what cannot be loaded is worth nothing
    return float(functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten()))


@pytest.mark.falsifies("F-DISTILL-COMMAND-001")
def test_a_dry_run_writes_nothing_and_what_does_not_fit_is_said(
    observe, command, arguments, tmp_path
):
    run = tmp_path / "run"
    ran = command(*arguments, "--out", run, "--dry-run", "--json")
    observe("written_by_a_dry_run", int(run.exists()))
    plan = json.loads(ran.out)["plan"] if ran.code == 0 else {"recipe": {}}
    hyperparameters = set(RECIPE.to_dict()) - set(plan["recipe"])
    observe("hyperparameters_unsaid", len(hyperparameters))
    small = cases.config_file(tmp_path / "short.json", max_position_embeddings=4)
    wide = cases.config_file(tmp_path / "wide.json", vocab_size=V + 8)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/0.bin").write_bytes(b"12345")
    bad = [
        (["--teacher", tmp_path / "none"], "none"),
        (["--student", tmp_path / "none"], "none"),
        (["--student", small], "context length"),
        (["--student", wide], "vocabulary"),
        (["--data", tmp_path / "nowhere"], "nowhere"),
        (["--data", tmp_path / "odd"], "0.bin"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--teacher-device", "cuda:98"], "cuda:98"),
        (["--alpha", "1.5"], "alpha"),
        (["--accumulate", "3"], "accumulate"),
        (["--precision", "int3"], "precision"),
        (["--resume", run], "--resume"),
    ]
    ended = [(command(*arguments, "--out", run, *given), words) for given, words in bad]
    observe("accepted", sum(ran.code != 2 for ran, _ in ended))
    unclear = [ran.err for ran, words in ended if words not in ran.err or ran.err.count("\n") != 1]
    print(*unclear, sep="\n")
    observe("unclear", len(unclear))
    observe("refusals", len(ended))
    observe("written_by_refusals", int(run.exists()))
    begun = begun_on_a_gpu(tmp_path / "begun", ran)
    here = ("--device", "cpu", "--teacher-device", "cpu", "--route", "plain")
    looked = command("distill", "--resume", begun, *here, "--dry-run")
    print(looked.err)
    observe("looks_elsewhere_refused", int(looked.code != 0))
    moved = command("distill", "--resume", begun, *here)
    told = "--device: found it beside --resume" in moved.err
    observe("other_device_taken", int(moved.code != 2 or not told))


def begun_on_a_gpu(run: Path, dry: Ran) -> Path:
    """A run as it is before its first checkpoint, by a dry run's account, on a device not here."""
    run.mkdir()
    found = dry.json if dry.code == 0 else {"plan": {}}
    found["plan"] |= {"device": "cuda:99", "teacher_device": "cuda:99"}
    (run / "dispatch.json").write_text(json.dumps(found))
    (run / "metrics.jsonl").write_text("")
    return run


@pytest.mark.falsifies("F-DISTILL-COMMAND-002")
def test_a_run_goes_on_as_it_began_or_not_at_all(observe, command, arguments, tmp_path):
    run, rows = tmp_path / "run", []
    begun = command(*arguments, "--out", run)
    observe("exit_codes", begun.code)
    looks = [row for row in cases.read_metrics(run) if "heldout_loss" in row]
    told = [f"step {row['step']}: held-out loss {row['heldout_loss']:.4f}" for row in looks]
    observe("looks_untold", len(looks) - sum(line in begun.out for line in told))
    observe("looks", len(looks))
    before = (run / "metrics.jsonl").read_bytes()
    observe("written_over", int(command(*arguments, "--out", run).code != 2))
    done = command("distill", "--resume", run)
    observe("exit_codes", done.code)
    observe("rows_changed", int((run / "metrics.jsonl").read_bytes() != before))
    dispatch = json.loads((run / "dispatch.json").read_text())
    rows = [dispatch["digests"][name] for name in ("teacher", "data", "held_out")]
    observe("digests", len({each for each in rows if len(each) == 64}))
    early = tmp_path / "early"  # which ended before its first checkpoint
    early.mkdir()
    for name in ("dispatch.json", "metrics.jsonl"):
        (early / name).write_bytes((run / name).read_bytes())
    observe("exit_codes", command("distill", "--resume", early).code)
    observe("rows_changed", differing_rows(*map(cases.read_metrics, (early, run))))
    cases.stream(tmp_path / "other", 300)
    (tmp_path / "other/0.bin").replace(tmp_path / "data/0.bin")
    ran = command("distill", "--resume", run)
    observe("other_data_taken", int(ran.code != 2 or "other contents of data" not in ran.err))


# A real pair


@pytest.mark.falsifies("F-DISTILL-V2-001")
def test_a_large_students_best_held_out_loss(observe):
    run = Path(os.environ["DISTILL_V2_RUN_PATH"])
    observe.at("runtime", artifact=run / "best/model.safetensors")
    rows = cases.read_metrics(run)
    observe("best_heldout_loss", min(row["heldout_loss"] for row in rows if "heldout_loss" in row))
    observe("steps", max(row["step"] for row in rows))
    dispatch = json.loads((run / "dispatch.json").read_text())
    observe("mirror", dispatch["mirror"])
    observe("parameters", dispatch["parameters"])


@pytest.mark.falsifies("F-DISTILL-V2-002")
def test_a_large_students_humaneval(observe):
    run = Path(os.environ["DISTILL_V2_RUN_PATH"])
    observe.at("runtime", artifact=run / "best/model.safetensors")
    lines = Path(os.environ["DISTILL_V2_HUMANEVAL_PATH"]).read_text().splitlines()
    passed: dict[str, bool] = {}
    for row in map(json.loads, lines):
        if row.get("sample") == 0:  # the first line says what was run
            passed[row["task_id"]] = row["passed"]
    observe("pass_at_1", successes=sum(passed.values()), trials=len(passed))
    observe("problems", len(passed))
    observe("steps", max(row["step"] for row in cases.read_metrics(run)))
