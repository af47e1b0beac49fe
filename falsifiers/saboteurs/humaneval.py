"""Faults in HumanEval: in the walls around candidates, in who judges them, and in the score."""

import os
from dataclasses import replace

from engine.evaluation.estimate import Estimate
from engine.evaluation.sandbox import Verdict


def verdict_of_the_candidates_process(plant):
    """A candidate whose process ends with exit code 0 has passed."""

    def fault(decide):
        def faulty(report):
            if report is not None and report.get("exit_code") == 0:
                return Verdict(True, "", 0.0)
            return decide(report)

        return faulty

    plant("engine.evaluation.sandbox.decide", fault)


def late_check_passes(plant):
    """A check that did not end has found nothing wrong."""

    def fault(decide):
        return lambda report: Verdict(True, "", 0.0) if report is None else decide(report)

    plant("engine.evaluation.sandbox.decide", fault)


def errors_are_passes(plant):
    """Only a failed assertion is a failure; any other error counts for the candidate."""

    def fault(decide):
        def faulty(report):
            verdict = decide(report)
            return replace(verdict, passed=not verdict.reason.startswith("AssertionError"))

        return faulty

    plant("engine.evaluation.sandbox.decide", fault)


def tests_that_assert_nothing(plant):
    """Every check is `assert True`."""

    def fault(judge):
        empty = "def check(candidate):\n    assert True\n"
        return lambda self, trial: judge(self, replace(trial, test=empty))

    plant("engine.evaluation.sandbox.Sandbox.judge", fault)


def prompt_left_out(plant):
    """A completion is judged without the prompt that it continues."""
    plant(
        "engine.evaluation.problems.Problem.trial",
        lambda trial: (
            lambda self, completion: replace(
                trial(self, completion),
                program=f"def {self.entry_point}(*args):\n{completion}",
            )
        ),
    )


def definitions_of_the_prompt_missing(plant):
    """A check has its own names alone, and not what the prompt defines for it."""
    plant(
        "engine.evaluation.problems.Problem.trial",
        lambda trial: lambda self, completion: replace(trial(self, completion), prompt=""),
    )


def test_beside_the_program(plant):
    """Program and check are one text, as in the published harness."""

    def fault(judge):
        def faulty(self, trial):
            return judge(self, replace(trial, program=f"{trial.program}\n{trial.test}"))

        return faulty

    plant("engine.evaluation.sandbox.Sandbox.judge", fault)


def planned(**changes):
    """A fault that gives the other processes another plan."""
    return lambda plan: lambda limits, steps: {**plan(limits, steps), **changes}


def without(*names):
    """A fault that leaves steps out."""

    def fault(plan):
        def faulty(limits, steps):
            return plan(limits, tuple(step for step in steps if step not in names))

        return faulty

    return fault


def timeout_ignored(plant):
    """A candidate may take as long as it likes."""
    plant("engine.evaluation.sandbox.plan", planned(seconds=1e6))


def limits_not_set(plant):
    """Memory, files and processes are not limited."""
    plant("engine.evaluation.sandbox.plan", without("limits"))


def one_limit_forgotten(plant):
    """Memory is not limited; all else is."""

    def fault(plan):
        def faulty(limits, steps):
            made = plan(limits, steps)
            del made["limits"]["AS"]
            return made

        return faulty

    plant("engine.evaluation.sandbox.plan", fault)


def network_not_entered(plant):
    """The namespace of the network is the machine's."""
    plant("engine.evaluation.sandbox.plan", planned(namespaces=["mount", "uts", "ipc"]))


def walls_missing_in_silence(plant):
    """Where namespaces are to be, none are, and nobody says so."""
    plant("engine.evaluation.sandbox.plan", without("namespaces", "root"))


def root_of_the_machine(plant):
    """A candidate sees the machine's files."""
    plant("engine.evaluation.sandbox.plan", without("root"))


def privileges_kept(plant):
    """A candidate has the capabilities that its walls were made with."""
    plant("engine.evaluation.sandbox.plan", without("privileges"))


def filter_not_set(plant):
    """A candidate may call whatever the kernel offers."""
    plant("engine.evaluation.sandbox.plan", without("filter"))


def descriptors_kept(plant):
    """A candidate has the judge's open files, the channel of the report among them."""
    plant("engine.evaluation.sandbox.plan", without("descriptors"))


def environment_kept(plant):
    """A candidate inherits the environment, with what secrets it holds."""
    plant("engine.evaluation.sandbox.environment", lambda environment: lambda: dict(os.environ))


def biased_estimator(plant):
    """pass@k is 1 - (1 - c/n)^k, as if samples were drawn with putting back."""
    plant(
        "engine.evaluation.estimate.pass_at_k",
        lambda pass_at_k: lambda n, c, k: 1 - (1 - c / n) ** k,
    )


def samples_taken_for_problems(plant):
    """The interval takes every sample for a problem of its own, and is too narrow."""

    def fault(estimate):
        def faulty(counts, k):
            return estimate([*counts] * max(samples for samples, _ in counts), k)

        return faulty

    plant("engine.evaluation.estimate.estimate", fault)


def interval_of_the_normal(plant):
    """The interval is the estimate with 1.96 standard errors, which at 0 of n is nothing wide."""

    def fault(wilson):
        def faulty(mean, trials):
            half = 1.96 * (mean * (1 - mean) / trials) ** 0.5
            return max(0.0, mean - half), min(1.0, mean + half)

        return faulty

    plant("engine.evaluation.estimate.wilson", fault)


def score_of_what_is_there(plant):
    """Samples that are missing have passed."""

    def fault(score):
        def faulty(problems, samples, ledger):
            found = score(problems, samples, ledger)
            whole = found.problems * found.samples
            missing = whole - found.judged
            made = Estimate(1, (found.passed + missing) / whole, 0.0, 1.0)
            return replace(found, judged=whole, estimates=(made,))

        return faulty

    plant("engine.evaluation.humaneval.score", fault)


def runs_without_being_allowed(plant):
    """Nobody has to say that code may run."""
    plant("engine.cli_eval.require_permission", lambda require: lambda *_: None)


def problems_not_compiled(plant):
    """Nobody looks whether prompts and tests are Python before a model has answered them all."""
    plant(
        "engine.evaluation.problems.require_python",
        lambda require: lambda where, name, text: None,
    )


def errors_without_lines(plant):
    """Errors name the file and no line."""
    plant(
        "engine.evaluation.problems.read_lines",
        lambda read_lines: lambda path: nameless(read_lines(path)),
    )


def nameless(lines):
    return ((where.partition(", ")[0], row) for where, row in lines)


def resumes_from_the_start(plant):
    """A run that goes on makes every sample again."""

    def fault(missing):
        return lambda problems, samples, ledger: (
            (problem, sample) for problem in problems for sample in range(samples)
        )

    plant("engine.evaluation.humaneval._missing", fault)


def another_runs_rows_taken(plant):
    """Rows of a run with other settings are mixed into this one."""
    plant(
        "engine.evaluation.ledger.require_same_run",
        lambda require: lambda where, here, there: None,
    )


def interrupt_loses_what_waits(plant):
    """Samples that were written and not yet judged are forgotten after Ctrl-C."""

    def fault(run):
        def faulty(problems, samples, complete, sandbox, ledger, *, workers):
            def recording(name, prompt, sample):
                try:
                    return complete(name, prompt, sample)
                except KeyboardInterrupt:
                    ledger.add = lambda row: None
                    raise

            yield from run(problems, samples, recording, sandbox, ledger, workers=workers)

        return faulty

    plant("engine.evaluation.humaneval.run", fault)


def stop_strings_ignored(plant):
    """A completion goes on after the function's end."""
    plant(
        "engine.text.find_stop",
        lambda find: lambda text, stops: None,
    )


def prompt_kept_from_before(plant):
    """A prompt comes after the one before it in the cache."""
    plant(
        "engine.evaluation.completing.Completer._read",
        lambda read: lambda self, ids: setattr(self, "_ids", ids),
    )


def samples_share_a_seed(plant):
    """All samples of a problem are the same."""
    plant(
        "engine.evaluation.completing.seed_of",
        lambda seed_of: lambda seed, name, sample: seed_of(seed, name, 0),
    )


def completions_emptied(plant):
    """What the model writes is lost."""
    plant(
        "engine.evaluation.completing.Completer.__call__",
        lambda call: lambda self, name, prompt, sample: "",
    )


def sender_decides_equality(plant):
    """A value of an unknown type equals whatever it is compared with."""
    plant("engine.evaluation.values.Other.__init__", lambda init: lambda self, kind: as_any(self))


def as_any(value):
    value.__class__ = type("Any", (), {"__eq__": lambda self, other: True, "__hash__": None})


def large_numbers_rounded(plant):
    """Whole numbers cross as floats."""

    def fault(encode):
        def faulty(value):
            return float(value) if type(value) is int and abs(value) < 1e300 else encode(value)

        return faulty

    plant("engine.evaluation.values.encode", fault)


def unknown_kinds_are_none(plant):
    """What is no encoded value is taken for None."""

    def fault(decode):
        def faulty(found):
            try:
                return decode(found)
            except Exception:
                return None

        return faulty

    plant("engine.evaluation.values.decode", fault)


def weak_unasked(plant):
    """Where there are no namespaces, a sandbox does without and asks nobody."""
    plant(
        "engine.evaluation.sandbox.Sandbox.open",
        lambda opened: lambda cls, limits=None, *, weak=False: opened(cls, limits, weak=True),
    )


def weakness_unsaid(plant):
    """A sandbox without walls around files says that it is whole."""
    plant(
        "engine.evaluation.sandbox.Sandbox.statement",
        lambda statement: lambda self: "candidates have no network and no files",
    )
