"""The two sides of a comparison: contracts and evidence as they are, and as a commit had them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tollens import contract as contract_file
from tollens import evidence as evidence_file
from tollens.contract import Contract
from tollens.dialect import is_foreign
from tollens.errors import ContractError, EvidenceError
from tollens.evidence import Evidence
from tollens.project import Project
from tollens.review import Review
from tollens.revisions import contents_by_path, tree
from tollens.source import parse
from tollens.standing import Standing, recorded
from tollens.verdicts import denominator


@dataclass(frozen=True)
class Side:
    """The contracts and the evidence of one side, by contract id; and what could not be read."""

    contracts: Mapping[str, Contract]
    evidence: Mapping[str, Evidence | None]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def standing(self, name: str) -> Standing:
        return recorded(self.contracts[name], self.evidence.get(name))

    @property
    def summary(self) -> str:
        standings = map(self.standing, self.contracts)
        return denominator([each.verdict for one in standings for each in one.falsifiers])


def now(review: Review) -> Side:
    contracts = {each.loaded.contract.id: each.loaded.contract for each in review.contracts}
    evidence = {each.loaded.contract.id: each.evidence for each in review.contracts}
    return Side(contracts, evidence)


def then(project: Project, commit: str, new: Side) -> Side:
    """The contracts and the evidence as a commit had them; the same evidence is not reread."""
    contracts: dict[str, Contract] = {}
    evidence: dict[str, Evidence | None] = {}
    unreadable: dict[str, str] = {}
    for path, data in _files(project, commit, project.contracts, "*.y*ml"):
        try:
            source = parse(data.decode(errors="replace"), str(path))
            if not is_foreign(source.data):
                contracts[path.stem] = contract_file.validate(path, source).contract
        except ContractError as error:
            unreadable[str(path)] = str(error).partition("\n")[0]
    for path, data in _files(project, commit, project.evidence, "*/evidence.json"):
        try:
            name, here = path.parent.name, project.root / path
            same = here.is_file() and here.read_bytes() == data
            evidence[name] = (
                new.evidence.get(name) if same else evidence_file.parse(data, str(path))
            )
        except EvidenceError as error:
            unreadable[str(path)] = str(error).partition("\n")[0]
    asked = {name: each for name, each in contracts.items() if _asked_for(project, name, new)}
    return Side(asked, evidence, unreadable)


def _files(
    project: Project, commit: str, folder: str, pattern: str
) -> Iterator[tuple[Path, bytes]]:
    """What a commit had in a folder of the project whose path ends as `pattern` says."""
    found = tree(project.root, commit, folder)
    kept = {path: name for path, name in found.items() if PurePath(path).match(pattern)}
    yield from ((Path(path), data) for path, data in contents_by_path(project.root, kept))


def _asked_for(project: Project, name: str, new: Side) -> bool:
    """Whether a contract of the past is among those looked at, or is there no more."""
    there = {path.stem for path in project.contract_files()}
    return name in new.contracts or name not in there
