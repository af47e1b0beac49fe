"""Tries to refute signatures of evidence and its export in in-toto's terms.

The oracles are the openssl command and securesystemslib for signatures, and in-toto's own message
types for the attestation; keys are made as the documentation says, by openssl.
"""

import atexit
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from falsifiers import adder_project
from tollens.contract import digest

EVIDENCE = "evidence/adder-v1/evidence.json"
ENVELOPE = "evidence/adder-v1/evidence.dsse.json"
CONTRACT = "contracts/adder-v1.yaml"
TYPE = "application/vnd.in-toto+json"


@pytest.fixture
def adder(tmp_path, monkeypatch, capsys):
    return adder_project.Adder(tmp_path / "repository", monkeypatch, capsys)


@cache
def keys():
    """A folder with the keys of two signers, and files that are no ed25519 keys."""
    folder = Path(tempfile.mkdtemp(prefix="keys-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("ours", "theirs"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / f"{name}.pem")
        public(folder, name)
    openssl(
        *("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-out", folder / "ec.pem"),
    )
    public(folder, "ec")
    secret = folder / "locked.pem"
    openssl("pkey", "-in", folder / "ours.pem", "-aes256", "-passout", "pass:x", "-out", secret)
    (folder / "text.pem").write_text("no key\n")
    return folder


def public(folder, name):
    openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}.pub.pem")


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


def sign(adder, name="ours"):
    return adder.tollens("sign", "--key", keys() / f"{name}.pem")


def verify(adder, *names):
    given = [each for name in names for each in ("--key", keys() / f"{name}.pub.pem")]
    return adder.tollens("verify", *given)


def pae(kind, body):
    """DSSE's encoding, from its protocol.md."""
    parts = [b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body]
    return b" ".join(parts)


@pytest.mark.falsifies("TOLLENS-SIGN-001")
def test_others_verify_what_was_signed(adder, observe, tmp_path):
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    refused = [each for each in (sign(adder), verify(adder, "ours")) if each.code]
    written = (adder.root / ENVELOPE).read_bytes()
    said = json.loads(written)
    [signature] = said["signatures"]
    body = base64.b64decode(said["payload"])
    observe("refused_own", len(refused))
    observe("other_bytes", int(body != (adder.root / EVIDENCE).read_bytes()))
    observe("type", said["payloadType"])
    der = openssl("pkey", "-pubin", "-in", keys() / "ours.pub.pem", "-outform", "DER")
    observe("wrong_key_id", int(signature["keyid"] != hashlib.sha256(der).hexdigest()))
    crypto = load_pem_public_key((keys() / "ours.pub.pem").read_bytes())
    key = SSlibKey.from_crypto(crypto, keyid=signature["keyid"])
    try:
        Envelope.from_dict(said).verify([key], 1)
        accepted = True
    except VerificationError:
        accepted = False
    observe("securesystemslib_verifies", accepted)
    (tmp_path / "message").write_bytes(pae(TYPE.encode(), body))
    (tmp_path / "sig").write_bytes(base64.b64decode(json.loads(written)["signatures"][0]["sig"]))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", keys() / "ours.pub.pem"]
    command += ["-rawin", "-in", tmp_path / "message", "-sigfile", tmp_path / "sig"]
    observe("openssl_verifies", subprocess.run(command, capture_output=True).returncode == 0)
    sign(adder)
    observe("differing_bytes", int((adder.root / ENVELOPE).read_bytes() != written))


def resealed(adder):
    """Other evidence whose own digest is right."""
    path = adder.root / EVIDENCE
    document = json.loads(path.read_bytes())
    document["predicate"]["results"][0]["seconds"] += 1
    del document["predicate"]["digest"]
    document["predicate"]["digest"] = digest(document)
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(f"{text}\n")


def rewrite(adder, change):
    """Change the envelope's fields and write it as `tollens sign` would."""
    path = adder.root / ENVELOPE
    document = json.loads(path.read_bytes())
    change(document)
    path.write_text(f"{json.dumps(document, indent=2, sort_keys=True)}\n")


def claim_their_id(adder):
    """Sign with another key, and give the trusted one's id."""
    [trusted] = json.loads((adder.root / ENVELOPE).read_bytes())["signatures"]
    sign(adder, "theirs")
    rewrite(adder, lambda e: e["signatures"][0].update(keyid=trusted["keyid"]))


def sign_again(adder):
    """Two signatures where one is expected."""
    rewrite(adder, lambda e: e["signatures"].append(e["signatures"][0]))


# what is done to signed evidence -> what the refusal says
FORGERIES = {
    "no envelope": (lambda a: (a.root / ENVELOPE).unlink(), "not signed"),
    "an unknown signer": (lambda a: sign(a, "theirs"), "unknown key"),
    "their key under our id": (claim_their_id, "not that of the key"),
    "other evidence": (resealed, "of other evidence"),
    "a changed verdict": (lambda a: a.edit(EVIDENCE, '"BLOCKED"', '"ERROR"'), "altered"),
    "another type": (lambda a: rewrite(a, lambda e: e.update(payloadType="text/plain")), "altered"),
    "a field more": (lambda a: rewrite(a, lambda e: e.update(note="x")), "altered"),
    "no signature": (lambda a: rewrite(a, lambda e: e["signatures"].clear()), "no envelope"),
    "two signatures": (sign_again, "no envelope"),
    "an empty file": (lambda a: (a.root / ENVELOPE).write_text(""), "no envelope"),
    "a list": (lambda a: (a.root / ENVELOPE).write_text("[]"), "no envelope"),
    "no base64": (lambda a: rewrite(a, lambda e: e.update(payload="é")), "no envelope"),
}


@pytest.mark.falsifies("TOLLENS-SIGN-002")
def test_what_is_not_signed_by_a_trusted_key_is_refused(adder, observe):
    unnoticed = []
    for name, (forge, reason) in FORGERIES.items():
        adder.reset()
        sign(adder)
        forge(adder)
        ran = verify(adder, "ours")
        if ran.code != 1 or "FAILS" not in ran.out or reason not in " ".join(ran.out.split()):
            unnoticed.append((name, ran))
    print(unnoticed)
    observe("unnoticed", len(unnoticed))
    observe("tried", len(FORGERIES))
    adder.reset()
    sign(adder, "theirs")
    observe("refused_without_keys", verify(adder).code)
    observe("refused_with_both_keys", verify(adder, "ours", "theirs").code)


@pytest.mark.falsifies("TOLLENS-SIGN-003")
def test_a_flipped_byte_is_refused(adder, observe):
    from tollens.signing import public_keys, refusals

    sign(adder)
    trusted = public_keys([keys() / "ours.pub.pem"])
    path = adder.root / EVIDENCE
    observe("refused_unchanged", len(list(refusals(path, trusted))))
    unnoticed, flips = [], 0
    for name in (EVIDENCE, ENVELOPE):
        file = adder.root / name
        data = file.read_bytes()
        for at in flipped(len(data)):
            for bit in (0, 5):
                changed = bytearray(data)
                changed[at] ^= 1 << bit
                file.write_bytes(changed)
                flips += 1
                unnoticed += [] if list(refusals(path, trusted)) else [(name, at, bit)]
        file.write_bytes(data)
    print(unnoticed)
    observe("unnoticed", len(unnoticed))
    observe("flips", flips)


def flipped(size):
    """Both ends, where the fields are, and places in between."""
    return sorted({*range(64), *range(size - 330, size), *range(64, size - 330, 97)})


MISUSES = {
    "no key": ["sign"],
    "no such key": ["sign", "--key", "absent.pem"],
    "a public key to sign with": ["sign", "--key", "ours.pub.pem"],
    "another kind to sign with": ["sign", "--key", "ec.pem"],
    "a locked key": ["sign", "--key", "locked.pem"],
    "text": ["sign", "--key", "text.pem"],
    "no such public key": ["verify", "--key", "absent.pem"],
    "a private key to trust": ["verify", "--key", "ours.pem"],
    "another kind to trust": ["verify", "--key", "ec.pub.pem"],
    "text to trust": ["verify", "--key", "text.pem"],
}


@pytest.mark.falsifies("TOLLENS-SIGN-004")
def test_a_wrong_key_and_a_missing_package_are_told(adder, observe, monkeypatch):
    ran = {name: adder.tollens(*of_keys(given)) for name, given in MISUSES.items()}
    unclear = {n: r for n, r in ran.items() if r.code != 2 or "Traceback" in r.err or not r.err}
    named = {n: r for n, r in ran.items() if len(MISUSES[n]) > 1 and MISUSES[n][2] not in r.err}
    (adder.root / EVIDENCE).write_text("{}\n")
    altered = sign(adder)
    adder.reset()
    for name in [each for each in sys.modules if each.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    absent = [sign(adder), verify(adder, "ours")]
    without = verify(adder)
    print(unclear, named, altered, absent)
    observe("unclear", len(unclear) + len(named))
    observe("signs_altered_evidence", int(altered.code != 1 or (adder.root / ENVELOPE).exists()))
    unsaid = [each for each in absent if each.code != 2 or "cryptography" not in each.err]
    observe("missing_package_unsaid", len(unsaid))
    observe("needed_without_keys", without.code)


def of_keys(arguments):
    return [keys() / each if each.endswith(".pem") else each for each in arguments]


# The attestation.


def with_verdicts(adder, *verdicts, kill="killed"):
    """Evidence of the sample's two falsifiers with these verdicts; None takes the result away."""
    path = adder.root / EVIDENCE
    document = json.loads(path.read_bytes())
    predicate = document["predicate"]
    results = zip(predicate["results"], verdicts, strict=True)
    predicate["results"] = [each | {"verdict": v} for each, v in results if v]
    predicate["severity"] = [each | {"outcome": kill} for each in predicate["severity"]]
    del predicate["digest"]
    predicate["digest"] = digest(document)
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(f"{text}\n")


ONE, TWO = "F-ADDER-001", "F-ADDER-002"
# verdicts of the two falsifiers, and of their saboteurs -> result, passed, warned, failed
EXPORTS = {
    ("CORROBORATED", "CORROBORATED", "killed"): ("PASSED", [ONE, TWO], [], []),
    ("CORROBORATED", "BLOCKED", "killed"): ("WARNED", [ONE], [TWO], []),
    ("CORROBORATED", "NOT_RUN", "killed"): ("WARNED", [ONE], [TWO], []),
    ("CORROBORATED", None, "killed"): ("WARNED", [ONE], [TWO], []),
    ("CORROBORATED", "INCONCLUSIVE", "killed"): ("FAILED", [ONE], [], [TWO]),
    ("CORROBORATED", "ERROR", "killed"): ("FAILED", [ONE], [], [TWO]),
    ("VACUOUS", "BLOCKED", "killed"): ("FAILED", [], [TWO], [ONE]),
    ("FALSIFIED", "CORROBORATED", "killed"): ("FAILED", [TWO], [], [ONE]),
    ("CORROBORATED", "CORROBORATED", "error"): ("FAILED", [TWO], [], [ONE]),
}


@pytest.mark.falsifies("TOLLENS-SIGN-005")
def test_the_export_is_an_in_toto_test_result(adder, observe):
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0 import test_result_pb2
    from in_toto_attestation.v1 import statement_pb2
    from in_toto_attestation.v1.statement import Statement

    invalid, differing = [], []
    for (*verdicts, kill), expected in EXPORTS.items():
        adder.reset()
        with_verdicts(adder, *verdicts, kill=kill)
        said = adder.tollens("export", EVIDENCE, "--url", "https://ci.example/1").json
        message = json_format.ParseDict(said, statement_pb2.Statement())
        try:
            Statement.copy_from_pb(message).validate()
            result = json_format.ParseDict(said["predicate"], test_result_pb2.TestResult())
        except (ValueError, json_format.ParseError) as error:
            invalid.append((verdicts, str(error)))
            continue
        read = json_format.MessageToDict(result)
        found = [read["result"], *(read.get(f"{each}Tests", []) for each in LISTS)]
        if found != [*expected] or said["_type"] != STATEMENT:
            differing.append((verdicts, found))
    print(invalid, differing)
    observe("invalid", len(invalid))
    observe("differing", len(differing))
    observe("type", said["predicateType"])
    names = {each["name"]: each["digest"]["sha256"] for each in said["predicate"]["configuration"]}
    sums = {each: sha256(adder.root / each) for each in (CONTRACT, EVIDENCE)}
    observe("differing_configuration", len(names.items() ^ sums.items()))
    recorded = json.loads((adder.root / EVIDENCE).read_bytes())["subject"]
    observe("differing_subject", int(said["subject"] != recorded))
    adder.reset()
    adder.edit(CONTRACT, "1e-6", "1e-3")
    observe("exported_of_other_claims", int(adder.tollens("export", EVIDENCE).code != 1))


LISTS = ("passed", "warned", "failed")
STATEMENT = "https://in-toto.io/Statement/v1"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sign_absent(adder):
    return adder.tollens("sign", "absent.json", "--key", keys() / "ours.pem")


@pytest.mark.falsifies("TOLLENS-SIGN-006")
def test_the_commands_have_help_and_json(adder, observe):
    helps = [adder.tollens(name, "--help").out for name in ("sign", "export", "verify")]
    signed = adder.tollens("sign", "--key", keys() / "ours.pem", "--format", "json")
    observe("helps_without_example", sum("Examples:" not in each for each in helps))
    observe("unsaid_files", int(signed.json != {"written": [ENVELOPE]}))
    absent = [adder.tollens("export", "absent.json"), sign_absent(adder)]
    clear = [each.code == 2 and "absent.json: " in each.err for each in absent]
    (adder.root / ENVELOPE).unlink()
    (adder.root / ENVELOPE).mkdir()
    shut = sign(adder)
    clear.append(shut.code == 2 and f"{ENVELOPE}: " in shut.err and "Traceback" not in shut.err)
    observe("unclear_errors", clear.count(False))
