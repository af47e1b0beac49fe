"""Names a finding so that it bears the same name when lines move; knows only findings.

The name is of the rule, the file, the key without its indices, and what was found up to its
explanation: the text after a colon or in brackets says how it came about, and may change.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tollens.errors import Finding

INDEX = re.compile(r"\[\d+\]")
EXPLANATION = re.compile(r": | \(")


@dataclass(frozen=True)
class Named:
    """A finding with its name, and the reason for which it is accepted if it is."""

    finding: Finding
    fingerprint: str
    accepted: str = ""

    @property
    def fails(self) -> bool:
        return self.finding.severity == "error" and not self.accepted


def named(findings: Iterable[Finding]) -> list[Named]:
    """Each finding with a name of its own: those that are alike are numbered in their order."""
    seen: Counter[str] = Counter()
    result = []
    for finding in findings:
        identity = _identity(finding)
        seen[identity] += 1
        result.append(Named(finding, f"{identity}:{seen[identity]}"))
    return result


def unexplained(found: str) -> str:
    """What was found, without how it came about."""
    return EXPLANATION.split(found, maxsplit=1)[0]


def _identity(finding: Finding) -> str:
    key, what = INDEX.sub("[]", finding.key), unexplained(finding.found)
    parts = [finding.rule, finding.path, key, what]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
