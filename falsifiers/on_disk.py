"""What stands on disk after a recording, read back with PyYAML and json alone.

Tells a whole file from a torn one; shares no code with the harness.
"""

import hashlib
import json
from collections.abc import Iterator

import yaml

from falsifiers.small_project import SmallProject

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def is_insertion(old: str, new: str) -> bool:
    """Whether `new` is `old` with one slice more."""
    grown = len(new) - len(old)
    at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    return grown > 0 and old[at:] == new[at + grown :]


def history_of(contract: bytes) -> list[dict]:
    """The status history as plain PyYAML reads it."""
    data = yaml.load(contract, Loader=LOADER)
    return data.get("status_history") or []


def is_sealed(data: bytes) -> bool:
    """Whether an evidence file's digest is that of everything else in it, in canonical form."""
    try:
        document = json.loads(data)
        claimed = document["predicate"].pop("digest")
    except (ValueError, KeyError, TypeError):
        return False
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest() == claimed


CONTRACT, EVIDENCE = 0, 1


def state(small: SmallProject) -> tuple[bytes, bytes]:
    evidence = small.evidence_path
    return small.contract_path.read_bytes(), evidence.read_bytes() if evidence.exists() else b""


def problems(before: tuple[bytes, bytes], after: tuple[bytes, bytes]) -> Iterator[str]:
    """What is neither the old file nor a whole new one."""
    if before[EVIDENCE] != after[EVIDENCE] and not is_sealed(after[EVIDENCE]):
        yield "the evidence does not verify"
    if before[CONTRACT] == after[CONTRACT]:
        return
    if not is_insertion(before[CONTRACT].decode(), after[CONTRACT].decode("utf-8", "replace")):
        yield "the contract is not the old one with one slice more"
    elif not is_extension(before[CONTRACT], after[CONTRACT]):
        yield "the history did not grow by one whole entry"


KEYS = {"date", "version", "from", "to", "evidence", "sha256", "claims", "commit", "dirty"}
KEYS |= {"summary", "verdicts"}


def is_extension(before: bytes, after: bytes) -> bool:
    """Whether the list grew by one entry that is whole to its last line, which is a verdict."""
    try:
        *old, last = history_of(after)
    except (yaml.YAMLError, ValueError, AttributeError):
        return False
    whole = isinstance(last, dict) and last.keys() == KEYS and isinstance(last["verdicts"], dict)
    return whole and bool(last["verdicts"]) and old == history_of(before) and after[-1:] == b"\n"
