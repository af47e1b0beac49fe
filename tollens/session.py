"""One pytest session under contracts: which tests run, what each says, and what follows.

Knows contracts and outcomes. `plugin` adapts pytest's hooks to it; only the process that is not an
xdist worker closes the session.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from tollens import history
from tollens.bindings import Binding
from tollens.circumstances import describe, utc_now
from tollens.contract import Falsifier, Loaded
from tollens.dialect import Foreign, foreign_finding
from tollens.errors import ContractError, TollensError
from tollens.evidence import Evidence, Run, dump, write_atomically
from tollens.history import Recordable, Recorded
from tollens.inspection import Inspection
from tollens.observing import Observe
from tollens.outcomes import Outcome, Trial, fold, fold_kills
from tollens.project import Project, contract_paths, load_together, read_contracts
from tollens.saboteurs import Saboteur
from tollens.verdicts import Kill, Level, Verdict, worst

Mode = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Closed:
    """A contract at the end of the session: what the run says, and where it stands now."""

    loaded: Loaded
    outcomes: Sequence[Outcome]
    kills: Mapping[tuple[str, str], tuple[Kill, str]]
    recorded: Recorded
    failures: Sequence[str]

    @cached_property
    def verdicts(self) -> dict[str, Verdict]:
        """The run's verdict of each falsifier: the worst over levels, void if a saboteur lives."""
        return {
            falsifier.id: worst(each.verdict for each in self.of(falsifier.id))
            for falsifier in self.loaded.contract.falsifiers
        }

    def of(self, falsifier: str) -> list[Outcome]:
        return [each for each in self.outcomes if each.falsifier == falsifier]


@dataclass
class Session:
    """The contracts of a run, the tests bound to them, and the trials as they come in."""

    project: Project
    loaded: Sequence[Loaded]
    mode: Mode = "auto"
    sabotage: bool = False
    arguments: Sequence[str] = ()
    foreign: Sequence[Foreign] = ()
    started: str = field(default_factory=utc_now)
    trials: list[Trial] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    collected: dict[str, set[str]] = field(default_factory=dict)
    uncollected: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    closed: list[Closed] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @cached_property
    def falsifiers(self) -> dict[str, Falsifier]:
        return {each.id: each for loaded in self.loaded for each in loaded.contract.falsifiers}

    @cached_property
    def owners(self) -> dict[str, str]:
        """Falsifier → the id of the contract that declares it."""
        return {f.id: each.contract.id for each in self.loaded for f in each.contract.falsifiers}

    @cached_property
    def inspection(self) -> Inspection:
        return Inspection(self.project)

    @property
    def saboteurs(self) -> dict[str, Saboteur]:
        return self.inspection.saboteurs

    def inspect(self) -> None:
        """Read what the end of the run will need, so that a broken one stops it at the start.

        Raises ProjectError for an unknown subject and SaboteurError for unreadable saboteurs.
        """
        _ = self.inspection.digests
        for loaded in self.loaded:
            self.inspection.sources.subject(loaded.contract)

    def observe(self, ids: Iterable[str]) -> Observe:
        """A fresh record for one run of one test."""
        bound = [self.falsifiers[name] for name in ids if name in self.falsifiers]
        others = [name for name in ids if name not in self.falsifiers]
        elsewhere = [self.declared[name] for name in others if name in self.declared]
        return Observe(bound, self.project.cache, self.project.seed, elsewhere)

    @cached_property
    def declared(self) -> dict[str, Falsifier]:
        """The falsifiers of every valid contract of the project, in this run or not."""
        return declared(self.project)

    def note_collected(self, ids: Iterable[str], test: str) -> None:
        """Remember a test bound to falsifiers, before any is deselected."""
        for name in ids:
            self.collected.setdefault(name, set()).add(test)

    def tell(self, exchange: Path) -> None:
        """A worker leaves what it collected for the controller, which collects nothing."""
        tests = {name: sorted(tests) for name, tests in self.collected.items()}
        with tempfile.NamedTemporaryFile("w", dir=exchange, suffix=".json", delete=False) as file:
            json.dump({"collected": tests, "uncollected": self.uncollected}, file)

    def hear(self, exchange: Path) -> None:
        """Read what the workers collected."""
        for path in sorted(exchange.glob("*.json")):
            told = json.loads(path.read_text())
            for name, tests in told["collected"].items():
                self.collected.setdefault(name, set()).update(tests)
            for name, (verdict, reason) in told["uncollected"].items():
                self.uncollected[name] = Verdict(verdict), reason

    def close(self) -> None:
        """Judge, record and collect what makes the run fail."""
        self.failures += self._dangling()
        for loaded in self.loaded:
            self.closed.append(self._close(loaded))
        self.failures += [failure for each in self.closed for failure in each.failures]
        self.failures += [
            f"{prose.id}: no test is bound to it; run `tollens import {each.source.path}` first"
            for each in self.foreign
            for prose in each.falsifiers
        ]
        verdicts = [verdict for each in self.closed for verdict in each.verdicts.values()]
        if not any(verdict.executed for verdict in verdicts):
            self.failures.append("no falsifier was executed, and that is never a pass")

    @property
    def holds(self) -> bool:
        """Whether nothing refutes, and nothing failed; blocked and unselected ones are told."""
        verdicts = (verdict for each in self.closed for verdict in each.verdicts.values())
        return not self.failures and not any(verdict.fails_run for verdict in verdicts)

    def _close(self, loaded: Loaded) -> Closed:
        outcomes = [each for f in loaded.contract.falsifiers for each in self._outcomes(f)]
        fates = fold_kills(self.trials)
        pairs = [(f.id, name) for f in loaded.contract.falsifiers for name in f.kills]
        kills = {pair: fates[pair] for pair in pairs if pair in fates}
        failures = [
            f"{each.falsifier}: no test is bound to it"
            for each in outcomes
            if each.verdict is Verdict.NOT_RUN and not self._is_bound(each.falsifier)
        ]
        failures += [
            f"{falsifier}: {saboteur} {kill}: {reason}"
            for (falsifier, saboteur), (kill, reason) in kills.items()
            if kill is not Kill.KILLED
        ]
        recordable = self._recordable(loaded, outcomes, kills)
        recorded, refused = self._record(recordable)
        outcomes = [_void_if_survived(each, recorded.evidence) for each in outcomes]
        last = history.merge(None, replace(recordable, outcomes=outcomes), None)
        write_atomically(self.project.cache() / "last" / f"{loaded.contract.id}.json", dump(last))
        return Closed(loaded, outcomes, kills, recorded, failures + refused)

    def _record(self, recordable: Recordable) -> tuple[Recorded, list[str]]:
        """Write as the mode says, or find where the contract would stand; and what is wrong."""
        try:
            if self.mode != "never":
                always = self.mode == "always"
                return history.record(self.project, recordable, always=always), []
            history.refuse_moved_claims(recordable.contract, recordable.shown)
        except TollensError as error:
            return history.preview(self.project, recordable), [f"not recorded: {error}"]
        previewed = history.preview(self.project, recordable)
        return previewed, history.disagreements(recordable, previewed)

    def _recordable(
        self,
        loaded: Loaded,
        outcomes: Sequence[Outcome],
        kills: Mapping[tuple[str, str], tuple[Kill, str]],
    ) -> Recordable:
        now = self.inspection.today(loaded)
        files = {path: sha for each in now.files.values() for path, sha in each.items()}
        return Recordable(
            path=loaded.path,
            shown=self.project.shown(loaded.path),
            contract=loaded.contract,
            today=now,
            saboteurs=self.inspection.digests,
            outcomes=outcomes,
            kills={pair: fate for pair, fate in kills.items() if pair[1] in self.saboteurs},
            run=self._run.model_copy(update={"sources": dict(sorted(files.items()))}),
        )

    @cached_property
    def _run(self) -> Run:
        written = [self.project.evidence]
        return describe(
            self.project.root, self.started, utc_now(), self.arguments, self.project.seed, written
        )

    def _outcomes(self, falsifier: Falsifier) -> list[Outcome]:
        """The falsifier's outcomes by level; what said nothing counts at every level seen."""
        trials = [trial for trial in self.trials if trial.falsifier == falsifier.id]
        seen, levels = {trial.test for trial in trials}, {trial.level for trial in trials}
        for test, verdict, reason in self._silent(falsifier.id, seen):
            unseen = Level.ALGORITHM if verdict is Verdict.ERROR else falsifier.level
            for level in sorted(levels or {unseen}):
                trials.append(Trial(falsifier.id, test, verdict, reason, level, 0.0, {}))
        return fold(trials)

    def _silent(self, name: str, seen: set[str]) -> Iterator[tuple[str, Verdict, str]]:
        """What said nothing of a falsifier, with verdict and reason: at best it was not run."""
        crashed = {test for test in self.crashed if self._binds(name, test)}
        for test in sorted(crashed):
            yield test, Verdict.ERROR, f"the worker died while running {test}"
        refused = sorted({mark.path for mark in self._marks(name)} & self.uncollected.keys())
        for path in refused:
            yield path, *self.uncollected[path]
        missing = self._missing(name, seen | crashed)
        if not self._is_bound(name):
            yield "", Verdict.NOT_RUN, "no test is bound to it"
        elif missing and seen:
            yield "", Verdict.NOT_RUN, f"{len(missing)} of its tests did not run"
        elif missing:
            yield "", Verdict.NOT_RUN, "it was not reached"

    def _missing(self, name: str, seen: set[str]) -> set[str]:
        """Tests that were collected, and marks in the text, that `seen` has nothing of."""
        unseen = self.collected.get(name, set()) - seen
        functions = {test.partition("[")[0] for test in seen}
        return unseen | {
            f"{mark.path}::{mark.name}"
            for mark in self._marks(name)
            if mark.path not in self.uncollected
            and not any(mark.binds(function) for function in functions)
        }

    def _marks(self, name: str) -> list[Binding]:
        return self.inspection.marks.get(name, [])

    def _is_bound(self, name: str) -> bool:
        return name in self.collected or bool(self._marks(name))

    def _binds(self, name: str, test: str) -> bool:
        function = test.partition("[")[0]
        marked = any(mark.binds(function) for mark in self._marks(name))
        return marked or test in self.collected.get(name, set())

    def _dangling(self) -> list[str]:
        """Marks whose falsifier no contract of the project declares."""
        marked = {each.falsifier: f"{each.path}:{each.line}" for each in self.inspection.bindings}
        marked |= {name: min(tests) for name, tests in self.collected.items() if tests}
        unknown = {name: where for name, where in marked.items() if name not in self.falsifiers}
        if not unknown:
            return []
        return [
            f"{where}: falsifies {name}, which no contract declares"
            for name, where in sorted(unknown.items())
            if name not in self.declared
        ]


def open_session(
    project: Project,
    contracts: Sequence[Path],
    mode: Mode,
    sabotage: bool,
    arguments: Sequence[str],
) -> Session:
    """Load the contracts; raises ContractError or ProjectError where one cannot be used."""
    read = load_together(project, contract_paths(contracts))
    named = {path.resolve() for path in contracts}
    prose = [each for each in read.foreign if each.path in named or not read.loaded]
    if prose:
        raise ContractError(foreign_finding(each.source) for each in prose)
    return Session(project, read.loaded, mode, sabotage, arguments, foreign=read.foreign)


def declared(project: Project) -> dict[str, Falsifier]:
    """The falsifiers of every valid contract in the project's folder, by id."""
    valid = read_contracts(project, project.contract_files()).loaded
    return {each.id: each for loaded in valid for each in loaded.contract.falsifiers}


def _void_if_survived(outcome: Outcome, evidence: Evidence) -> Outcome:
    """A corroboration is void where the evidence knows a saboteur that survives it."""
    for result in evidence.predicate.results:
        void = result.verdict is Verdict.VACUOUS and outcome.verdict is Verdict.CORROBORATED
        if void and result.key == (outcome.falsifier, outcome.level):
            return replace(outcome, verdict=result.verdict, reason=result.reason)
    return outcome
