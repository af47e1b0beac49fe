"""Planted faults in the recorder of evidence and history (contracts/tollens-history-v1)."""

import contextlib
import os

import yaml


def history_append_at_end_of_file(plant):
    """The entry goes to the end of the file, not to the end of the list."""

    def at_end(append):
        def replacement(source, entry):
            row = yaml.safe_dump([dict(entry)], sort_keys=False)
            key = "" if "status_history:" in source.text else "status_history:\n"
            return f"{source.text.rstrip()}\n{key}{row}"

        return replacement

    plant("tollens.splice.append", at_end)


def history_line_ends_normalised(plant):
    """The contract is written with the line ends of this machine."""

    def normalised(append):
        return lambda *args: append(*args).replace("\r\n", "\n")

    plant("tollens.splice.append", normalised)


def history_dumped(plant):
    """The contract is parsed, extended and dumped: comments and quotes are gone."""

    def dumped(append):
        def replacement(source, entry):
            data = yaml.safe_load(source.text)
            data["status_history"] = [*(data.get("status_history") or []), dict(entry)]
            return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

        return replacement

    plant("tollens.splice.append", dumped)


def history_lock_not_taken(plant):
    """Processes record at once without waiting for each other."""
    plant("tollens.history.FileLock", lambda lock: lambda path: contextlib.nullcontext())


def history_stale_read(plant):
    """The evidence that a process read first is what it goes on merging into."""

    def read_once(read_replaceable):
        known = {}

        def replacement(path):
            if path not in known:
                known[path] = read_replaceable(path)
            return known[path]

        return replacement

    plant("tollens.history.read_replaceable", read_once)


def history_written_in_place(plant):
    """A file is opened, truncated and written piece by piece."""

    def in_place(original):
        def write_atomically(path, data):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb", buffering=0) as file:
                for at in range(0, len(data), 64):
                    file.write(data[at : at + 64])
                    os.fdatasync(file.fileno())

        return write_atomically

    plant("tollens.evidence.write_atomically", in_place)


def history_gap_not_healed(plant):
    """An entry is only thought of in the run that writes new evidence."""
    wrote = []

    def remembered(differs):
        def replacement(*args):
            wrote[:] = [differs(*args)]
            return wrote[0]

        return replacement

    plant("tollens.history._differs", remembered)
    plant(
        "tollens.history.transition",
        lambda transition: lambda *args: transition(*args) if wrote[0] else None,
    )


def history_version_rule_ignored(plant):
    """Nobody compares the claims with those recorded under their version."""
    plant("tollens.history.moved_claims", lambda moved_claims: lambda contract: None)


def history_claims_without_bounds(plant):
    """The digest of the claims leaves out the measures."""

    def boundless(digest):
        def replacement(value):
            if isinstance(value, dict) and "falsifiers" in value:
                bare = [{**each, "measures": None} for each in value["falsifiers"]]
                value = {**value, "falsifiers": bare}
            return digest(value)

        return replacement

    plant("tollens.contract.digest", boundless)


def history_old_version_counts(plant):
    """The digest of a claim leaves out its contract's version and its bounds."""
    plant(
        "tollens.contract.Contract.claim",
        lambda claim: lambda contract, falsifier: falsifier.id.encode().hex().zfill(64)[:64],
    )


def history_entry_every_run(plant):
    """Every discharge is taken for one that moved."""
    plant(
        "tollens.history.moved_discharges",
        lambda moved: lambda contract, standing: standing.discharges,
    )


def history_discharge_unnoticed(plant):
    """Only a change of the contract's status is written down."""
    plant("tollens.history.moved_discharges", lambda moved: lambda contract, standing: {})


def history_evidence_always_rewritten(plant):
    """Evidence is replaced though nothing changed."""
    plant("tollens.history._differs", lambda differs: lambda *args: True)
