"""Planted faults in the plugin that contracts/tollens-recording-v1.yaml must notice.

They are in force in the pytest that judges the falsifier too; each leaves a failed assertion alone.
"""

from contextlib import nullcontext
from dataclasses import replace

from tollens.verdicts import Verdict


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
    plant("tollens.history.disagreements", lambda disagreements: lambda new, previewed: [])


def table_not_wrapped(plant):
    """Lines are as long as they are."""
    plant("tollens.wrapping.wrap", lambda _: lambda text, first="", *rest, **more: [first + text])


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
