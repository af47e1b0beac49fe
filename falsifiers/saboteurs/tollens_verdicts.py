"""Planted faults in the plugin that contracts/tollens-verdicts-v1.yaml must notice.

They are in force in the pytest that judges the falsifier too; each leaves a failed assertion alone.
"""

import copy
from contextlib import nullcontext
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


def plain_run_unjudged(plant):
    """Whatever a passing test observed, it holds."""
    plant("tollens.observing.verdict_of", judged(Verdict.VACUOUS, Verdict.FALSIFIED))


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


def deselected_case_ignored(plant):
    """The tests that ran speak for those that did not."""
    plant("tollens.session.Session._missing", lambda missing: lambda session, name, seen: set())


def collected_tests_forgotten(plant):
    """Only the marks in the text say which tests there are, and they know no parameters."""
    plant("tollens.session.Session.note_collected", lambda note: lambda session, ids, test: None)


def other_contracts_unknown(plant):
    """A measure of a contract that is not part of the run is taken for a mistake."""
    plant("tollens.session.declared", lambda declared: lambda project: {})


def collecting_records(plant):
    """--collect-only closes the session like any other run."""

    def fault(finish):
        def finished(hooks, session):
            session.config.option.collectonly = False
            finish(hooks, session)

        return finished

    plant("tollens.hooks.SessionHooks.pytest_sessionfinish", fault)


def sabotaged_runs_reported(plant):
    """What happens under a saboteur is reported like the run's own results."""
    plant("tollens.hooks._muted", lambda muted: lambda session: nullcontext())


def auto_always_records(plant):
    """Evidence is refreshed by every run."""
    plant("tollens.history.record", lambda record: lambda *new, always: record(*new, always=True))


def always_is_auto(plant):
    """--record=always writes only where something changed."""
    plant("tollens.history.record", lambda record: lambda *new, always: record(*new, always=False))


def falsified_not_recorded(plant):
    """Bad news stays out of the evidence."""

    def fault(record):
        def discreet(project, new, **more):
            good = [each for each in new.outcomes if each.verdict is not Verdict.FALSIFIED]
            return record(project, replace(new, outcomes=good), **more)

        return discreet

    plant("tollens.history.record", fault)


def changed_verdict_unrecorded(plant):
    """Once there is evidence, it stays."""

    def fault(record):
        def once(project, new, always):
            from tollens.history import preview

            there = project.evidence_path(new.contract.id).exists()
            if there and not always:
                return preview(project, new)
            return record(project, new, always=always)

        return once

    plant("tollens.history.record", fault)


def never_writes(plant):
    """--record=never is taken for auto."""

    def fault(open_session):
        def opened(project, contracts, mode, sabotage, arguments):
            return open_session(project, contracts, "auto", sabotage, arguments)

        return opened

    plant("tollens.session.open_session", fault)


def disagreement_ignored(plant):
    """Verdicts are not compared with the evidence."""
    plant("tollens.history.disagreements", lambda disagreements: lambda project, new: [])


def table_not_wrapped(plant):
    """Lines are as long as they are."""
    plant("tollens.table._wrap", lambda wrap: lambda text, first, *rest, **more: [first + text])


def denominator_hidden(plant):
    """The summary says what held, not out of how many."""
    plant(
        "tollens.verdicts.denominator",
        lambda denominator: lambda verdicts: f"{list(verdicts).count('CORROBORATED')} corroborated",
    )


def margin_untold(plant):
    """The table shows no margins."""

    def fault(measure):
        return lambda name, judged: measure(name, replace(judged, margin=None))

    plant("tollens.table._measure", fault)


def plugin_always_active(plant):
    """A session opens without --contract too."""

    def fault(configure):
        def configured(config):
            from tollens.hooks import SessionHooks
            from tollens.project import read_project
            from tollens.session import Session

            configure(config)
            if not config.getoption("contract"):
                session = Session(read_project(config.rootpath), [])
                config.pluginmanager.register(SessionHooks(session), "tollens-session")

        return configured

    plant("tollens.plugin.pytest_configure", fault)


def cache_made_early(plant):
    """The cache folder is made at the start of every run."""

    def fault(configure):
        def configured(config):
            (config.rootpath / ".tollens").mkdir(exist_ok=True)
            (config.rootpath / ".tollens" / ".gitignore").write_text("*")
            configure(config)

        return configured

    plant("tollens.plugin.pytest_configure", fault)


def harness_imported_early(plant):
    """The plugin imports the harness with its options."""

    def fault(addoption):
        def added(parser):
            exec("import tollens.contract", {"__name__": "tollens.plugin"})
            addoption(parser)

        return added

    plant("tollens.plugin.pytest_addoption", fault)


def plain_run_records(plant):
    """A plain run is recorded like one under --contract."""

    def fault(hooks):
        def recording(config, judging_only):
            from tollens.hooks import SessionHooks

            session = hooks(config, judging_only).session
            session.mode = "auto"
            return SessionHooks(session)

        return recording

    plant("tollens.plugin._hooks", fault)


def contract_copied_at_every_test(plant):
    """The whole contract is copied for every test."""

    def fault(observe):
        def slow(session, ids):
            copy.deepcopy([each.contract for each in session.loaded])
            return observe(session, ids)

        return slow

    plant("tollens.session.Session.observe", fault)


def scalar_truncated(plant):
    """Numbers are recorded as whole ones."""

    def fault(of_kind):
        def whole(*args):
            plain = of_kind(*args)
            return int(plain) if type(plain) is float else plain

        return whole

    plant("tollens.observing._of_kind", fault)


def any_kind_accepted(plant):
    """A text or a boolean passes for a number."""
    plant("tollens.bounds.accepts", lambda accepts: lambda measure, value: True)


def digest_of_the_name(plant):
    """A file's digest is that of its name."""
    plant(
        "tollens.observing._sha256",
        lambda sha256: lambda path: f"{len(path.name):064x}",
    )


def attachments_not_kept(plant):
    """Attached files are named in the evidence and copied nowhere."""
    plant("tollens.history._keep_attachments", lambda keep: lambda project, new: None)


def runtime_without_artefact(plant):
    """Level runtime needs no artefact."""

    def fault(at):
        def lenient(observe, level, artifact=None):
            if artifact is None and level == "runtime":
                observe.level = Level.RUNTIME
            else:
                at(observe, level, artifact)

        return lenient

    plant("tollens.observing.Observe.at", fault)
