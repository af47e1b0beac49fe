"""The exceptions of the harness and the finding that they carry; knows nothing of them.

TollensError
├── ProjectError    the configuration or a path is wrong: nothing could be looked at
├── ContractError   a contract is not a valid contract; carries its findings
├── EvidenceError   an evidence file is unreadable, malformed or altered
├── RecordError     the evidence or the history may not be, or could not be, written
├── SaboteurError   a saboteur is undefined, undocumented or planted nothing
└── ObserveError    a test observed something that its contract does not declare
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

from tollens.wrapping import WIDTH, wrap

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, what was found, what was expected, what to do."""

    rule: str
    path: str
    line: int
    found: str
    expected: str = ""
    key: str = ""
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}: {self.severity}: {self.rule}"
        rows = [("key", self.key), ("found", self.found), ("expected", self.expected)]
        rows.append(("do", self.hint))
        return "\n".join([where, *(_row(name, text) for name, text in rows if text)])

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@lru_cache(maxsize=256)  # many findings say the same of other places
def _row(name: str, text: str) -> str:
    """One row of a finding, wrapped."""
    short = f"  {name:<9} {text}"
    if len(short) <= WIDTH and text.isprintable() and text == text.strip():
        return short  # as `wrap` would have it, which is slow
    return "\n".join(wrap(text, f"  {name:<9} ", " " * 12))


class TollensError(Exception):
    """Base of everything that the harness raises on purpose."""


class ProjectError(TollensError):
    pass


class ContractError(TollensError):
    """A contract that cannot be used; `findings` says why, one by one."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, self.findings)))


class EvidenceError(TollensError):
    pass


class RecordError(TollensError):
    pass


class SaboteurError(TollensError):
    pass


class ObserveError(TollensError):
    pass
