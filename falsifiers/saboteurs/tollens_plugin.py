"""Planted faults in the plugin that contracts/tollens-plugin-v1.yaml must notice.

They are in force in the pytest that judges the falsifier too; each leaves a failed assertion alone.
"""

import copy

from falsifiers.saboteurs.tollens_verdicts import judged
from tollens.verdicts import Level, Verdict


def plain_run_unjudged(plant):
    """Whatever a passing test observed, it holds."""
    plant("tollens.observing.verdict_of", judged(Verdict.VACUOUS, Verdict.FALSIFIED))


def plugin_always_active(plant):
    """A session opens without --contract too."""

    def fault(configure):
        def configured(config):
            from tollens.hooks import SessionHooks
            from tollens.project import read_project
            from tollens.session import Session

            configure(config)
            if not config.getoption("contract"):
                session = Session(read_project(config.rootpath), [])
                config.pluginmanager.register(SessionHooks(session), "tollens-session")

        return configured

    plant("tollens.plugin.pytest_configure", fault)


def cache_made_early(plant):
    """The cache folder is made at the start of every run."""

    def fault(configure):
        def configured(config):
            (config.rootpath / ".tollens").mkdir(exist_ok=True)
            (config.rootpath / ".tollens" / ".gitignore").write_text("*")
            configure(config)

        return configured

    plant("tollens.plugin.pytest_configure", fault)


def harness_imported_early(plant):
    """The plugin imports the harness with its options."""

    def fault(addoption):
        def added(parser):
            exec("import tollens.contract", {"__name__": "tollens.plugin"})
            addoption(parser)

        return added

    plant("tollens.plugin.pytest_addoption", fault)


def plain_run_records(plant):
    """A plain run is recorded like one under --contract."""

    def fault(hooks):
        def recording(config, judging_only):
            from tollens.hooks import SessionHooks

            session = hooks(config, judging_only).session
            session.mode = "auto"
            return SessionHooks(session)

        return recording

    plant("tollens.plugin._hooks", fault)


def contract_copied_at_every_test(plant):
    """The whole contract is copied for every test."""

    def fault(observe):
        def slow(session, ids):
            copy.deepcopy([each.contract for each in session.loaded])
            return observe(session, ids)

        return slow

    plant("tollens.session.Session.observe", fault)


def scalar_truncated(plant):
    """Numbers are recorded as whole ones."""

    def fault(of_kind):
        def whole(*args):
            plain = of_kind(*args)
            return int(plain) if type(plain) is float else plain

        return whole

    plant("tollens.observing._of_kind", fault)


def any_kind_accepted(plant):
    """A text or a boolean passes for a number."""
    plant("tollens.bounds.accepts", lambda accepts: lambda measure, value: True)


def digest_of_the_name(plant):
    """A file's digest is that of its name."""
    plant(
        "tollens.outcomes.sha256_of",
        lambda sha256: lambda path: f"{len(path.name):064x}",
    )


def attachments_not_kept(plant):
    """Attached files are named in the evidence and copied nowhere."""
    plant("tollens.history._keep_attachments", lambda keep: lambda project, new: None)


def runtime_without_artefact(plant):
    """Level runtime needs no artefact."""

    def fault(at):
        def lenient(observe, level, artifact=None):
            if artifact is None and level == "runtime":
                observe.level = Level.RUNTIME
            else:
                at(observe, level, artifact)

        return lenient

    plant("tollens.observing.Observe.at", fault)
