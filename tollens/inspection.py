"""The project as it stands: what is bound, what can be planted, and what evidence has to be of.

Knows nothing of what is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tollens.bindings import Binding, find_bindings
from tollens.contract import Loaded
from tollens.digests import Sources, Today, today
from tollens.evidence import Evidence, read
from tollens.needs import unmet
from tollens.project import Project
from tollens.saboteurs import Saboteur, find_saboteurs, saboteur_digests
from tollens.standing import FalsifierStanding, Standing, live
from tollens.verdicts import Verdict


@dataclass(frozen=True)
class Inspection:
    """The bindings, the saboteurs and the sources, each read once."""

    project: Project
    _today: dict[Path, Today] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def bindings(self) -> list[Binding]:
        return find_bindings(self.project, self.sources.note)

    @cached_property
    def marks(self) -> dict[str, list[Binding]]:
        """The bindings by the falsifier that they name."""
        found: dict[str, list[Binding]] = {}
        for binding in self.bindings:
            found.setdefault(binding.falsifier, []).append(binding)
        return found

    @cached_property
    def saboteurs(self) -> dict[str, Saboteur]:
        return find_saboteurs(self.project)

    @cached_property
    def sources(self) -> Sources:
        return Sources(self.project)

    @cached_property
    def digests(self) -> dict[str, str]:
        return saboteur_digests(self.saboteurs, self.sources)

    def today(self, loaded: Loaded) -> Today:
        """What a contract's evidence has to be of. Raises ProjectError for an unknown subject."""
        if loaded.path not in self._today:
            names = [falsifier.id for falsifier in loaded.contract.falsifiers]
            marks = [mark for name in names for mark in self.marks.get(name, ())]
            self._today[loaded.path] = today(loaded.contract, self.sources, marks)
        return self._today[loaded.path]

    def evidence(self, loaded: Loaded) -> Evidence | None:
        path = self.project.evidence_path(loaded.contract.id)
        return read(path, self.project.shown(path))

    def standing(self, loaded: Loaded) -> Standing:
        """Where a contract stands today. Raises EvidenceError or ProjectError."""
        return live(loaded.contract, self.evidence(loaded), self.today(loaded), self.digests)

    def blocker_gone(self, each: FalsifierStanding) -> bool:
        """Whether a falsifier is recorded as blocked, and its needs are met now."""
        needs = each.falsifier.needs
        blocked = bool(needs) and Verdict.BLOCKED in each.verdicts.values()
        return blocked and not unmet(needs, self.project.root)
