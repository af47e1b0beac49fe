"""Faults in dispatching and watching; what the host runs is sent as source, and faulted as that."""

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
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


def every_dataset_is_a_folder(plant):
    """Data that are made from the seed are told as a folder of that name."""
    plant("engine.dispatch.order.Order.dataset", lambda _: lambda self: f"folder: {self.plan.data}")


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


def what_runs_it_is_passed_over(plant):
    """Nobody looks at the system, at torch and at Slurm."""

    def fault(look):
        def faulty(*given):
            return [e for e in look(*given) if e.what not in ("system", "torch", "slurm")]

        return faulty

    plant("engine.dispatch.preflight.look", fault)


def any_account_will_do(plant):
    """What the project there says of the run is not read."""

    def fault(judge):
        return lambda order, facts, done: {"plan": {"recipe": order.plan.recipe.to_dict()}}

    plant("engine.dispatch.preflight.judge", fault)


def every_folder_is_writable(plant):
    """Whether the host may be written to is not asked."""

    def fault(look):
        return lambda order, facts, project: look(order, {**facts, "writable": True}, project)

    plant("engine.dispatch.preflight.look", fault)


def room_is_asked_for_again(plant):
    """An environment that is there is not seen."""
    there(plant, "probe.py", 'ready(os.path.join(base, "environments"))', "[]")


def any_order_will_do(plant):
    """What an order says is not looked at."""
    plant("engine.dispatch.order.Order.__post_init__", lambda check: lambda self: None)


def teacher_compared_by_path(plant):
    """Two paths are two models."""

    def fault(is_mirror):
        def faulty(found):
            return found["plan"]["teacher"] == found["plan"]["student"]

        return faulty

    plant("engine.dispatch.preflight.is_mirror", fault)


def any_teacher_is_the_student(plant):
    """Whoever has a teacher is refused."""
    plant("engine.dispatch.preflight.is_mirror", lambda is_mirror: lambda found: True)


def each_question_connects(plant):
    """No connection is kept."""

    @contextmanager
    def faulty(host):
        yield host

    plant("engine.dispatch.connection.connected", lambda connected: faulty)


def connection_left_open(plant):
    """The connection that was made stays."""
    plant("engine.dispatch.connection._close", lambda close: lambda host, folder: None)


def the_users_own_is_closed(plant):
    """What the user's configuration says of connections that are kept is not looked at."""
    plant("engine.dispatch.connection._configured", lambda configured: lambda host: {})


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


def manifest_of_this_machine(plant):
    """The versions are those of the machine that sends."""

    def fault(describe):
        return lambda *given: describe(*given) | {"versions": {"python": sys.version}}

    plant("engine.dispatch.send.describe", fault)


def torchrun_without_a_module(plant):
    """torchrun is told the engine as if it were a file."""

    def fault(command):
        def faulty(self, python):
            words = command(self, python)
            if self.processes == 1:
                return words
            at = len(words) - len(self.arguments()) - 2
            return words[:at] + words[at + 1 :]

        return faulty

    plant("engine.dispatch.order.Order.command", fault)


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


def one_environment_for_every_python(plant):
    """An environment is known by its files alone."""

    def fault(environment):
        return lambda self, python: environment(self, "3")

    plant("engine.dispatch.project.Project.environment", fault)


def kernels_written_each_time(plant):
    """Kernels that are there already are written again."""
    there(plant, "project.py", "if sha256(own) != sha256(kernels):", "if True:")


def kernels_written_in_place(plant):
    """Kernels are written into the file that a run has open."""
    new = "open(own, 'wb').write(file.read())"
    there(plant, "project.py", "put(own, file.read())", new)


def a_second_dispatch_starts_again(plant):
    """Whether the run is there is not looked at, nor whether its order is."""
    plant("engine.dispatch.send.already", lambda already: lambda *given: None)
    there(plant, "job.py", "if os.path.exists(ordered):", "if False:")


def two_at_once_both_start(plant):
    """An order that is there holds nobody back: who looked before it was there starts too."""
    there(plant, "job.py", "if os.path.exists(ordered):", "if False:")


def who_is_late_believes(plant):
    """Whose run it is that is there is not compared."""
    plant("engine.dispatch.send.require_same", lambda require: lambda order, before: None)


def a_job_nobody_knows_goes_on(plant):
    """A job whose number could not be written is left to itself."""

    def fault(note):
        return lambda where, name, known, end: note(where, name, known, lambda: None)

    plant("engine.far.job._note", fault)


def only_some_states_go_on(plant):
    """Of Slurm's words five are known, and every other is an end."""
    known = ("pending", "configuring", "running", "suspended", "completing")

    def fault(queued):
        def faulty(number):
            said = queued(number)
            return said if said in known else ""

        return faulty

    plant("engine.far.job._queued", fault)


def a_silent_slurm_is_a_dead_job(plant):
    """A controller that cannot be reached knows no job."""

    def fault(queued):
        return lambda number: queued(number).replace("unknown", "")

    plant("engine.far.job._queued", fault)


def a_process_without_a_birth_lives(plant):
    """A process that was gone at the first look is for ever as it was."""

    def fault(lives):
        return lambda process: "running" if process[1] == "-" else lives(process)

    plant("engine.far.job._lives", fault)


def the_login_node_must_have_the_device(plant):
    """The look before the start is on the device of the run."""

    def fault(dry_run):
        def faulty(order, *given):
            return dry_run(replace(order, executor="ssh"), *given)

        return faulty

    plant("engine.dispatch.send.dry_run", fault)


def the_device_of_the_look_is_written_down(plant):
    """The manifest says the device that the login node looked with."""

    def fault(dry_run):
        def faulty(*given):
            found = dry_run(*given)
            found["plan"] |= {"device": "cpu", "teacher_device": "cpu"}
            return found

        return faulty

    plant("engine.dispatch.send.dry_run", fault)


def lines_unquoted(plant):
    """Words of a command are joined by blanks."""

    def fault(engine_line):
        return lambda *words: " ".join(("python", "-m", "engine", *words))

    plant("engine.cli_watch.engine_line", fault)


def going_on_forgets_where(plant):
    """How the run was sent is not said of how it goes on."""
    plant("engine.dispatch.order.Order.words", lambda words: lambda self: [])


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


def half_a_line_is_read(plant):
    """A line that a cut has ended is taken for a whole one."""
    plant("engine.dispatch.host.is_whole", lambda is_whole: lambda line: True)


def a_cut_ends_the_watch(plant):
    """A connection that is cut is the end."""

    def fault(wait):
        def faulty(self, error: Cut):
            raise error

        return faulty

    plant("engine.dispatch.follow.Patience.wait", fault)


def a_lost_host_is_bad_input(plant):
    """A host that is gone ends the watch as a wrong option does."""

    @contextmanager
    def faulty(line, tell):
        yield

    plant("engine.cli_watch._watching", lambda watching: faulty)


def held_out_losses_untold(plant):
    """Rows are counted, and none is told."""

    def fault(see):
        def faulty(self, row):
            see(self, row)

        return faulty

    plant("engine.distill.pace.Pace.see", fault)


def nobody_knows_how_many_steps(plant):
    """How many steps there are to be is not said."""
    there(plant, "watch.py", "say(state=state, steps=_steps(run))", "say(state=state)")


def the_best_is_the_last(plant):
    """The best held-out loss is whatever came last."""

    def fault(see):
        def faulty(self, row):
            self.best = None
            return see(self, row)

        return faulty

    plant("engine.distill.pace.Pace.see", fault)


def options_of_a_connection_are_ignored(plant):
    """What a folder here has no use for is not missed."""
    plant("engine.cli_watch._require_none", lambda require: lambda given: None)


def any_folder_is_a_run(plant):
    """A folder that is no run is one that has ended."""
    old = 'raise Refused(f"{run}: found no dispatch.json and no job in it, expected a run")'
    there(plant, "watch.py", old, 'return {"state": "ended", "code": 0}')


def verdict_typed(plant):
    """The verdict is what one hopes for."""
    result = {"falsifier": "F-RUN-001", "verdict": "CORROBORATED", "level": "algorithm"}
    result["measures"] = {"best": {"value": 3.0, "held": True, "unit": "", "bound": ""}}
    plant("engine.dispatch.verdict.judge", lambda _: lambda claim, run: Verdict((result,)))


def verdict_not_in_the_exit_code(plant):
    """A refuted claim ends as one that holds."""
    plant("engine.dispatch.verdict.Verdict.holds", lambda holds: lambda self: True)


def the_unjudged_are_not_asked_for(plant):
    """A falsifier that no test observes is no part of the verdict."""
    plant("engine.dispatch.verdict._unjudged", lambda unjudged: lambda claim, judged: iter(()))


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


def whoever_failed_had_begun(plant):
    """A run of which nothing is there wants to be resumed."""

    def fault(already):
        return lambda order, facts: already(order, {**facts, "begun": True})

    plant("engine.dispatch.send.already", fault)


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
