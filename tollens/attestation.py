"""Evidence as an in-toto attestation of type test-result v0.1, for policy engines.

The predicate knows three lists. Passed is what is corroborated. Failed is what fails a run. What
was not observed (blocked, or without a result) neither passed nor failed; it is listed as warned,
so that the whole is PASSED only where every falsifier of the contract is.
Format: in-toto attestation framework, spec/predicates/test-result.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tollens.contract import Loaded
from tollens.errors import EvidenceError
from tollens.evidence import STATEMENT, Evidence
from tollens.verdicts import Kill, Verdict

PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"


def statement(
    loaded: Loaded, evidence: Evidence, configuration: Iterable[tuple[str, str]], url: str | None
) -> dict[str, Any]:
    """The statement; `configuration` are names and sha256 of the contract and the evidence.

    Raises EvidenceError where the evidence is of other claims than the contract's.
    """
    about = evidence.predicate.contract
    if about.claims != loaded.contract.claims:
        found = f"evidence of other claims than those of {loaded.source.path}"
        raise EvidenceError(f"{found}; run `pytest --contract {loaded.source.path}` first")
    said = {each.id: _result(evidence, each.id) for each in loaded.contract.falsifiers}
    lists = {
        word: [name for name, result in said.items() if result == word]
        for word in ("FAILED", "WARNED", "PASSED")
    }
    predicate: dict[str, Any] = {
        "result": next(word for word, names in lists.items() if names),
        "configuration": [{"name": n, "digest": {"sha256": sha}} for n, sha in configuration],
        **{f"{word.lower()}Tests": names for word, names in lists.items()},
    }
    if url:
        predicate["url"] = url
    return {
        "_type": STATEMENT,
        "subject": [each.model_dump() for each in evidence.subject],
        "predicateType": PREDICATE,
        "predicate": predicate,
    }


def _result(evidence: Evidence, falsifier: str) -> str:
    """The worst of what the evidence says of a falsifier, at any level and under any saboteur."""
    predicate = evidence.predicate
    verdicts = {each.verdict for each in predicate.results if each.falsifier == falsifier}
    kills = {each.outcome for each in predicate.severity if each.falsifier == falsifier}
    if any(verdict.fails_run for verdict in verdicts) or kills - {Kill.KILLED}:
        return "FAILED"
    return "PASSED" if verdicts == {Verdict.CORROBORATED} else "WARNED"
