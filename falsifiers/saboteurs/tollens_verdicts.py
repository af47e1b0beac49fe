"""Planted faults in the plugin that contracts/tollens-verdicts-v1.yaml must notice.

They are in force in the pytest that judges the falsifier too; each leaves a failed assertion alone.
"""

from dataclasses import replace

from tollens.verdicts import Level, Verdict


def skip_counts_as_corroborated(plant):
    """A skipped test is a pass."""
    plant("tollens.hooks.verdict_of_exception", retold(Verdict.BLOCKED, Verdict.CORROBORATED))


def error_counts_as_falsified(plant):
    """Any exception refutes the claim."""
    plant("tollens.hooks.verdict_of_exception", retold(Verdict.ERROR, Verdict.FALSIFIED))


def retold(wrong, right):
    """One verdict said instead of another."""

    def fault(verdict_of_exception):
        def verdict(error, when):
            found = verdict_of_exception(error, when)
            return right if found is wrong else found

        return verdict

    return fault


def needs_not_looked_at(plant):
    """Every need is met."""
    plant("tollens.needs.unmet", lambda unmet: lambda needs, root: [])


def skipped_file_forgotten(plant):
    """A file that skips itself while it is collected says nothing."""
    plant("tollens.hooks._uncollected", lambda told: lambda excinfo: (Verdict.NOT_RUN, ""))


def unbound_ignored(plant):
    """A falsifier without a test is taken for one that was not selected."""
    plant("tollens.session.Session._is_bound", lambda bound: lambda session, name: True)


def dangling_ignored(plant):
    """A mark whose falsifier no contract declares is passed over."""
    plant("tollens.session.Session._dangling", lambda dangling: lambda session: [])


def run_always_holds(plant):
    """The exit code is pytest's own."""
    plant("tollens.session.Session.holds", lambda holds: lambda session: True)


def failures_untold(plant):
    """What makes the run fail is not printed."""

    def fault(lines):
        return lambda session: (row for row in lines(session) if not row.startswith("FAILED"))

    plant("tollens.table.lines", fault)


def vacuous_check_removed(plant):
    """A test that observes nothing corroborates."""
    plant("tollens.observing.verdict_of", judged(Verdict.VACUOUS))


def doubt_counts_as_pass(plant):
    """An estimate that holds is enough, whatever its interval."""
    plant("tollens.observing.verdict_of", judged(Verdict.INCONCLUSIVE))


def judged(*hidden):
    """The hidden verdicts are CORROBORATED instead."""

    def fault(verdict_of):
        def verdict(falsifier, measures):
            found = verdict_of(falsifier, measures)
            return (Verdict.CORROBORATED, "") if found[0] in hidden else found

        return verdict

    return fault


def xfail_hides(plant):
    """A test that is marked xfail may fail."""

    def fault(trials):
        def hidden(hooks, item):
            marked = item.get_closest_marker("xfail")
            for trial in trials(hooks, item):
                yield replace(trial, verdict=Verdict.BLOCKED) if marked else trial

        return hidden

    plant("tollens.hooks.JudgingHooks.trials", fault)


def best_outcome_wins(plant):
    """One passing test is enough."""

    def best(worst):
        ranked = lambda found: min(found, key=lambda each: each.rank, default=worst(()))  # noqa: E731
        return ranked

    plant("tollens.verdicts.worst", best)


def last_test_wins(plant):
    """A later test of a falsifier overwrites an earlier one."""
    plant(
        "tollens.outcomes.fold",
        lambda fold: lambda trials: fold({(t.falsifier, t.level): t for t in trials}.values()),
    )


def levels_mixed(plant):
    """All tests count as level algorithm."""
    plant(
        "tollens.outcomes.fold",
        lambda fold: lambda trials: fold(replace(t, level=Level.ALGORITHM) for t in trials),
    )


def worker_trials_dropped(plant):
    """The controller passes over what the workers report."""

    def fault(logreport):
        return lambda hooks, report: None if hasattr(report, "node") else logreport(hooks, report)

    plant("tollens.hooks.SessionHooks.pytest_runtest_logreport", fault)


def workers_not_heard(plant):
    """The controller does not learn what the workers collected."""
    plant("tollens.session.Session.hear", lambda hear: lambda session, exchange: None)


def crashed_worker_ignored(plant):
    """The report of a worker's death is taken for one that says nothing."""

    def fault(logreport):
        def deaf(hooks, report):
            if report.when in ("setup", "call", "teardown"):
                logreport(hooks, report)

        return deaf

    plant("tollens.hooks.SessionHooks.pytest_runtest_logreport", fault)
