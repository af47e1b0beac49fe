"""Planted faults in the command line that contracts/tollens-cli-v1.yaml must notice."""

from dataclasses import replace


def cli_rule_silent(plant):
    """`check` never looks whether a falsifier is bound."""

    def without_unbound(falsifier):
        return lambda *args: (each for each in falsifier(*args) if each.rule != "unbound")

    plant("tollens.lint._falsifier", without_unbound)


def cli_line_lost(plant):
    """Findings point at the file's first line."""
    plant("tollens.lint._found", lambda found: lambda *a, **k: replace(found(*a, **k), line=1))


def cli_stale_is_fresh(plant):
    """Stale evidence is not reported."""
    plant("tollens.lint._freshness", lambda freshness: lambda *args: iter(()))


def cli_stale_always_fails(plant):
    """What costs a day to redo fails the check as what costs a second does."""
    plant("tollens.contract.Falsifier.strict_freshness", lambda strict: lambda *args: True)


def cli_always_stale(plant):
    """Today's digest of the subject never equals the recorded one."""

    def other(today):
        def changed(*args):
            now = today(*args)
            digests = {
                name: replace(each, subject="0" * 64) for name, each in now.falsifiers.items()
            }
            return replace(now, falsifiers=digests)

        return changed

    plant("tollens.inspection.today", other)


def cli_history_unchecked(plant):
    """The history is not compared with the evidence."""
    plant(
        "tollens.lint.consistency",
        lambda consistency: lambda *args: (f for f in consistency(*args) if f.rule != "history"),
    )


def cli_attachments_unchecked(plant):
    """Attachments are not looked at."""
    plant(
        "tollens.lint.consistency",
        lambda consistency: lambda *args: (f for f in consistency(*args) if f.rule == "history"),
    )


def cli_verify_trusts(plant):
    """Evidence is read without comparing its digest."""
    plant(
        "tollens.evidence.parse",
        lambda parse: lambda data, shown: __import__("tollens").Evidence.model_validate_json(data),
    )


def cli_exit_zero(plant):
    """Errors are printed, and the exit code says that all is well."""

    def polite(fail):
        def exit_zero(message, code):
            fail(message, 0)

        return exit_zero

    plant("tollens.cli_options.fail", polite)


def cli_file_unnamed(plant):
    """A file outside any project is its own project, and is shown as `.`."""

    def fault(find_project):
        def faulty(start):
            found = find_project(start)
            alone = not (found.root / found.contracts).is_dir()
            return replace(found, root=start.resolve()) if alone else found

        return faulty

    plant("tollens.project.find_project", fault)


def cli_json_is_text(plant):
    """--format json prints Python's repr."""
    plant("tollens.cli_options.print_json", lambda print_json: lambda value: print(repr(value)))


def cli_findings_not_wrapped(plant):
    """A finding's text runs on past the right edge."""
    plant("tollens.errors._row", lambda row: lambda name, text: f"  {name:<9} {text}")


def cli_new_overwrites(plant):
    """`new` writes over what is there."""
    plant("tollens.scaffold.refuse_existing", lambda refuse: lambda project, paths: None)


def cli_new_passes(plant):
    """The scaffold's test passes without measuring."""

    def hollow(write):
        def written(*args):
            paths = write(*args)
            text = paths[1].read_text().replace("pytest.fail", "str").replace("…)", ")")
            paths[1].write_text(text)
            return paths

        return written

    plant("tollens.scaffold.write_scaffold", hollow)


def cli_modeline_unfollowed(plant):
    """The first line may name a schema that is not there."""

    def trusting(modeline):
        return lambda loaded: (found := modeline(loaded)) and "not there" not in found[0] and found

    plant("tollens.lint._modeline", trusting)


def cli_errors_of_the_system_uncaught(plant):
    """What cannot be read or written is no error that the command expects."""

    def fault(app):
        def faulty():
            try:
                app()
            except OSError as error:
                raise RuntimeError(str(error)) from error

        return faulty

    plant("tollens.cli.app", fault)


def cli_empty_folder_overlooked(plant):
    """A folder without evidence, beside one with some, is passed over."""

    def fault(evidence_paths):
        def faulty(project, paths):
            kept = [path for path in paths or () if any(path.rglob("evidence.json"))]
            return evidence_paths(project, kept or paths)

        return faulty

    plant("tollens.cli_options.evidence_paths", fault)


def cli_circle_overlooked(plant):
    """That contracts rest on each other in a circle is not looked for."""
    plant("tollens.contract.across", lambda across: lambda loaded, known: [])
