"""Planted faults in what CI is given that contracts/tollens-ci-v1.yaml must notice."""

import shutil
from contextlib import contextmanager
from dataclasses import replace

import yaml


def sarif_line_lost(plant):
    """Every result points at the first line."""

    def first_line(result):
        def changed(*args):
            made = result(*args)
            made["locations"][0]["physicalLocation"]["region"]["startLine"] = 1
            return made

        return changed

    plant("tollens.sarif._result", first_line)


def sarif_rule_of_another(plant):
    """A result's index is that of the rule before."""

    def rule_before(result):
        return lambda *args: (made := result(*args)) | {"ruleIndex": made["ruleIndex"] - 1}

    plant("tollens.sarif._result", rule_before)


def sarif_path_unescaped(plant):
    """A path is written as it is, where a URI is due."""
    plant("tollens.sarif._artifact", lambda _: _uri)


def _uri(path):
    return {"uri": path, "uriBaseId": "%SRCROOT%"}


def sarif_version_missing(plant):
    """The log does not say its version."""

    def without(log):
        return lambda *args: {k: v for k, v in log(*args).items() if k != "version"}

    plant("tollens.sarif.log", without)


def sarif_accepted_as_open(plant):
    """What is accepted is a finding like any other in the log."""

    def opened(result):
        return lambda *args: result(*args) | {"suppressions": []}

    plant("tollens.sarif._result", opened)


def github_property_unescaped(plant):
    """A comma or a colon in a path ends the property."""
    from tollens.workflow_commands import _data

    plant("tollens.workflow_commands._property", lambda _: _data)


def github_percent_unescaped(plant):
    """A percent sign stays, and is read as the start of an escape."""
    plant(
        "tollens.workflow_commands._data",
        lambda _: lambda text: text.replace("\r", "%0D").replace("\n", "%0A"),
    )


def github_path_of_project(plant):
    """A file is named from the project's root, also where that lies below the repository's."""
    plant("tollens.past.in_repository", lambda _: lambda root: str)


def github_path_glued(plant):
    """The way to the project is put before any path, also of a file beside the project."""
    plant("tollens.past.in_repository", lambda _: lambda root: lambda path: f"{root.name}/{path}")


def fingerprint_of_the_line(plant):
    """The fingerprint changes with the line."""
    plant(
        "tollens.fingerprints._identity",
        lambda identity: lambda each: f"{each.line:016x}" if each.line else identity(each),
    )


def fingerprint_of_the_rule(plant):
    """All findings of a rule in a file are alike."""
    plant(
        "tollens.fingerprints._identity",
        lambda identity: lambda each: identity(replace(each, found="", key="")),
    )


def baseline_expired_excuses(plant):
    """What is past its day goes on to excuse."""
    plant("tollens.baseline._holds", lambda _: lambda entry, today: bool(entry.reason.strip()))


def baseline_without_reason_excuses(plant):
    """An entry whose reason says nothing excuses."""
    plant("tollens.baseline._holds", lambda _: lambda entry, today: today <= entry.expires)


def baseline_entry_misnames(plant):
    """An entry may say that it is of another finding than its fingerprint is."""
    plant(
        "tollens.baseline.Entry.names",
        lambda _: lambda self, each: self.fingerprint == each.fingerprint,
    )


def baseline_grows(plant):
    """--update writes what is found now, new findings too."""

    def grow(shrink):
        def grown(baseline, found, today):
            from tollens.baseline import read_baseline, start

            start(baseline.path, found, today)
            return read_baseline(baseline.path, baseline.source.path)

        return grown

    plant("tollens.baseline.shrink", grow)


def baseline_keeps_what_is_gone(plant):
    """An entry whose finding is gone stays, and nobody is told."""
    plant("tollens.baseline._faults", lambda _: lambda *args: iter(()))


def baseline_rewritten(plant):
    """--update writes the file anew, without the comments in it."""
    import yaml

    from tollens.baseline import _validated
    from tollens.source import parse

    def rewrite(shrink):
        def rewritten(baseline, found, today):
            shrunk = shrink(baseline, found, today)
            text = yaml.safe_dump(shrunk.source.data | {"accepted": shrunk.source.data["accepted"]})
            baseline.path.write_text(text)
            return _validated(baseline.path, parse(text, baseline.source.path))

        return rewritten

    plant("tollens.baseline.shrink", rewrite)


def baseline_unchecked(plant):
    """A baseline that is none is taken for an empty one."""
    from tollens.baseline import Baseline

    plant(
        "tollens.baseline._validated",
        lambda _: lambda path, source: Baseline(path, source, ()),
    )


def baseline_day_unchecked(plant):
    """What is no day never comes."""

    def lenient(read_text):
        return lambda path, shown: read_text(path, shown).replace(
            "expires: soon", "expires: 9999-12-31"
        )

    plant("tollens.source.read_text", lenient)


def diff_shows_all(plant):
    """What the revision had already is shown again."""
    plant("tollens.cli_check._fingerprints_at", lambda _: lambda *args: set())


def diff_with_the_tree_itself(plant):
    """The working tree is compared with itself."""

    @contextmanager
    def itself(project, revision):
        yield project

    plant("tollens.past.project_at", lambda _: itself)


def diff_leaves_out_a_folder(plant):
    """What an archive of the revision would not have is left out."""

    def fault(tree):
        def exported(*args, **kwargs):
            found = tree(*args, **kwargs).items()
            return {path: name for path, name in found if not path.startswith("contracts/")}

        return exported

    plant("tollens.revisions.tree", fault)


def diff_leaves_out_links(plant):
    """A symbolic link of the revision is not there."""
    plant("tollens.past._link", lambda _: lambda folder, path, target: None)


def diff_leaves_a_copy(plant):
    """The revision's files stay in the project."""

    def fault(project_at):
        @contextmanager
        def leaving(project, revision):
            with project_at(project, revision) as past:
                shutil.copytree(past.root, project.root / "then", dirs_exist_ok=True)
                yield past

        return leaving

    plant("tollens.past.project_at", fault)


def rule_always_silent(plant):
    """One rule of many is not looked at any more."""
    plant(
        "tollens.lint._whole_project",
        lambda whole: lambda *args: (each for each in whole(*args) if each.rule != "orphan"),
    )


def rule_fires_twice(plant):
    """A rule fires at what is sound, too."""

    def everywhere(falsifier):
        def twice(inspection, loaded, each, at):
            for finding in falsifier(inspection, loaded, each, at):
                yield finding
                yield replace(finding, line=1)

        return twice

    plant("tollens.lint._falsifier", everywhere)


def rules_page_outdated(plant):
    """The page says what a rule said last year."""
    write_into(plant, "docs/rules.md", "Write the test;", "Consider a test;")


def hook_given_files(plant):
    """The staged files are appended to the command, which takes contracts only."""
    write_into(plant, ".pre-commit-hooks.yaml", "pass_filenames: false", "pass_filenames: true")


def hook_of_another_command(plant):
    """The hook says the version, and stops nothing."""
    write_into(plant, ".pre-commit-hooks.yaml", "entry: tollens verify", "entry: tollens --version")


def workflow_option_gone(plant):
    """A step gives an option that the command does not have."""
    write_into(plant, "docs/ci/github.yml", "check --format sarif", "check --output sarif")


def workflow_key_misspelt(plant):
    """A key that GitHub refuses."""
    write_into(plant, "docs/ci/github.yml", "runs-on:", "run-on:")


def pipeline_without_validate(plant):
    """The pipelines run a target that is gone, and no falsifier."""
    write_into(plant, "docs/ci/gitlab.yml", "make validate", "make verify")


def workflow_without_validate(plant):
    """The workflow checks contracts and runs no falsifier."""
    write_into(plant, "docs/ci/github.yml", "run: make validate", "run: make lint")


def workflow_report_unwritten(plant):
    """The workflow writes no page."""
    write_into(plant, "docs/ci/github.yml", ".venv/bin/tollens report -o report.html\n", "\n")


def workflow_report_dropped(plant):
    """The workflow uploads another file than the page."""
    write_into(plant, "docs/ci/github.yml", "path: report.html", "path: dist")


def workflow_report_of_successes(plant):
    """Where a falsifier fails, nobody gets the page."""
    old = "        if: always()\n        with:\n          name: tollens-report"
    write_into(plant, "docs/ci/github.yml", old, old.replace("        if: always()\n", ""))


def workflow_summary_dropped(plant):
    """What changed is written into a file that goes with the machine."""
    write_into(plant, "docs/ci/github.yml", '>> "$GITHUB_STEP_SUMMARY"', "> summary.md")


def workflow_sarif_dropped(plant):
    """The SARIF log is written and not uploaded."""
    write_into(plant, "docs/ci/github.yml", "sarif_file: tollens.sarif", "sarif_file: other.sarif")


def pipeline_report_unwritten(plant):
    """The pipeline writes no page."""
    write_into(plant, "docs/ci/gitlab.yml", "    - .venv/bin/tollens report -o report.html\n", "")


def pipeline_report_dropped(plant):
    """The pipeline does not keep the page."""
    write_into(plant, "docs/ci/gitlab.yml", "      - report.html\n", "")


def pipeline_summary_dropped(plant):
    """The pipeline does not keep what changed."""
    write_into(plant, "docs/ci/gitlab.yml", "      - summary.md\n", "")


def pipeline_keeps_successes(plant):
    """Where a falsifier fails, nothing is kept."""
    write_into(plant, "docs/ci/gitlab.yml", "when: always", "when: on_success")


def write_into(plant, path, old, new):
    """Show `new` for `old` in the text of one file."""

    def shown(text_of):
        return lambda each: text_of(each).replace(old, new) if each == path else text_of(each)

    plant("falsifiers.published.text_of", shown)


def junit_without_bounds(plant):
    """A measure is shown without the bound that it must keep."""
    from tollens.hooks import JudgingHooks

    original = JudgingHooks._properties
    plant(
        "tollens.hooks.JudgingHooks._properties",
        lambda _: (
            lambda self, trial: (
                pair for pair in original(self, trial) if not pair[0].startswith("bound.")
            )
        ),
    )


def junit_of_the_first_falsifier(plant):
    """Of a test that is bound to two falsifiers, one is shown."""
    from tollens.hooks import JudgingHooks

    original = JudgingHooks._properties
    plant(
        "tollens.hooks.JudgingHooks._properties",
        lambda _: (
            lambda self, trial: original(self, trial) if trial.falsifier != "F-BROKEN" else iter(())
        ),
    )


def baseline_of_an_older_yaml(plant):
    """A baseline is written for readers of YAML 1.1, to which other texts are numbers."""
    plant("tollens.yaml_writer.dump", lambda _: lambda data: yaml.safe_dump(data, sort_keys=False))
