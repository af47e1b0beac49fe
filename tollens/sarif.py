"""Findings as a SARIF log (OASIS SARIF 2.1.0), for code scanning and editors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from tollens.fingerprints import Named
from tollens.rules import RULES

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
BASE = "%SRCROOT%"
INDEX = {name: i for i, name in enumerate(RULES)}


def log(found: Sequence[Named], version: str) -> dict[str, Any]:
    """The log of one run; the paths are from the repository's root, or absolute."""
    driver = {
        "name": "tollens",
        "semanticVersion": version,
        "rules": [_rule(name) for name in RULES],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": "tollens/check/"},
        "invocations": [{"executionSuccessful": True}],
        "originalUriBaseIds": {BASE: {"description": {"text": "The root of the repository."}}},
        "results": [_result(each) for each in found],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str) -> dict[str, Any]:
    says, do = RULES[name]
    return {
        "id": name,
        "shortDescription": {"text": says},
        "help": {"text": f"{says} {do} `tollens explain {name}` says more."},
    }


def _result(each: Named) -> dict[str, Any]:
    finding = each.finding
    expected = f" Expected: {finding.expected}." if finding.expected else ""
    place = {
        "artifactLocation": _artifact(finding.path),
        "region": {"startLine": finding.line},
    }
    suppression = {"kind": "external", "status": "accepted", "justification": each.accepted}
    return {
        "ruleId": finding.rule,
        "ruleIndex": INDEX[finding.rule],
        "level": finding.severity,
        "message": {"text": f"{finding.found}.{expected} {finding.hint}".strip()},
        "locations": [{"physicalLocation": place}],
        # The first is the one that GitHub follows a finding by.
        "partialFingerprints": {
            "primaryLocationLineHash": each.fingerprint,
            "tollens/v1": each.fingerprint,
        },
        "suppressions": [suppression] if each.accepted else [],
    }


def _artifact(path: str) -> dict[str, str]:
    if PurePosixPath(path).is_absolute():
        return {"uri": PurePosixPath(path).as_uri()}
    return {"uri": quote(path), "uriBaseId": BASE}
