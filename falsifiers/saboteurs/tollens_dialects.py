"""Planted faults in reading and importing another dialect (contracts/tollens-dialects-v1)."""

import re
from dataclasses import replace


def dialect_alias_ignored(plant):
    """A part of a falsifier that goes by its older key is not seen."""

    def canonical(said):
        return lambda prose, word: prose.item.get(word)

    plant("tollens.dialect.Prose.said", canonical)


def dialect_recognised_by_name(plant):
    """Only a file that has the newest section is taken for one in the dialect."""
    plant(
        "tollens.dialect.is_foreign", lambda _: lambda data: "falsification_tests" in (data or ())
    )


def dialect_takes_ours(plant):
    """Whatever has metadata is taken for a contract in the other dialect."""
    plant("tollens.dialect.is_foreign", lambda _: lambda data: "metadata" in (data or ()))


def dialect_looser_is_an_error(plant):
    """What the dialect lets pass fails the check."""

    def strict(finding):
        return lambda *args: replace(finding(*args), severity="error")

    plant("tollens.dialect.Foreign.finding", strict)


def dialect_looser_is_silent(plant):
    """Nothing is said of what the dialect lets pass."""

    def quiet(findings):
        return lambda foreign: (each for each in findings(foreign) if each.severity == "error")

    plant("tollens.dialect.findings", quiet)


def dialect_ids_twice(plant):
    """Two falsifiers may have one id."""
    plant("tollens.dialect._twice", lambda _: lambda foreign: iter(()))


def dialect_line_lost(plant):
    """Findings name the file's first line."""

    def first(finding):
        return lambda *args: replace(finding(*args), line=1)

    plant("tollens.dialect.Foreign.finding", first)


def dialect_unknown_key_refused(plant):
    """A key that is no string is refused, though the dialect keeps it."""

    def refused(findings):
        def replacement(foreign):
            yield from foreign.source.odd
            yield from findings(foreign)

        return replacement

    plant("tollens.dialect.findings", refused)


def dialect_prose_is_bound(plant):
    """A test that only prose describes is taken for a bound one."""

    def trusting(falsifier):
        def replacement(foreign, each):
            found = falsifier(foreign, each)
            return (one for one in found if one.rule != "prose" or not each.said("test"))

        return replacement

    plant("tollens.dialect._falsifier", trusting)


def dialect_prose_left_out_of_the_table(plant):
    """A run says nothing of the contracts that it cannot run."""

    def forgetful(open_session):
        def replacement(*args):
            session = open_session(*args)
            session.foreign = ()
            return session

        return replacement

    plant("tollens.session.open_session", forgetful)


def dialect_prose_left_out_of_the_pages(plant):
    """The report and the graph say nothing of the contracts that they do not show."""
    plant("tollens.unbound.beside", lambda _: lambda foreign: "")


def dialect_remedy_untold(plant):
    """A contract in the other dialect is refused without a word of what to do."""

    def terse(finding):
        return lambda source: replace(finding(source), hint="")

    plant("tollens.dialect.foreign_finding", terse)


def import_drops_what_it_does_not_know(plant):
    """What has no key of ours is dropped, and nobody looks for it."""
    plant("tollens.importing._remains", lambda _: lambda *args: iter(()))
    plant("tollens.importing._missing", lambda _: lambda *args: iter(()))


def import_first_of_a_list(plant):
    """Of a list that is carried as text, only the first item is."""

    def first(lines):
        def replacement(value, key):
            return lines(value[:1] if isinstance(value, list) else value, key)

        return replacement

    plant("tollens.importing._lines", first)
    plant("tollens.importing._missing", lambda _: lambda *args: iter(()))


def import_text_unquoted(plant):
    """A text that looks like a number is written without quotes."""

    def unquoted(text):
        return lambda *args: re.sub(r": '([0-9.]+)'$", r": \1", text(*args), flags=re.MULTILINE)

    plant("tollens.importing.Imported.text", unquoted)


def import_comments_dropped(plant):
    """The source's comments are dropped."""
    plant("tollens.importing._comments", lambda _: lambda foreign: iter(()))


def import_history_as_written(plant):
    """A history is told in the order of the file, newest first as it may be."""
    plant("tollens.importing.chronological", lambda _: list)


def import_history_by_date_alone(plant):
    """Of one day, the order of the file is kept, though it is newest first."""
    plant("tollens.importing.chronological", lambda _: by_date)


def by_date(entries):
    """The entries by their dates, if all have one."""
    dated = all("date" in entry for entry in entries)
    return sorted(entries, key=lambda entry: entry["date"]) if dated else None


def import_bound_guessed(plant):
    """The first comparison in a prediction is taken for its bound."""

    def guessing(pattern_of):
        def replacement(prediction):
            found = re.search(r"(\w+) (<|<=|>|>=) ([0-9.e-]+)", prediction)
            return {found[1]: {"le": float(found[3])}} if found else pattern_of(prediction)

        return replacement

    plant("tollens.importing._measures", guessing)


def import_ids_renumbered(plant):
    """Falsifiers get new ids."""
    plant(
        "tollens.importing._falsifier_id",
        lambda _: lambda foreign, each, taken: f"F-{len(taken) + 1:03}",
    )


def import_gate_requires_one(plant):
    """The quality gate requires the first falsifier only."""

    def lenient(gates):
        return lambda *args: [{**gate, "requires": gate["requires"][:1]} for gate in gates(*args)]

    plant("tollens.importing._gates", lenient)


def import_overwrites(plant):
    """A file that exists is written over."""
    plant("tollens.scaffold.refuse_existing", lambda _: lambda project, paths: None)


def import_of_an_invalid_one(plant):
    """A contract that is none in its own dialect is imported as far as it goes."""
    plant("tollens.dialect.findings", lambda _: lambda foreign: iter(()))


def import_writes_before_it_looks(plant):
    """The folder is made for a contract that is then refused."""

    def fault(schema_for):
        def faulty(contract):
            contract.parent.mkdir(parents=True, exist_ok=True)
            return schema_for(contract)

        return faulty

    plant("tollens.scaffold.schema_for", fault)


def import_content_with_what_is_part_of_another(plant):
    """A value counts as carried wherever its text stands, in a longer one too."""
    plant("tollens.importing._times", lambda _: lambda text, rows, tails: rows.count(text))
