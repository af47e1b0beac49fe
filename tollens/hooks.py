"""pytest's hooks while tests are bound to contracts: they watch, and ask the session.

A test's trials travel in the `user_properties` of its teardown report, so that an xdist worker's
reach the controller like a serial run's. There they become the properties that `--junitxml` shows.
"""

from __future__ import annotations

import shutil
import tempfile
import unittest
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from _pytest.outcomes import Failed, OutcomeException
from _pytest.runner import runtestprotocol

from tollens import table
from tollens.bounds import show
from tollens.contract import Falsifier
from tollens.errors import SaboteurError
from tollens.needs import unmet
from tollens.observing import Observe, verdict_of
from tollens.outcomes import Trial
from tollens.saboteurs import planted
from tollens.session import Session
from tollens.verdicts import Kill, Level, Verdict, worst

OBSERVE = pytest.StashKey[Observe]()
PHASES = pytest.StashKey["Phases"]()
PROPERTY = "tollens"


class Judgement(Failed):
    """A test that passed, but whose measures do not hold."""

    def __init__(self, message: str) -> None:
        super().__init__(message, pytrace=False)


@dataclass
class Phases:
    """What pytest saw of one test: the failures of its phases, and how long the call took."""

    failures: list[tuple[Verdict, str]] = field(default_factory=list)
    called: bool = False
    seconds: float = 0.0

    def note(self, call: pytest.CallInfo[Any]) -> None:
        if call.when == "call":
            self.called = True
            self.seconds = max(self.seconds, call.duration)
        if call.excinfo is not None and not isinstance(call.excinfo.value, Judgement):
            verdict = verdict_of_exception(call.excinfo.value, call.when)
            self.failures.append((verdict, _reason(call.excinfo)))


def verdict_of_exception(error: BaseException, when: str) -> Verdict:
    """Verdict of a test whose phase `when` ended with `error`."""
    if isinstance(error, pytest.skip.Exception | unittest.SkipTest):
        return Verdict.BLOCKED
    if when == "setup" and isinstance(error, pytest.xfail.Exception):
        return Verdict.BLOCKED
    if when != "call":
        return Verdict.ERROR
    if isinstance(error, BaseExceptionGroup):
        return worst(verdict_of_exception(each, when) for each in error.exceptions)
    refutes = isinstance(error, AssertionError | pytest.fail.Exception)
    return Verdict.FALSIFIED if refutes else Verdict.ERROR


def _reason(excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    """The exception's first line; what it says first is what a reviewer needs."""
    text = str(excinfo.value).strip() or excinfo.exconly()
    kind = "" if isinstance(excinfo.value, AssertionError) else f"{excinfo.typename}: "
    bare = isinstance(excinfo.value, pytest.skip.Exception | pytest.fail.Exception)
    return f"{'' if bare else kind}{text.splitlines()[0]}"[:300]


def _uncollected(excinfo: pytest.ExceptionInfo[BaseException]) -> tuple[Verdict, str]:
    """Verdict and reason of the tests in a file that raised while it was collected."""
    error = excinfo.value.__cause__ or excinfo.value
    verdict = verdict_of_exception(error, "collect")
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    return verdict, text if verdict is Verdict.BLOCKED else f"{type(error).__name__}: {text}"


class JudgingHooks:
    """Judges the bound tests of a run by their contracts; records nothing."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def bound(self, item: pytest.Item) -> list[str]:
        return [name for mark in item.iter_markers("falsifies") for name in mark.args]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        ids = self.bound(item)
        if not ids:
            return
        item.stash[PHASES] = Phases()
        observe = item.stash[OBSERVE] = self.session.observe(ids)
        unknown = sorted(set(ids) - {falsifier.id for falsifier in observe.falsifiers})
        if unknown and not observe.falsifiers:
            pytest.fail(f"falsifies {', '.join(unknown)}, which no contract declares", False)
        needs = [need for falsifier in observe.falsifiers for need in falsifier.needs]
        reasons = unmet(needs, self.session.project.root)
        if reasons:
            pytest.skip("; ".join(reasons))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        yield
        observe = item.stash.get(OBSERVE, None)
        if observe is None or getattr(item, "_excinfo", None):
            return
        judged = [(each.id, *verdict_of(each, observe.judge(each))) for each in observe.falsifiers]
        broken = [f"{name}: {v}: {why}" for name, v, why in judged if v is not Verdict.CORROBORATED]
        if broken:
            raise Judgement("\n".join(broken))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if PHASES in item.stash:
            item.stash[PHASES].note(call)
            if call.when == "teardown":
                trials = [trial.as_json() for trial in self.trials(item)]
                report.user_properties += [(PROPERTY, trial) for trial in trials]
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Show what the trials say, in place of the trials."""
        pairs = [pair for trial in _trials_in(report) for pair in self._properties(trial)]
        shown = [(f"{PROPERTY}.{name}", str(value)) for name, value in pairs]
        others = [each for each in report.user_properties if each[0] != PROPERTY]
        report.user_properties = [*others, *shown]

    def _properties(self, trial: Trial) -> Iterator[tuple[str, object]]:
        """Of one trial, from its falsifier on; a test bound to several has several such rows."""
        yield "falsifier", trial.falsifier
        yield "contract", self.session.owners[trial.falsifier]
        yield "verdict", trial.verdict
        yield "level", trial.level
        if trial.reason:
            yield "reason", trial.reason
        for name, measure in trial.measures.items():
            yield f"measure.{name}", show(measure.value)
            yield f"bound.{name}", measure.bound
        for name, (kill, _) in trial.kills.items():
            yield f"saboteur.{name}", kill

    def trials(self, item: pytest.Item) -> Iterator[Trial]:
        """What a finished test says of each falsifier that it is bound to."""
        observe, phases = item.stash[OBSERVE], item.stash[PHASES]
        for falsifier in observe.falsifiers:
            yield _trial(item.nodeid, falsifier, observe, phases)


def _trial(nodeid: str, falsifier: Falsifier, observe: Observe, phases: Phases) -> Trial:
    measures = observe.judge(falsifier)
    judged = verdict_of(falsifier, measures)
    said = phases.failures or [judged if phases.called else (Verdict.NOT_RUN, "it was not called")]
    if judged[0] is Verdict.FALSIFIED:
        said = [judged, *said]
    verdict = worst(verdict for verdict, _ in said)
    blocked = verdict is Verdict.BLOCKED
    return Trial(
        falsifier=falsifier.id,
        test=nodeid,
        verdict=verdict,
        reason=next(reason for each, reason in said if each is verdict),
        level=observe.level or (falsifier.level if blocked else Level.ALGORITHM),
        seconds=phases.seconds,
        measures=measures,
        attachments=tuple(observe.attachments),
        artifact=observe.artifact,
    )


class SessionHooks(JudgingHooks):
    """A run under `--contract`: selects the bound tests, folds their trials, records, reports."""

    def __init__(self, session: Session, is_worker: bool = False) -> None:
        super().__init__(session)
        self.is_worker = is_worker
        self.exchange: Path | None = None
        self.killed: set[tuple[str, str]] = set()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Note what is bound before a node id or `--lf` narrows it, and which file raised."""
        report = yield
        for item in report.result or ():
            if isinstance(item, pytest.Item):
                self.session.note_collected(self.bound(item), item.nodeid)
        call: pytest.CallInfo[Any] | None = getattr(report, "call", None)
        if call is not None and call.excinfo is not None:
            self.session.uncollected[collector.nodeid] = _uncollected(call.excinfo)
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        folder = getattr(config, "workerinput", {}).get("tollens_exchange")
        if folder:
            self.session.tell(Path(folder))
        known = self.session.falsifiers.keys()
        chosen = [item for item in items if not known.isdisjoint(self.bound(item))]
        others = set(items) - set(chosen)
        config.hook.pytest_deselected(items=[item for item in items if item in others])
        items[:] = chosen

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        if self.exchange is None:
            self.exchange = Path(tempfile.mkdtemp(prefix="tollens-"))
        node.workerinput["tollens_exchange"] = str(self.exchange)

    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        """Under --sabotage: a clean run, then one under each saboteur, each with fresh fixtures."""
        if not self.session.sabotage or not self._saboteurs(item):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        *before, teardown = runtestprotocol(item, log=False, nextitem=None)
        for report in before:
            item.ihook.pytest_runtest_logreport(report=report)
        with _muted(item.session):
            trials = [self._attacked(item, trial) for trial in _trials_in(teardown)]
        others = [each for each in teardown.user_properties if each[0] != PROPERTY]
        teardown.user_properties = [*others, *((PROPERTY, t.as_json()) for t in trials)]
        item.ihook.pytest_runtest_logreport(report=teardown)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _saboteurs(self, item: pytest.Item) -> list[str]:
        falsifiers = [self.session.falsifiers.get(name) for name in self.bound(item)]
        return [name for each in falsifiers if each for name in each.kills]

    def _attacked(self, item: pytest.Item, trial: Trial) -> Trial:
        if trial.verdict is not Verdict.CORROBORATED:
            return trial
        kills = self.session.falsifiers[trial.falsifier].kills
        waiting = [name for name in kills if (trial.falsifier, name) not in self.killed]
        fates = {name: self._attack(item, trial.falsifier, name) for name in waiting}
        self.killed |= {(trial.falsifier, n) for n, fate in fates.items() if fate[0] is Kill.KILLED}
        return replace(trial, kills=fates)

    def _attack(self, item: pytest.Item, falsifier: str, name: str) -> tuple[Kill, str]:
        saboteur = self.session.saboteurs.get(name)
        if saboteur is None:
            return Kill.ERROR, f"no saboteur {name} in {self.session.project.saboteurs}"
        try:
            with planted(saboteur, self.session.project.root) as planting:
                reports = runtestprotocol(item, log=False, nextitem=None)
        except SaboteurError as error:
            return Kill.ERROR, str(error)
        except (Exception, OutcomeException) as error:  # a saboteur may raise what it likes
            return Kill.ERROR, f"{type(error).__name__}: {error}"
        [trial] = [each for each in _trials_in(reports[-1]) if each.falsifier == falsifier]
        if not planting.reached[0]:
            return Kill.ERROR, "its planted code was never executed"
        if trial.verdict is Verdict.FALSIFIED:
            return Kill.KILLED, trial.reason
        outcome = Kill.ERROR if trial.verdict is Verdict.ERROR else Kill.SURVIVED
        return outcome, f"{trial.verdict} under it{': ' if trial.reason else ''}{trial.reason}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self.session.trials += _trials_in(report)
        elif report.when not in ("setup", "call"):
            self.session.crashed.append(report.nodeid)
        if not self.is_worker:  # whose trials are still to travel
            super().pytest_runtest_logreport(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput") or session.config.option.collectonly:
            return
        if self.exchange is not None:
            self.session.hear(self.exchange)
            shutil.rmtree(self.exchange, ignore_errors=True)
        if session.exitstatus in (pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR):
            return
        self.session.close()
        if session.exitstatus == pytest.ExitCode.OK and not self.session.holds:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in table.lines(self.session):
            terminalreporter.write_line(line)


def _trials_in(report: pytest.TestReport) -> list[Trial]:
    return [Trial.from_json(str(text)) for name, text in report.user_properties if name == PROPERTY]


class _Muted:
    """A hook relay that reports nothing: what happens under sabotage is not the run's result."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def __getattr__(self, name: str) -> Any:
        if name in ("pytest_runtest_logreport", "pytest_exception_interact"):
            return lambda **kwargs: None
        return getattr(self._relay, name)


@contextmanager
def _muted(session: pytest.Session) -> Iterator[None]:
    original = session.gethookproxy
    session.gethookproxy = lambda path: _Muted(original(path))  # type: ignore[method-assign, assignment, return-value]
    try:
        with warnings.catch_warnings(record=True):
            yield
    finally:
        session.gethookproxy = original  # type: ignore[method-assign]
