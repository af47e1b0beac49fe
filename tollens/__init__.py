"""Tollens: a contract-driven falsification harness for systems built on language models.

A contract (YAML) owns the claims and their bounds; a pytest plugin runs the falsifiers that try to
refute them; evidence (JSON) is written by machine, and a contract's status follows from it. This
package knows contracts, verdicts and evidence; it knows no torch and no engine.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tollens.contract import Contract, load
    from tollens.errors import (
        ContractError,
        EvidenceError,
        Finding,
        ObserveError,
        ProjectError,
        RecordError,
        SaboteurError,
        TollensError,
    )
    from tollens.evidence import Evidence
    from tollens.verdicts import Discharge, Kill, Level, Status, Verdict

_HOMES = {
    "Contract": "contract",
    "ContractError": "errors",
    "Discharge": "verdicts",
    "Evidence": "evidence",
    "EvidenceError": "errors",
    "Finding": "errors",
    "Kill": "verdicts",
    "Level": "verdicts",
    "ObserveError": "errors",
    "ProjectError": "errors",
    "RecordError": "errors",
    "SaboteurError": "errors",
    "Status": "verdicts",
    "TollensError": "errors",
    "Verdict": "verdicts",
    "load": "contract",
}

__all__ = [
    "Contract",
    "ContractError",
    "Discharge",
    "Evidence",
    "EvidenceError",
    "Finding",
    "Kill",
    "Level",
    "ObserveError",
    "ProjectError",
    "RecordError",
    "SaboteurError",
    "Status",
    "TollensError",
    "Verdict",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that the plugin costs nothing in a project without contracts."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"tollens.{_HOMES[name]}"), name)
