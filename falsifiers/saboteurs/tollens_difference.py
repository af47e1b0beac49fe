"""Planted faults in comparing contracts (contracts/tollens-difference-v1)."""

from dataclasses import replace


def difference_loosened_is_minor(plant):
    """A loosened bound is taken for a tightened one."""

    def softened(measure):
        def replacement(*args):
            for change in measure(*args):
                yield replace(change, bump=min(change.bump, type(change.bump).MINOR))

        return replacement

    plant("tollens.difference._measure", softened)


def difference_openness_ignored(plant):
    """`lt 1` and `le 1` are taken to admit the same."""

    def closed(interval):
        def replacement(measure):
            found = interval(measure)
            return found and tuple((end, True) for end, _ in found)

        return replacement

    plant("tollens.difference._interval", closed)


def difference_removal_unseen(plant):
    """What was removed from the claims is not looked for."""

    def additions(members):
        def replacement(*args):
            return (each for each in members(*args) if "removed" not in each.what)

        return replacement

    plant("tollens.difference._members", additions)


def difference_dropped_saboteur_unseen(plant):
    """A saboteur that need not be killed any more is no change."""

    def forgiving(falsifier):
        def replacement(*args):
            return (each for each in falsifier(*args) if "any more" not in each.what)

        return replacement

    plant("tollens.difference._falsifier", forgiving)


def difference_versions_as_text(plant):
    """Versions are compared as text, so that 1.10.0 comes before 1.9.0."""

    def as_text(given):
        def replacement(old, new):
            bump = given(old, new)
            return bump if old.version < new.version else type(bump).NONE

        return replacement

    plant("tollens.difference.given", as_text)


def difference_told_in_wide_lines(plant):
    """A change is one line, however long."""
    plant("tollens.wrapping.wrap", lambda wrap: lambda text, *args, **more: [text])


def difference_too_low_a_version_passes(plant):
    """Any new version is taken to give what the change needs."""
    plant("tollens.difference.given", lambda given: lambda old, new: type(given(old, new)).MAJOR)


def difference_more_asked_is_major(plant):
    """A gate that requires more is told as one that requires less."""

    def fault(gate):
        return lambda old, new: (
            replace(each, bump=type(each.bump).MAJOR) for each in gate(old, new)
        )

    plant("tollens.difference._gate", fault)
