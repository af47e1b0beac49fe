"""Planted faults in signatures and export that contracts/tollens-sign-v1.yaml must notice."""

import json


def sign_without_lengths(plant):
    """What is signed does not say where the type ends and the payload begins."""
    plant(
        "tollens.signing.pae",
        lambda _: lambda kind, body: b" ".join([b"DSSEv1", kind.encode(), body]),
    )


def sign_of_the_payload_alone(plant):
    """The payload is signed without its type."""
    plant("tollens.signing.pae", lambda _: lambda kind, body: body)


def sign_of_parsed_json(plant):
    """Not the file's bytes are signed, but what they mean, written anew."""
    plant("tollens.signing._bytes_of", lambda read: lambda *args: _compact(read(*args)))
    plant(
        "tollens.evidence.parse", lambda parse: lambda data, shown: parse(_canonical(data), shown)
    )


def _canonical(data):
    text = json.dumps(json.loads(data), indent=2, sort_keys=True, ensure_ascii=False)
    return f"{text}\n".encode()


def _compact(data):
    return json.dumps(json.loads(data)).encode()


def verify_signature_unchecked(plant):
    """A signature is there; whether it is right is not asked."""
    plant("tollens.signing._verifies", lambda _: lambda key, signature, message: True)


def verify_any_key(plant):
    """The id in the envelope is believed: a key is not looked for among the trusted ones."""

    class Trusting(dict):
        def __contains__(self, name):
            return True

        def __getitem__(self, name):
            return next(iter(self.values()))

    plant(
        "tollens.signing.refusals",
        lambda refusals: (
            lambda path, trusted: (
                each for each in refusals(path, Trusting(trusted)) if "is not that of" not in each
            )
        ),
    )


def verify_unsigned_holds(plant):
    """What has no signature has no wrong one."""
    plant(
        "tollens.signing.refusals",
        lambda refusals: (
            lambda path, trusted: (
                each for each in refusals(path, trusted) if not each.startswith("not signed")
            )
        ),
    )


def verify_of_any_evidence(plant):
    """The envelope is verified by itself; what lies beside it is not compared."""
    plant(
        "tollens.signing.refusals",
        lambda refusals: (
            lambda path, trusted: (
                each for each in refusals(path, trusted) if "of other evidence" not in each
            )
        ),
    )


def verify_envelope_lenient(plant):
    """The envelope is read as any JSON: what is not signed in it may be anything."""

    def lenient(refusals):
        return lambda path, trusted: (
            each for each in refusals(path, trusted) if "not the bytes" not in each
        )

    plant("tollens.signing.refusals", lenient)


def sign_with_any_key(plant):
    """A key of another kind is taken, and the error is somebody else's."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from tollens.errors import ProjectError
    from tollens.signing import ABSENT

    def fault(private_key):
        def any_key(path):
            try:
                return private_key(path)
            except ProjectError as error:
                if str(error) == ABSENT:
                    raise
                return Ed25519PrivateKey.generate()

        return any_key

    plant("tollens.signing.private_key", fault)


def sign_unread(plant):
    """Evidence that does not verify is signed all the same."""
    from tollens.errors import EvidenceError

    def fault(parse):
        def lenient(data, shown):
            try:
                return parse(data, shown)
            except EvidenceError:
                return None

        return lenient

    plant("tollens.evidence.parse", fault)


def export_warned_as_passed(plant):
    """What was blocked is passed."""
    plant(
        "tollens.attestation._result",
        lambda result: lambda *args: {"WARNED": "PASSED"}.get(result(*args), result(*args)),
    )


def export_without_the_missing(plant):
    """A falsifier without a result is left out."""

    def fault(statement):
        def exported(loaded, evidence, *rest):
            made = statement(loaded, evidence, *rest)
            seen = {each.falsifier for each in evidence.predicate.results}
            predicate = made["predicate"]
            predicate["warnedTests"] = [e for e in predicate["warnedTests"] if e in seen]
            if predicate["result"] == "WARNED" and not predicate["warnedTests"]:
                predicate["result"] = "PASSED"
            return made

        return exported

    plant("tollens.attestation.statement", fault)


def export_blind_to_saboteurs(plant):
    """A saboteur that was in error is no matter."""

    def fault(result):
        def blind(evidence, name):
            bare = evidence.predicate.model_copy(update={"severity": []})
            return result(evidence.model_copy(update={"predicate": bare}), name)

        return blind

    plant("tollens.attestation._result", fault)


def sign_says_nothing(plant):
    """What was written is not said."""
    plant("tollens.cli_options.print_json", lambda _: lambda value: print("{}"))
