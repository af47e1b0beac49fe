"""Faults in dispatching and watching; what the host runs is sent as source, and faulted as that."""

import subprocess
from contextlib import contextmanager
from pathlib import Path

from engine.dispatch.host import Cut
from engine.dispatch.verdict import Verdict


def there(plant, name, old, new):
    """Put other words into a module that is sent to the host."""

    def fault(source):
        def faulty(path):
            text = source(path)
            if path.name != name:
                return text
            if old not in text:
                raise RuntimeError(f"{name} no longer holds {old}")
            return text.replace(old, new)

        return faulty

    plant("engine.dispatch.host.source", fault)


# Before anything is started


def dry_run_connects(plant):
    """A dry run asks the host whether it is there."""

    def fault(introduction):
        def faulty(order, project):
            configs = Path("/tmp").glob("sshd-*/ssh_config")
            config = max(configs, key=lambda path: path.stat().st_mtime)
            subprocess.run(["ssh", "-F", config, order.host, "true"], capture_output=True)
            return introduction(order, project)

        return faulty

    plant("engine.cli_dispatch.introduction", fault)


def dry_run_leaves_a_plan(plant):
    """A dry run writes its plan into the folder that it is called in."""

    def fault(introduction):
        def faulty(order, project):
            Path("dispatch.json").write_text(str(order.to_dict()))
            return introduction(order, project)

        return faulty

    plant("engine.cli_dispatch.introduction", fault)


def dry_run_hides_a_hyperparameter(plant):
    """The last hyperparameter is not printed."""
    plant("engine.cli_dispatch.introduction", lambda told: lambda *given: told(*given)[:-1])


def preflight_only_told(plant):
    """What is amiss is printed, and the run is started all the same."""
    plant("engine.dispatch.preflight.require", lambda require: lambda host, checks: None)


def a_missing_teacher_is_passed_over(plant):
    """Nobody looks whether the teacher is on the host."""

    def fault(look):
        def faulty(order, facts, size):
            return [each for each in look(order, facts, size) if each.what != "teacher"]

        return faulty

    plant("engine.dispatch.preflight.look", fault)


def dry_run_there_unheard(plant):
    """That the project there does not know an option is not heard."""

    def fault(judge):
        def faulty(order, facts, done):
            if done["code"]:
                plan = {"recipe": order.plan.recipe.to_dict()}
                return {"plan": plan, "digests": {}, "versions": {}}
            return judge(order, facts, done)

        return faulty

    plant("engine.dispatch.preflight.judge", fault)


def teacher_compared_by_path(plant):
    """Two paths are two models."""

    def fault(is_mirror):
        def faulty(found):
            return found["plan"]["teacher"] == found["plan"]["student"]

        return faulty

    plant("engine.dispatch.preflight.is_mirror", fault)


# What is sent and started


def manifest_without_a_hyperparameter(plant):
    """The manifest says nothing of the weight of the text."""

    def fault(describe):
        def faulty(*given):
            found = describe(*given)
            del found["plan"]["recipe"]["alpha"]
            return found

        return faulty

    plant("engine.dispatch.send.describe", fault)


def a_hyperparameter_left_to_its_default(plant):
    """The command does not say at what norm gradients are clipped."""

    def fault(arguments):
        def faulty(self):
            found = arguments(self)
            at = found.index("--clip")
            return found[:at] + found[at + 2 :]

        return faulty

    plant("engine.dispatch.order.Order.arguments", fault)


def manifest_without_the_project(plant):
    """Which code ran is not written down."""

    def fault(describe):
        def faulty(order, python, place, project, facts, found):
            return describe(order, python, place, None, facts, found)

        return faulty

    plant("engine.dispatch.send.describe", fault)


def everything_is_sent_again(plant):
    """What is on the host already is not asked."""

    def fault(ask):
        def faulty(self, action, **question):
            if action == "keep":
                return [name for name, *_ in question["files"]]
            return ask(self, action, **question)

        return faulty

    plant("engine.dispatch.host.Host.ask", fault)


def sent_files_are_believed(plant):
    """A file that is there is taken for the right one."""
    old = "if sha256(os.path.join(project, name)) == digest:"
    there(plant, "project.py", old, "if os.path.exists(os.path.join(project, name)):")


def an_environment_for_each_run(plant):
    """Every run makes its environment anew."""
    there(plant, "project.py", "made = not os.path.exists(ready)", "made = True")


def a_second_dispatch_starts_again(plant):
    """Whether the run is there is not looked at, nor whether its order is."""
    plant("engine.dispatch.send.already", lambda already: lambda *given: None)
    there(plant, "job.py", "if os.path.exists(ordered):", "if False:")


def two_at_once_both_start(plant):
    """An order that is there holds nobody back: who looked before it was there starts too."""
    there(plant, "job.py", "if os.path.exists(ordered):", "if False:")


def job_in_the_session_of_ssh(plant):
    """The job belongs to the connection's session."""
    there(plant, "job.py", "start_new_session=True", "start_new_session=False")


def a_full_disk_is_passed_over(plant):
    """A file of the project that could not be written is not missed."""
    old = "put(os.path.join(project, name), data)\n    return keep(project, files)"
    new = """try:
            put(os.path.join(project, name), data)
        except OSError:
            pass
    return []"""
    there(plant, "project.py", old, new)


def half_a_file_is_left(plant):
    """What was written of a file until the disk was full stays there."""
    there(plant, "files.py", "os.remove(partial)", "pass")


# Watching


def a_row_is_lost_at_the_cut(plant):
    """After a cut it goes on with what is written from then on."""
    old = "if _digest(path, offset) != digest:\n        offset = 0"
    new = "if offset:\n        offset = os.path.getsize(path)"
    there(plant, "watch.py", old, new)


def watched_from_the_start_again(plant):
    """After a cut everything is told once more."""
    plant("engine.dispatch.follow.position", lambda position: lambda seen: position(bytearray()))


def a_cut_ends_the_watch(plant):
    """A connection that is cut is the end."""

    def fault(wait):
        def faulty(self, error: Cut):
            raise error

        return faulty

    plant("engine.dispatch.follow.Patience.wait", fault)


def verdict_typed(plant):
    """The verdict is what one hopes for."""
    result = {"falsifier": "F-RUN-001", "verdict": "CORROBORATED", "level": "algorithm"}
    result["measures"] = {"best": {"value": 3.0, "held": True, "unit": "", "bound": ""}}
    plant("engine.dispatch.verdict.judge", lambda _: lambda claim, run: Verdict((result,)))


def verdict_not_in_the_exit_code(plant):
    """A refuted claim ends as one that holds."""
    plant("engine.dispatch.verdict.Verdict.holds", lambda holds: lambda self: True)


def digest_unchecked(plant):
    """What comes home is believed to be what was there."""
    plant("engine.dispatch.fetch.require_digest", lambda require: lambda *given: None)


def fetched_in_place(plant):
    """Files are written where they are to be, one after the other."""

    def fault(whole_folder):
        @contextmanager
        def faulty(out, overwrite=False):
            out.mkdir(parents=True, exist_ok=True)
            yield out

        return faulty

    plant("engine.whole_folder.whole_folder", fault)


def any_name_is_taken(plant):
    """A host may write where it likes."""
    plant("engine.dispatch.fetch.safe_name", lambda safe_name: lambda name: name)


def death_is_an_end(plant):
    """A run whose processes are gone has ended well."""
    old = 'return {**known, "state": alive or "died"}'
    there(plant, "job.py", old, 'return {**known, "state": alive or "ended", "code": 0}')


def a_dead_run_is_started_again(plant):
    """A dispatch of a run that died begins it afresh."""

    def fault(ask):
        def faulty(self, action, **question):
            if action == "start":
                question["again"] = True
            return ask(self, action, **question)

        return faulty

    plant("engine.dispatch.host.Host.ask", fault)
    plant("engine.dispatch.send.already", lambda already: lambda *given: None)


def a_stop_ends_the_script_first(plant):
    """Who stops the run stops whoever would have written how it ended."""

    def fault(script):
        return lambda self, *given: script(self, *given).replace("trap : INT TERM", "")

    plant("engine.dispatch.order.Order.script", fault)


def the_job_before_is_thrown_away(plant):
    """A run that goes on leaves nothing of the log of why it had to."""
    there(plant, "job.py", "os.rename(job, f", "shutil.rmtree(job); str(f")


def script_unquoted(plant):
    """The script's words are joined by blanks."""
    plant("engine.dispatch.order.quoted", lambda quoted: lambda words: " ".join(words))


def name_of_the_log_unescaped(plant):
    """Slurm reads a percent sign in the log's name as a pattern."""

    def fault(starter):
        return lambda self: [each.replace("%%", "%") for each in starter(self)]

    plant("engine.dispatch.order.Order.starter", fault)


def another_recipe_is_run(plant):
    """The script runs another seed than the manifest says."""

    def fault(script):
        def faulty(self, python, project):
            return script(self, python, project).replace("--seed 7", "--seed 8")

        return faulty

    plant("engine.dispatch.order.Order.script", fault)


def files_change_places_on_the_way(plant):
    """The bytes of the project's files go in another order than their names."""

    def fault(bytes_of):
        return lambda self, names: bytes_of(self, reversed(list(names)))

    plant("engine.dispatch.project.Project.bytes_of", fault)
