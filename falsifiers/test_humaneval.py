"""Tries to refute HumanEval's scores, and the sandbox that they depend on.

Oracles: the canonical solutions, and the same with a wrong value at their end; subsets counted one
by one, and intervals by their definition; programs that try to get out, seen from outside; for
completions, the whole prompt through the model without a cache.
"""

import json
import math
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import engine
from engine import cli_eval
from engine.evaluation import completing, estimate, values
from engine.evaluation.completing import Completer, Drawing
from engine.evaluation.humaneval import run, score
from engine.evaluation.ledger import Ledger
from engine.evaluation.problems import Problem, read_problems
from engine.evaluation.sandbox import Limits, Sandbox, Verdict
from falsifiers.differences import differing
from falsifiers.hostile_programs import HONEST, LIMITS, PROGRAMS, ROOMS, Hostile
from falsifiers.in_process import Command
from falsifiers.outside import SECRET, Outside, outside, without_namespaces
from falsifiers.small_problems import PROBLEMS, bad_problem_files, broken, write_lines

MODEL = os.environ.get("HUMANEVAL_MODEL_PATH")
GIVEN = os.environ.get("HUMANEVAL_PATH")
SETTLED = Limits(seconds=10)  # on a machine that is busy, a right answer is not to be late
WORKERS = 4


@pytest.fixture(scope="module")
def namespaces() -> None:
    """Block what needs them where the kernel keeps them from this user, by util-linux's word."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    made = ["unshare", *user, "--mount", "--net", "--pid", "--ipc", "--uts", "--fork"]
    if shutil.which("unshare") is None:
        return
    done = subprocess.run([*made, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
    if done.returncode:
        pytest.skip(f"the kernel gives this user no namespaces: {done.stderr.decode().strip()}")


@pytest.fixture
def small(tmp_path) -> Path:
    return write_lines(tmp_path / "small.jsonl", PROBLEMS)


@pytest.fixture
def command(capsys, monkeypatch) -> Command:
    """`python -m engine eval humaneval …`, in this process."""
    return Command(capsys, monkeypatch)


def judged(sandbox: Sandbox, problems: list[Problem], texts: list[str]) -> list[Verdict]:
    """A verdict for each problem and its completion."""
    with ThreadPoolExecutor(WORKERS) as pool:
        trials = [problem.trial(text) for problem, text in zip(problems, texts, strict=True)]
        return list(pool.map(sandbox.judge, trials))


@pytest.fixture(scope="module")
def real_score(tmp_path_factory) -> tuple[int, int]:
    """How many problems the given model solves with its first answer, of how many."""
    problems = read_problems(Path(GIVEN))
    complete = cli_eval.open_completer(Path(MODEL), Drawing(), "cpu", "auto")
    ledger = Ledger(None, {})
    with Sandbox.open() as sandbox:
        for _ in run(problems, 1, complete, sandbox, ledger, workers=2):
            pass
    found = score(problems, 1, ledger)
    return found.passed, found.problems


@pytest.mark.falsifies("F-HUMANEVAL-V2-001")
@pytest.mark.usefixtures("namespaces")
def test_a_model_solves_an_eighth(observe, real_score):
    observe.at("runtime", artifact=MODEL)
    observe("pass_at_1", successes=real_score[0], trials=real_score[1])


@pytest.mark.falsifies("F-HUMANEVAL-V2-002")
@pytest.mark.usefixtures("namespaces")
def test_a_model_solves_a_quarter(observe, real_score):
    observe.at("runtime", artifact=MODEL)
    observe("pass_at_1", successes=real_score[0], trials=real_score[1])


@pytest.mark.falsifies("F-HUMANEVAL-ORACLE-001")
@pytest.mark.usefixtures("namespaces")
def test_canonical_solutions_pass_and_broken_ones_do_not(observe):
    problems = read_problems(Path(GIVEN))
    with Sandbox(SETTLED) as sandbox:
        right = judged(sandbox, problems, [each.canonical_solution for each in problems])
        wrong = judged(sandbox, problems, [broken(vars(each)) for each in problems])
    print([p.task_id for p, v in zip(problems, right, strict=True) if not v.passed])
    print([p.task_id for p, v in zip(problems, wrong, strict=True) if v.passed])
    observe("canonical_passed", sum(each.passed for each in right))
    observe("broken_passed", sum(each.passed for each in wrong))
    observe("problems", len(problems))


def counted(samples: int, passed: int, k: int) -> Fraction:
    """pass@k by its definition: of all choices of k samples, those with one that passed."""
    choices = list(combinations(range(samples), k))
    return Fraction(sum(any(each < passed for each in choice) for choice in choices), len(choices))


def closed_form(samples: int, passed: int, k: int) -> Fraction:
    """The same for many samples, exactly."""
    return 1 - Fraction(math.comb(samples - passed, k), math.comb(samples, k))


@pytest.mark.falsifies("F-HUMANEVAL-ORACLE-002")
def test_pass_at_k_is_the_unbiased_estimate_with_its_interval(observe):
    few = [(n, c, k) for n in range(1, 9) for c in range(n + 1) for k in range(1, n + 1)]
    many = [
        (n, c, k) for n in (100, 200) for c in (0, 1, 7, n // 2, n - 1, n) for k in (1, 10, 100)
    ]
    errors = [abs(estimate.pass_at_k(*case) - counted(*case)) for case in few]
    errors += [abs(estimate.pass_at_k(*case) - closed_form(*case)) for case in many]
    observe("error", float(max(errors)))
    observe("cases", len(errors))
    observe("interval_error", max(off_the_interval(count) for count in (0, 1, 27, 82, 163, 164)))
    observe("coverage", coverage(samples=1))
    observe("coverage", coverage(samples=10))


def off_the_interval(passed: int) -> float:
    """How far the ends are from where the normal's 97.5 % point has the rate; 164 problems."""
    found = estimate.estimate([(1, 1)] * passed + [(1, 0)] * (164 - passed), 1)
    rate, z2 = passed / 164, 1.959963984540054**2
    ends = [abs((rate - p) ** 2 - z2 * p * (1 - p) / 164) for p in (found.low, found.high)]
    return max(*ends, found.low - rate, rate - found.high)


def coverage(samples: int) -> float:
    """How often the interval holds the truth, over benchmarks of 50 problems drawn anew."""
    random, held = np.random.default_rng(0), 0
    for _ in range(1000):
        rates = random.beta(0.4, 1.2, size=50)  # of mean 0.25, most problems hard
        passed = random.binomial(samples, rates)
        found = estimate.estimate([(samples, int(each)) for each in passed], 1)
        held += found.low <= 0.25 <= found.high
    return held / 1000


def tried(room: str, world: Outside) -> dict[str, tuple[Verdict, float]]:
    """What came of each hostile program in one room, and after how long; of an honest one last.

    That one has more time, as a busy machine may let it wait.
    """
    hostile = {name: each for name, each in PROGRAMS.items() if room in each.rooms}
    with Sandbox(LIMITS, ROOMS[room]) as sandbox, ThreadPoolExecutor(16) as pool:

        def try_one(program: Hostile) -> tuple[Verdict, float]:
            began = time.monotonic()
            return sandbox.judge(program.trial(world)), time.monotonic() - began

        ends = dict(zip(hostile, pool.map(try_one, hostile.values()), strict=True))
    with Sandbox(replace(LIMITS, seconds=10), ROOMS[room]) as sandbox:
        return ends | {"honest": try_one(HONEST)}


@pytest.mark.falsifies("F-HUMANEVAL-ORACLE-003")
@pytest.mark.usefixtures("namespaces")
def test_hostile_programs_are_contained(observe, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", SECRET)
    with outside(tmp_path) as world, ThreadPoolExecutor() as pool:
        rooms = list(pool.map(lambda room: tried(room, world), ROOMS))
        signs = world.signs()
    honest = [ends.pop("honest")[0] for ends in rooms]
    verdicts = [(name, *end) for ends in rooms for name, end in ends.items()]
    breaches = [name for name, verdict, _ in verdicts if verdict.passed]
    print(*(f"{name}: {verdict.reason}" for name, verdict, _ in verdicts), sep="\n")
    print("breaches:", breaches, signs)
    observe("breaches", len(breaches) + len(signs))
    observe("programs", len(verdicts))
    observe("overrun", max(seconds for *_, seconds in verdicts) - LIMITS.seconds)
    observe("honest_failed", sum(not verdict.passed for verdict in honest))


@pytest.mark.falsifies("F-HUMANEVAL-ORACLE-004")
@pytest.mark.usefixtures("namespaces")
def test_a_broken_model_scores_0(observe, command, small, tiny, tmp_path):
    flags = ("--problems", small, "--max-tokens", 6, "--allow-code-execution", "--json", "-")
    ran = command("eval", "humaneval", "--model", tiny, *flags)
    found = json.loads(ran.out)
    observe("passed", found["passed"])
    observe("judged", found["judged"])
    observe("pass_at_1", found["pass@1"]["value"])
    nothing = [{"task_id": row["task_id"], "completion": ""} for row in PROBLEMS]
    empty = write_lines(tmp_path / "empty.jsonl", nothing)
    observe(
        "passed",
        json.loads(command("eval", "humaneval", "--completions", empty, *flags).out)["passed"],
    )
    observe("scores_of_missing_samples", scores_of_missing_samples(small))


def scores_of_missing_samples(small: Path) -> int:
    """How many runs that lack samples have a score: without any, and with all but one."""
    problems, ledger = read_problems(small), Ledger(None, {})
    scores = [score(problems, 1, ledger)]
    with Sandbox(SETTLED) as sandbox:
        right = {each.task_id: each.canonical_solution for each in problems}
        for _ in run(problems[1:], 1, lambda name, *_: right[name], sandbox, ledger, workers=2):
            pass
    scores.append(score(problems, 1, ledger))
    return sum(bool(each.estimates) or each.complete for each in scores)


@pytest.mark.falsifies("F-HUMANEVAL-RUN-001")
@pytest.mark.usefixtures("namespaces")
def test_refusals_name_what_to_mend(observe, command, small, tiny, tmp_path):
    rows = write_lines(tmp_path / "rows.jsonl", [{"task_id": "Small/double", "completion": ""}])
    allow, given = "--allow-code-execution", ("--problems", small, "--completions", rows)
    refused = [
        (given, "--allow-code-execution"),
        ((*given, allow), "Small/pair"),
        ((*given, allow, "--model", tiny), "--model"),
        (("--problems", small, allow), "--model"),
        (("--problems", small, "--model", tiny, allow, "--samples", 2), "temperature"),
        ((*given, allow, "--samples", 0), "samples"),
        ((*given, allow, "--timeout", 0), "seconds"),
        ((*given, allow, "--out", rows), "line 1"),
        (("--problems", small, "--completions", small, allow), "line 1"),
    ]
    for path, said in bad_problem_files(tmp_path).items():
        refused.append((("--problems", path, "--completions", rows, allow), said))
    ends = [(command("eval", "humaneval", *arguments), said) for arguments, said in refused]
    with without_namespaces():
        ends.append((command("eval", "humaneval", *given, allow), "--weak-sandbox"))
        weak = command("eval", "humaneval", *canonical(small), allow, "--weak-sandbox")
    observe("weak_unsaid", int(weak.code != 0 or "FILES ARE OPEN" not in weak.err))
    told = [(ran.err.splitlines()[-1:], said) for ran, said in ends]
    print(*told, sep="\n")
    observe("accepted", sum(ran.code != 2 for ran, _ in ends))
    observe("unclear", sum(not line or said not in line[0] for line, said in told))
    observe("refusals", len(ends))


def canonical(small: Path) -> tuple[object, ...]:
    """Options for the right completions of the small problems."""
    texts = [{"task_id": r["task_id"], "completion": r["canonical_solution"]} for r in PROBLEMS]
    return "--problems", small, "--completions", write_lines(small.with_suffix(".right"), texts)


class Interrupted:
    """Completions that are right for even samples; after so many, somebody presses Ctrl-C."""

    def __init__(self, after: int) -> None:
        self.left, self.asked = after, []
        self._texts = {row["task_id"]: row["canonical_solution"] for row in PROBLEMS}

    def __call__(self, name: str, prompt: str, sample: int) -> str:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked.append((name, sample))
        return "    pass\n" if sample % 2 else self._texts[name]


@pytest.mark.falsifies("F-HUMANEVAL-RUN-002")
@pytest.mark.usefixtures("namespaces")
def test_an_interrupted_run_goes_on_where_it_was(observe, command, small, tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    flags = ("--problems", small, "--completions", small, "--samples", 3, "--temperature", 1)
    asked = []

    def evaluate(out: Path, after: int, *more: object) -> int:
        complete = Interrupted(after)
        monkeypatch.setattr(cli_eval, "read_completions", lambda path: complete)
        ran = command("eval", "humaneval", *flags, "--allow-code-execution", "--out", out, *more)
        asked.extend(complete.asked if out == cut else ())
        return ran.code

    codes = [evaluate(whole, 99), evaluate(cut, 7)]
    with cut.open("a") as file:
        file.write('{"task_id": "Small/od')  # as if power had failed
    codes += [evaluate(cut, 99), evaluate(cut, 99), evaluate(cut, 99, "--seed", 1)]
    observe("wrong_exit_codes", sum(a != b for a, b in zip(codes, (0, 130, 0, 0, 2), strict=True)))
    observe("differing_rows", differing(rows(whole), rows(cut)))
    observe("samples_made_again", len(asked) - len(set(asked)))
    observe("rows", len(rows(cut)))


def rows(path: Path) -> list[dict]:
    """The rows of a run, but for their times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{**row, "seconds": None} for row in lines[1:]]


@pytest.mark.falsifies("F-HUMANEVAL-RUN-003")
def test_completions_are_the_models_up_to_a_stop_string(observe, tiny):
    model, tokenizer = engine.load(tiny).to_float(), engine.load_tokenizer(tiny)
    drawing = Drawing(samples=3, temperature=0.8, max_tokens=12, seed=5)
    stops = ("e", "\n#")  # one that this model does write
    prompts = {"a": "def f(x):\n", "b": "def longer(x, y):\n    return", "c": "x"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completing, "STOPS", stops)
        complete = Completer(model, tokenizer, drawing)
        order = [(name, sample) for sample in (2, 0, 1) for name in prompts]
        made = {each: complete(each[0], prompts[each[0]], each[1]) for each in order}
    expected, cut = {}, 0
    for name, sample in made:
        seed = completing.seed_of(5, name, sample)
        options = {"max_tokens": 12, "temperature": 0.8, "stop_ids": tokenizer.eos_ids}
        ids = engine.generate(model, tokenizer.encode(prompts[name]), seed=seed, **options)
        text = tokenizer.decode(list(ids))
        ends = [place for stop in stops if (place := text.find(stop)) >= 0]
        expected[name, sample] = text[: min(ends, default=len(text))]
        cut += bool(ends)
    observe("differing", sum(made[each] != expected[each] for each in made))
    observe("completions", len(made))
    observe("different_texts", len(set(made.values())))
    observe("cut_at_a_stop_string", cut)


PLAIN = [
    None, True, False, 0, -1, 10**40, -(1 << 64), 0.1, -0.0, math.inf, "", "ä\x00\ud800", b"\xff",
    1j, [], [1, [2, (3,)]], (), (1, "a"), {1, 2}, frozenset({3, 4}), {}, {(1, 2): {"a": [None]}},
]  # fmt: skip
NO_VALUES = [
    1, {}, {"int": 1}, {"int": "x"}, {"list": []}, {"class": "int"}, {"tuple": 3}, {"dict": [1]},
    {"set": [[1]]}, {"int": "0x1", "tuple": []}, {"bytes": "zz"}, {"complex": ["1", 1]},
]  # fmt: skip


@pytest.mark.falsifies("F-HUMANEVAL-RUN-004")
def test_values_cross_the_pipe_unchanged_and_nothing_else_does(observe):
    crossed = [values.decode(json.loads(json.dumps(values.encode(each)))) for each in PLAIN]
    pairs = list(zip(crossed, PLAIN, strict=True))
    observe(
        "changed", sum(a != b or type(a) is not type(b) or repr(a) != repr(b) for a, b in pairs)
    )
    observe("values", len(pairs))
    taken = 0
    for each in NO_VALUES:
        try:
            values.decode(each)
            taken += 1
        except values.Malformed:
            pass
    observe("taken", taken)
    equal = [a == b for a in (values.decode({"other": "int"}),) for b in PLAIN]
    observe("equal_to_another_type", sum(equal))
