"""Faults in the agentic bench: in who judges, what a student may reach and use, and what counts."""

import re
import time
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from engine.agent.endpoint import Reply
from engine.agent.protocol import Action
from engine.errors import EngineError
from engine.evaluation.sandbox import Command, Verdict


def agent_verifier_always_passes(plant):
    """The bench's verifier says pass whatever the student left behind."""
    plant("engine.agent_bench.verify", lambda verify: lambda *_: Verdict(True, "", 0.0))


def agent_student_never_asked(plant):
    """The bench answers for the student and sends nothing to the endpoint."""
    plant("engine.agent_bench.ask", lambda ask: lambda *_: Reply("```done\n```"))


def agent_last_check_alone(plant):
    """Only the last check of a task counts."""

    def fault(verify):
        return lambda task, files, sandbox: verify(
            replace(task, checks=task.checks[-1:]), files, sandbox
        )

    plant("engine.agent_bench.verify", fault)


def agent_verifier_in_the_students_folder(plant):
    """The verdict is the exit code of the tests in the student's folder, run there."""

    def fault(verify):
        def faulty(task, files, sandbox):
            passed = sandbox.run(Command("python -m unittest", files)).code == 0
            return Verdict(passed, "exit code", 0.0)

        return faulty

    plant("engine.agent_bench.verify", fault)


def _after_the_command(plant, line):
    def fault(run):
        return lambda self, command, *limits: run(
            self, replace(command, line=f"{command.line}\n{line}"), *limits
        )

    plant("engine.evaluation.sandbox.Sandbox.run", fault)


def agent_links_followed(plant):
    """A link in the student's folder counts as the file that it leads to."""
    line = 'for l in $(find . -type l); do cp -L "$l" "$l~" && mv -f "$l~" "$l"; done'
    _after_the_command(plant, line)


def agent_others_go_on(plant):
    """What a command left running is not ended before the folder is read."""
    _after_the_command(plant, "wait")


def _with_budget(plant, changes):
    def fault(attempt):
        def faulty(self, task, began):
            return attempt(replace(self, budget=replace(self.budget, **changes)), task, began)

        return faulty

    plant("engine.agent_bench.Bench.attempt", fault)


def agent_turns_unlimited(plant):
    """A student may go on as long as it likes."""
    _with_budget(plant, {"max_turns": 30})


def agent_turn_seconds_ignored(plant):
    """A reply may take as long as it takes."""
    _with_budget(plant, {"turn_seconds": 3600})


def agent_wall_seconds_ignored(plant):
    """The run may take as long as it takes."""
    _with_budget(plant, {"wall_seconds": 3600})


def agent_tokens_ignored(plant):
    """An endpoint that gives more tokens than were asked for is not noticed."""
    _with_budget(plant, {"turn_tokens": 1 << 20})


def agent_cut_is_solved(plant):
    """Who was cut off had perhaps been near."""

    def fault(attempt):
        def faulty(self, task, began):
            record = attempt(self, task, began)
            return replace(record, outcome="solved") if record.outcome == "cut" else record

        return faulty

    plant("engine.agent_bench.Bench.attempt", fault)


def _scored(plant, counts):
    """Plant a fault that scores the tasks alone whose record `counts`."""

    def fault(scores):
        return lambda tasks, found: scores(
            [each for each in tasks if counts(found.get(each.name))], found
        )

    plant("engine.agent_bench.scores", fault)


def agent_rate_without_the_cut(plant):
    """The rate is of those that said that they were done."""
    _scored(plant, lambda record: record is None or record.outcome != "cut")


def agent_rate_of_the_solved(plant):
    """The rate is of the solved tasks, and always 1."""
    _scored(plant, lambda record: record is None or record.outcome == "solved")


def agent_rate_of_a_part(plant):
    """The rate is of the tasks that were attempted so far."""
    _scored(plant, lambda record: record is not None)


def _recorded(plant, keep):
    """Plant a fault that keeps these messages of a transcript alone."""

    def fault(add):
        def faulty(self, record):
            add(self, replace(record, messages=[m for m in record.messages if keep(m)]))

        return faulty

    plant("engine.agent_bench.Records.add", fault)


def agent_transcript_dropped(plant):
    """The conversation is not kept."""
    _recorded(plant, lambda message: False)


def agent_transcript_without_results(plant):
    """Only what the student said is kept, and not what it was told."""
    _recorded(plant, lambda message: message["role"] == "assistant")


def agent_starts_again(plant):
    """A run that goes on attempts every task again."""
    plant("engine.agent_bench.Records.missing", lambda missing: lambda self: list(self.tasks))


def agent_another_runs_records_taken(plant):
    """Records of a run with other budgets are mixed into this one."""
    plant("engine.agent_bench.require_same_run", lambda require: lambda where, here, there: None)


def agent_runs_without_being_allowed(plant):
    """Nobody has to say that code may run."""
    plant("engine.cli_agent.require_permission", lambda require: lambda *_: None)


def agent_failing_endpoint_is_a_wrong_answer(plant):
    """An endpoint that fails has said nothing, and its student is not worth much."""

    def fault(ask):
        def faulty(*asked):
            try:
                return ask(*asked)
            except EngineError:
                return Reply("")

        return faulty

    plant("engine.agent_bench.ask", fault)


def agent_paths_unchecked(plant):
    """A path may lead anywhere."""
    plant("engine.evaluation.sandbox.is_inside", lambda is_inside: lambda path: True)


def agent_first_place_replaced(plant):
    """Lines that are there several times are replaced in the first place."""

    def fault(replace_lines):
        def faulty(path, text, files):
            content = files[path]
            for old, new in re.findall(r"<<<<+\n(.*?)====+\n(.*?)>>>>+", text, re.DOTALL):
                content = content.replace(old, new, 1)
            return {**files, path: content}, "replaced"

        return faulty

    plant("engine.agent.protocol._replace", fault)


def agent_longer_fences_unknown(plant):
    """A block ends with the first three backticks."""

    def fault(parse):
        def faulty(reply):
            found = re.findall(r"^```(\w+) ?(.*?)\n(.*?)^```", reply, re.DOTALL | re.MULTILINE)
            return [Action(*each) for each in found if each[0] in ("read", "write", "run")]

        return faulty

    plant("engine.agent.protocol.parse", fault)


def agent_time_between_bytes(plant):
    """A reply has its time for each byte."""

    @contextmanager
    def faulty(self, watched, seconds, late):
        yield

    plant("engine.agent.endpoint.Endpoint._watched", lambda watched: faulty)


def agent_connecting_takes_no_time(plant):
    """The clock of a reply starts when its endpoint has been connected to."""

    def fault(watched):
        return lambda self, connection, end, late: watched(
            self, connection, time.monotonic() + connection.gettimeout(), late
        )

    plant("engine.agent.endpoint.Endpoint._watched", fault)


def agent_gateways_time_is_a_failure(plant):
    """A gateway that waited long enough for the model counts as an endpoint that fails."""

    def fault(once):
        def faulty(self, *asked):
            status, *rest = once(self, *asked)
            return 502 if status == 504 else status, *rest

        return faulty

    plant("engine.agent.endpoint.Endpoint._once", fault)


def agent_any_address_goes(plant):
    """What is no address is taken for this machine's."""

    def fault(parts):
        def faulty(url):
            try:
                return parts(url)
            except EngineError:
                return urlsplit("http://127.0.0.1:1")

        return faulty

    plant("engine.agent.endpoint._parts", fault)


def agent_loading_server_has_no_models(plant):
    """A server that does not say yet which models it has is taken to have none."""

    def fault(models):
        def faulty(self, seconds):
            try:
                return models(self, seconds)
            except EngineError:
                return []

        return faulty

    plant("engine.agent.endpoint.Endpoint.models", fault)


def agent_marks_within_lines(plant):
    """An edit's marks count in the middle of a line too."""

    def fault(replace_lines):
        return lambda path, text, files: replace_lines(
            path, re.sub(r"(?<=[^\n<=>])(?=[<=>]{4})", "\n", text), files
        )

    plant("engine.agent.protocol._replace", fault)


def agent_budget_doubled(plant):
    """A student has twice the turns and twice the time that it is said to have."""

    def fault(budget):
        def faulty(*given):
            made = budget(*given)
            return replace(made, max_turns=2 * made.max_turns, wall_seconds=2 * made.wall_seconds)

        return faulty

    plant("engine.cli_agent.Budget", fault)
