"""Signatures of evidence: DSSE envelopes with ed25519 keys in PEM; off unless a key is given.

The envelope lies beside the evidence, and its bytes are a function of the evidence, the key's id
and the signature: any other byte in it is refused. Which keys are to be trusted is not known here.
Formats: DSSE v1.0.0 (protocol.md, envelope.md); keys as `openssl genpkey -algorithm ed25519` and
`openssl pkey -pubout` write them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tollens.errors import EvidenceError, ProjectError
from tollens.evidence import parse, write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ABSENT = "signatures need the package cryptography; install it, or tollens with its extra `sign`"


def pae(payload_type: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed, unambiguously (protocol.md)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


def envelope_path(evidence: Path) -> Path:
    return evidence.with_name("evidence.dsse.json")


def sign(evidence: Path, shown: str, key: Ed25519PrivateKey) -> Path:
    """Write the envelope of an evidence file that verifies; returns its path."""
    body = _bytes_of(evidence, shown)
    parse(body, shown)
    path = envelope_path(evidence)
    signature = key.sign(pae(PAYLOAD_TYPE, body))
    write_atomically(path, _envelope(body, key_id(key.public_key()), signature))
    return path


def refusals(evidence: Path, trusted: Mapping[str, Ed25519PublicKey]) -> Iterator[str]:
    """Why the signature of an evidence file is not to be relied on; nothing if it is."""
    path = envelope_path(evidence)
    if not path.is_file():
        yield f"not signed: there is no {path.name} beside it"
        return
    data = path.read_bytes()
    try:
        document = json.loads(data)
        signed = base64.b64decode(document["payload"], validate=True)
        [signature] = document["signatures"]
        keyid, sig = str(signature["keyid"]), base64.b64decode(signature["sig"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        yield f"{path.name} is no envelope of one signature: {type(error).__name__}: {error}"
        return
    if data != _envelope(signed, keyid, sig):
        yield f"{path.name} is altered: not the bytes that `tollens sign` writes"
    elif signed != evidence.read_bytes():
        yield f"{path.name} is of other evidence: its payload is not the evidence's bytes"
    elif keyid not in trusted:
        yield f"signed by an unknown key {keyid[:16]}; given: {_ids(trusted)}"
    elif not _verifies(trusted[keyid], sig, pae(PAYLOAD_TYPE, signed)):
        yield f"the signature is not that of the key {keyid[:16]} over these bytes"


def _envelope(body: bytes, keyid: str, signature: bytes) -> bytes:
    document = {
        "payload": base64.b64encode(body).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode()}],
    }
    return f"{json.dumps(document, indent=2, sort_keys=True)}\n".encode()


def _verifies(key: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def key_id(key: Ed25519PublicKey) -> str:
    """The sha256 of the public key's DER, as `openssl pkey -pubin -outform DER` writes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def private_key(path: Path) -> Ed25519PrivateKey:
    """The signer's key. Raises ProjectError where the file holds none."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ModuleNotFoundError as error:
        raise ProjectError(ABSENT) from error
    key = _load(path, lambda data: load_pem_private_key(data, None), "an unencrypted private key")
    if not isinstance(key, Ed25519PrivateKey):
        raise ProjectError(f"{path}: {type(key).__name__}; expected an ed25519 private key")
    return key


def public_keys(paths: Iterable[Path]) -> dict[str, Ed25519PublicKey]:
    """Id → the key of a signer to trust. Raises ProjectError where a file holds none."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError as error:
        raise ProjectError(ABSENT) from error
    found = {}
    for path in paths:
        key = _load(path, load_pem_public_key, "a public key")
        if not isinstance(key, Ed25519PublicKey):
            raise ProjectError(f"{path}: {type(key).__name__}; expected an ed25519 public key")
        found[key_id(key)] = key
    return found


def _load(path: Path, load: Any, expected: str) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return load(path.read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ProjectError(
            f"{path}: {str(error) or 'not PEM'}; expected {expected} in PEM"
        ) from error
    except OSError as error:
        raise ProjectError(f"{path}: {error.strerror}; expected {expected} in PEM") from error


def _bytes_of(path: Path, shown: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvidenceError(f"{shown}: {error.strerror}; expected an evidence file") from error


def _ids(trusted: Mapping[str, Any]) -> str:
    return ", ".join(name[:16] for name in trusted)
