"""Planted faults in the sabotage runner that contracts/tollens-sabotage-v1.yaml must notice.

They are in force in the runner that plants them too: what that still needs afterwards, the fault
leaves alone, by the folder of the project that it is at work in.
"""

from dataclasses import replace
from pathlib import Path

from tollens.verdicts import Kill, Verdict

PROJECT = Path(__file__).parents[2]


def survivor_ignored(plant):
    """A saboteur that survives is taken for killed."""
    plant("tollens.hooks.SessionHooks._attack", believed(Kill.SURVIVED))


def error_counts_as_kill(plant):
    """Any failure under a saboteur is a kill."""
    plant("tollens.hooks.SessionHooks._attack", believed(Kill.ERROR, "ERROR under it"))


def unreached_ignored(plant):
    """A saboteur whose code was never executed is taken for killed."""
    plant("tollens.hooks.SessionHooks._attack", believed(Kill.ERROR, "its planted code was never"))


def blocked_counts_as_kill(plant):
    """A test that skips under a saboteur has noticed it."""
    plant("tollens.hooks.SessionHooks._attack", believed(Kill.SURVIVED, "BLOCKED under it"))


def believed(fate, reason=""):
    """A fate with such a reason is taken for a kill."""

    def fault(attack):
        def attacked(hooks, item, falsifier, name):
            found, why = attack(hooks, item, falsifier, name)
            taken_in = found is fate and why.startswith(reason)
            return (Kill.KILLED, why) if taken_in else (found, why)

        return attacked

    return fault


def survivor_forgotten(plant):
    """The evidence corroborates whatever survived."""
    plant("tollens.history._vacuous_if_survived", lambda void: lambda result, severity: result)


def survivor_untold(plant):
    """The run's own verdict does not know what the evidence knows of survivors."""
    plant("tollens.session._void_if_survived", lambda void: lambda outcome, evidence: outcome)


def saboteur_errors_ignored(plant):
    """A saboteur that proves nothing is left out of the matrix."""

    def fault(fold_kills):
        def folded(trials):
            return {key: each for key, each in fold_kills(trials).items() if each[0] != "error"}

        return folded

    plant("tollens.outcomes.fold_kills", fault)


def fixtures_kept_under_the_fault(plant):
    """The test runs under the fault with the fixtures that the clean run built."""
    plant("tollens.hooks.runtestprotocol", keeping_fixtures(under=True))


def fixtures_kept_after_the_fault(plant):
    """What was built under the fault is there for the next test."""
    plant("tollens.hooks.runtestprotocol", keeping_fixtures(under=False))


def keeping_fixtures(under):
    """Fixtures wider than the test outlive the clean run, or each run under a fault."""

    def fault(runtestprotocol):
        clean = set()

        def kept(item, log, nextitem):
            outer = item.config.rootpath == PROJECT
            first = item.nodeid not in clean
            clean.add(item.nodeid)
            others = [each for each in item.session.items if each is not item]
            keeps = first is under and not outer
            near = [each for each in others if each.path == item.path and each.cls is item.cls]
            return runtestprotocol(item, log=log, nextitem=near[0] if keeps else nextitem)

        return kept

    return fault


def from_imports_not_patched(plant):
    """Only the module that defines the original sees the fault."""
    plant("tollens.saboteurs.Planting._references", lambda found: lambda *args: iter(()))


def faults_not_undone(plant):
    """A replaced name stays replaced."""

    def fault(replace_name):
        def for_good(planting, place, name, planted, original):
            replace_name(planting, place, name, planted, original)
            planting.undo[-1] = lambda: None

        return for_good

    plant("tollens.saboteurs.Planting._replace", fault)


def forked_children_unheard(plant):
    """That the planted code was reached is known in the process that reached it alone."""

    def fault(counted):
        def alone(planting, original, planted):
            planting.reached = bytearray(1)
            return counted(planting, original, planted)

        return alone

    plant("tollens.saboteurs.Planting._counted", fault)


def clean_run_skipped(plant):
    """A falsifier is attacked whatever its clean run says."""

    def fault(attacked):
        def anyway(hooks, item, trial):
            found = attacked(hooks, item, replace(trial, verdict=Verdict.CORROBORATED))
            return replace(found, verdict=trial.verdict)

        return anyway

    plant("tollens.hooks.SessionHooks._attacked", fault)


def every_case_must_kill(plant):
    """One case that misses a saboteur lets it survive."""

    def fault(fold_kills):
        def folded(trials):
            trials = list(trials)
            fates = fold_kills(trials)
            for trial in trials:
                for name, fate in trial.kills.items():
                    if fate[0] is Kill.SURVIVED:
                        fates[trial.falsifier, name] = fate
            return fates

        return folded

    plant("tollens.outcomes.fold_kills", fault)


def kills_dropped(plant):
    """The fates of saboteurs are lost on their way from the test to the session."""

    def fault(from_json):
        return lambda cls, text: replace(from_json(cls, text), kills={})

    plant("tollens.outcomes.Trial.from_json", fault)
