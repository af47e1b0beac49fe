"""Dispatch and watch: what is refused, what is sent, started once, followed and brought home.

Everything goes through OpenSSH's own client and server, which the test starts on loopback
(falsifiers.ssh_host). Oracles: the server's log, the files on the host, what the host's Python was
asked to do, and the run's own metrics.
"""

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from torch.distributed import run as torchrun

from engine import cli_dispatch, cli_watch
from engine.dispatch import fetch as fetching
from engine.dispatch import follow, preflight, send
from engine.dispatch.connection import connected
from engine.dispatch.follow import Follower, Patience
from engine.dispatch.host import Host
from engine.dispatch.order import Order
from engine.dispatch.project import Project, read_project
from engine.distill.hf_folder import write_folder
from engine.distill.pace import Pace
from engine.distill.recipe import Recipe
from engine.distill.run import Plan
from engine.errors import EngineError
from engine.far import job
from engine.far.probe import DEVICES
from falsifiers import dispatch_cases as cases
from falsifiers import distill_cases
from falsifiers.dispatch_cases import Far, far
from falsifiers.in_process import Command
from falsifiers.ran import Ran
from falsifiers.slurm_host import slurm_host
from falsifiers.ssh_host import NAME, ssh_host, until

PYTHON = Path(sys.executable)


@pytest.fixture(scope="module")
def host():
    with ssh_host() as running:
        yield running


@pytest.fixture
def there(host, tmp_path) -> Far:
    return far(host, tmp_path)


@pytest.fixture
def command(capsys, monkeypatch, tmp_path) -> Command:
    """The command line in a small checkout, in an empty folder, with short pauses."""
    monkeypatch.setattr(cli_dispatch, "ROOT", cases.small_project(tmp_path / "checkout"))
    monkeypatch.setattr(follow, "FIRST_PAUSE", 0.05)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Command(capsys, monkeypatch)


def dispatched(command: Command, there: Far, *more: object, **changed: object) -> Ran:
    given = there.arguments(**changed)
    return command(*given, "--remote-python", there.python, *more)


def begun(there: Far) -> None:
    """A run that is there, started as from the host itself: what is of interest comes after."""
    order = there.order(run=str(there.run()))
    script = order.script(str(there.python), str(there.bin))
    plan = {"plan": asdict(order.plan)}
    Host().ask(
        "start", run=order.run, order=plan, script=script, submit=order.starter(), again=False
    )


def watched(command: Command, there: Far, *more: object, run: str = "first") -> Ran:
    place = f"{NAME}:{there.run(run)}"
    return command("watch", place, "-F", there.host.config, *more)


def over(there: Far, run: str = "first") -> bool:
    return until((there.run(run) / "job/exit").exists)


# Before anything is started


@pytest.mark.falsifies("F-DISPATCH-001")
def test_a_dry_run_touches_nothing(observe, command, there, monkeypatch, tmp_path):
    begun, popen = [], subprocess.Popen
    watch = lambda args, *rest, **ways: begun.append(args) or popen(args, *rest, **ways)  # noqa: E731
    monkeypatch.setattr(subprocess, "Popen", watch)
    before, connections = cases.files_below(tmp_path), there.host.connections
    ran = dispatched(command, there, "--dry-run")
    made = dispatched(command, there, "--dry-run", data="synthetic")
    observe("exit_code", ran.code + made.code)
    observe("files_touched", len(cases.files_below(tmp_path).items() ^ before.items()))
    observe("connections", there.host.connections - connections)
    observe("other_processes", sum(Path(args[0]).name != "git" for args in begun))
    said = [line.split() for line in ran.lines]
    wanted = [[name, str(value)] for name, value in cases.RECIPE.to_dict().items()]
    observe("hyperparameters_unsaid", sum(each not in said for each in wanted))
    folder = f"dataset    folder: {there.folder.parent / 'data'}"
    lines = ((folder, ran), ("dataset    synthetic: made from the seed", made))
    observe("dataset_unsaid", sum(line not in ended.lines for line, ended in lines))


@pytest.mark.falsifies("F-DISPATCH-002")
@pytest.mark.parametrize("what", ["teacher and option", "files", "host", "room"])
def test_a_host_that_is_not_fit_is_refused_before_anything_is_started(
    observe, command, there, monkeypatch, tmp_path, what
):
    nowhere, ended = str(tmp_path / "nowhere"), []
    for changed, more, bar, words in unfit(nowhere, there)[what]:
        there.forget("save_every" if "option" in words else "")
        with monkeypatch.context() as patch:
            if bar:
                patch.setattr(preflight, *bar)
            ended.append((dispatched(command, there, *more, **changed), words))
    observe_refusals(observe, ended)
    observe("started", there.calls.count("run") + (there.folder / "runs").exists())


def observe_refusals(observe, ended: list[tuple[Ran, str]]) -> None:
    """That each command ended with exit code 2 and one line that has its words."""
    observe("accepted", sum(ran.code != 2 for ran, _ in ended))
    unclear = [ran.err for ran, words in ended if words not in ran.err or ran.err.count("\n") != 1]
    print(*unclear, sep="\n")
    observe("unclear", len(unclear))
    observe("refusals", len(ended))


def unfit(nowhere: str, there: Far) -> dict[str, list[tuple]]:
    """What is changed of a good order, what is said besides, which bar is raised, what is told."""
    no_gpu = not any(map(os.path.exists, DEVICES))
    return {
        "teacher and option": [
            ({"teacher": nowhere}, [], None, "teacher: found nothing at"),
            ({}, [], None, "No such option: --save_every"),
        ],
        "files": [
            ({"data": nowhere}, [], None, "data: found nothing at"),
            ({"student": nowhere}, [], None, "student: found nothing at"),
            ({}, ["--remote-project", nowhere], None, "project: found nothing at"),
        ],
        "host": [
            ({}, ["--remote-python", nowhere], None, f"found no {nowhere}"),
            ({}, ["--ssh-option", "Port=1"], None, "found no connection"),
            *([({"device": "cuda"}, [], None, "device: found no GPU")] if no_gpu else []),
        ],
        "room": [
            ({}, [], ("PYTHON", (9, 0)), "python: found 3."),
            ({}, [], ("RUN", 1 << 60), "disk: found"),
            ({}, [], ("OF_A_PARAMETER", 1 << 50), "memory: found"),
        ],
    }


@pytest.mark.falsifies("F-DISPATCH-015")
def test_a_host_that_lacks_what_is_run_there_is_refused(observe, command, there, monkeypatch):
    ended = []
    for mark, more, words in (
        ("bare", [], "torch: found none"),
        ("alone", ["--executor", "slurm"], "slurm: found no sbatch and squeue"),
        ("old", [], "recipe: found without seed"),
        ("mute", [], "project: found no account of the run"),
    ):
        there.mark(mark)
        ended.append((dispatched(command, there, *more), words))
        there.mark(mark, False)
    monkeypatch.setattr(preflight, "SYSTEM", "another")
    ended.append((dispatched(command, there), "system: found Linux, expected another"))
    observe_refusals(observe, ended)
    observe("started", there.calls.count("run") + (there.folder / "runs").exists())


@pytest.mark.falsifies("F-DISPATCH-019")
def test_what_would_be_ignored_or_cannot_be_is_refused(observe, command, there, tmp_path):
    run, empty = tmp_path / "run", tmp_path / "here"
    cases.run_that_is_done(run, cases.ROWS, 10)
    resume = [*there.way, "--remote-python", there.python, "--resume", "runs/first"]
    good = [*there.arguments("second"), "--remote-python", there.python]
    cases_of_it = [
        ([*resume, "--steps", 30], "--steps: found it beside --resume"),
        ([*resume, "--device", "cpu"], "--device: found it beside --resume"),
        ([*there.way, "--out", "second"], "--teacher: found nothing"),
        ([*good, "--sbatch-option=--gres=gpu:1"], "--sbatch-option: found it"),
        ([*good, "--executor", "pbs"], "--executor: found 'pbs'"),
        ([*good, "--remote-python", "bin/python"], "--remote-python: found bin/python"),
        ([*there.arguments("second"), "--remote-project", "/x"], "found no --remote-python"),
        *(
            (["watch", run, *given, "--no-verdict"], f"{option}: found it for a folder here")
            for option, given in {
                "--into": ["--into", tmp_path / "home"],
                "--overwrite": ["--overwrite"],
                "--ssh-config": ["-F", there.host.config],
                "--ssh-option": ["--ssh-option", "Port=1"],
                "--remote-python": ["--remote-python", "python3"],
            }.items()
        ),
        (["watch", empty, "--no-verdict"], f"{empty}: found no dispatch.json and no job"),
        (["watch", "host:", "--no-verdict"], "expected HOST:FOLDER"),
        (["watch", "--no-verdict", "--", "-host:x"], "HOST: found '-host'"),
    ]
    ended = [(command(*arguments), words) for arguments, words in cases_of_it]
    ended.append((watched(command, there, "--no-verdict", run="none"), "found no dispatch.json"))
    observe_refusals(observe, ended)
    observe("started", there.calls.count("run"))


@pytest.mark.falsifies("F-DISPATCH-003")
def test_a_teacher_that_is_the_student_is_refused_by_its_contents(
    observe, command, there, tmp_path, monkeypatch
):
    student, other = distill_cases.student(), distill_cases.student(seed=1)
    for name, model in (("student", student), ("copy", student), ("other", other)):
        place = tmp_path / name
        shutil.rmtree(place, ignore_errors=True)
        write_folder(place, distill_cases.weights(model), model.hf, None)
    recipe = replace(distill_cases.RECIPE, steps=10)
    root = Path(cli_dispatch.__file__).parents[1]
    monkeypatch.setattr(
        Order, "script", lambda *given: "exit 0\n"
    )  # one that is taken costs nothing
    given = {"data": "synthetic", "recipe": recipe, "teacher": str(tmp_path / "copy")}
    ran = command(*there.arguments(**given), "--remote-python", PYTHON, "--remote-project", root)
    observe("mirrors_taken", int(ran.code != 2 or "contents are the student's" not in ran.err))
    observe("started", int(there.run().exists()))
    given = there.options(**given | {"teacher": str(tmp_path / "other")})
    said = command("distill", *given, "--out", "run", "--dry-run", "--json")
    observe("others_refused", int(said.code != 0 or not taken(there, said.out)))


def taken(there: Far, account: str) -> bool:
    """Whether a host that gives this account of a run is found fit for it."""
    done = {"code": 0, "out": account, "err": ""}
    try:
        preflight.judge(there.order(), {"memory": None}, done)
    except EngineError:
        return False
    return True


# What is sent and started


@pytest.mark.falsifies("F-DISPATCH-004")
def test_the_manifest_names_everything(observe, command, there, tmp_path):
    ran = dispatched(command, there, "--json")
    observe("exit_code", ran.code)
    if ran.code:
        print(ran.err)
        return
    over(there)
    manifest = json.loads((there.run() / "job/dispatch.json").read_text())
    ours, recipe = asdict(there.plan()), manifest["plan"]["recipe"]
    wanted = cases.RECIPE.to_dict()
    observe("hyperparameters_lost", sum(recipe.get(name) != wanted[name] for name in wanted))
    line = manifest["dispatched"]["command"]
    flags = {f"--{each.name.replace('_', '-')}" for each in fields(Recipe)}
    observe("flags_lost", len(flags - set(line)))
    own = [n for n in ours if n not in ("recipe",) and manifest["plan"].get(n) is None]
    observe("choices_lost", len(own))
    facts = facts_of(there, tmp_path / "checkout")
    sent = manifest["dispatched"]
    known = {**manifest, **sent["facts"], **sent["project"], **sent}
    observe("facts_lost", sum(known.get(name) != value for name, value in facts.items()))
    did = json.loads((there.run() / "dispatch.json").read_text())["plan"]["recipe"]
    observe("run_off_the_manifest", sum(did.get(name) != recipe.get(name) for name in wanted))


def facts_of(there: Far, checkout: Path) -> dict[str, object]:
    """What the run said of itself on the host, the project's version, where and of what it is."""
    said = json.loads((there.bin / "said").read_text())
    head = ["git", "-C", checkout, "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    facts = {name: said[name] for name in ("digests", "versions", "parameters", "mirror")}
    facts |= {"digest": read_project(checkout).digest, "commit": commit, "dirty": False}
    facts |= {"host": NAME, "executor": "ssh", "python": str(there.python)}
    return facts | {"dataset": f"folder: {there.folder.parent / 'data'}", "processes": 1}


@pytest.mark.falsifies("F-DISPATCH-027")
def test_torchrun_reads_of_the_command_what_was_meant(observe):
    order = Order(NAME, "runs/first", Plan("t", "s", "d", cases.RECIPE), processes=2)
    meant = ("2", True, True, "engine", order.arguments())
    observe("misread", int(as_torchrun_reads(order.command("python")) != meant))


def as_torchrun_reads(command: list[str]) -> tuple[object, ...]:
    """Processes, whether on one machine, whether of a module, which, and what it is told."""
    if command[:3] != ["python", "-m", torchrun.__name__]:
        return ()
    try:
        read = torchrun.get_args_parser().parse_args(command[3:])
    except SystemExit:
        return ()
    told = (read.training_script, read.training_script_args)
    return (read.nproc_per_node, read.standalone, read.module, *told)


@pytest.mark.falsifies("F-DISPATCH-005")
def test_only_what_changed_is_sent_and_an_environment_is_made_once(observe, there, tmp_path):
    checkout = cases.small_project(tmp_path / "checkout")
    project = read_project(checkout)
    order = there.order(python=None, folder=str(there.folder))
    with there.connected() as host:
        observe("first", sent_files(order, host, project))
        observe("again", sent_files(order, host, project))
        place = there.folder / "projects" / project.digest[:16]
        (place / "engine/a.py").write_text("damaged")
        observe("damaged", sent_files(order, host, project))
        (checkout / "engine/a.py").write_text("changed = True\n")
        changed = read_project(checkout)
        observe("changed", sent_files(order, host, changed))
        for each in (project, changed):  # of which an environment is the same
            place = there.folder / "projects" / each.digest[:16]
            send.make_environment(order, host, each.environment("3.11.9"), str(place), ignore)
    names = [each.name for each in changed.files]
    off = [(place / name).read_bytes() != (checkout / name).read_bytes() for name in names]
    observe("files_off", sum(off))
    observe("environments", there.calls.count("venv"))
    observe("installations", there.calls.count("pip"))


@pytest.mark.falsifies("F-DISPATCH-016")
def test_an_environment_is_of_its_python_and_takes_room_once(observe, there, tmp_path, monkeypatch):
    project, near = read_project(cases.small_project(tmp_path / "checkout")), there.near
    order, name = there.order(python=None, folder=str(there.folder)), project.environment("3.11.9")
    monkeypatch.setattr(preflight, "ENVIRONMENT", 1 << 60)
    own = tmp_path / "project/engine/_kernels.so"
    compiled = there.folder / "environments" / name / "lib/python3.11/site-packages"
    compiled = compiled / "engine/_kernels.so"
    for file in (own, compiled):
        file.parent.mkdir(parents=True)
    compiled.write_bytes(b"first")
    made = lambda: send.make_environment(order, near, name, str(own.parents[1]), ignore)  # noqa: E731
    observe("room_unasked", int("3.11.9" in fitting(order, project)))
    made()
    fits = fitting(order, project)
    observe("room_asked_again", int("3.11.9" not in fits))
    observe("room_unasked", int("3.12.1" in fits))
    before = own.stat()
    with own.open("rb") as running:
        made()
        after = own.stat()
        same = (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        observe("written_again", int(not same))
        compiled.write_bytes(b"other")
        made()
        observe("changed_under_a_run", int(running.read() != b"first"))
    observe("kernels_off", int(own.read_bytes() != b"other"))


def fitting(order: Order, project: Project) -> list[str]:
    """The versions of Python under which the disk does for what an order needs of it."""
    asked = {"folder": order.folder, "run": order.run, "paths": {}, "commands": []}
    facts = Host().ask("probe", **asked)
    looks = {
        python: preflight.look(order, facts | {"python": python}, project)
        for python in ("3.11.9", "3.12.1")
    }
    return [python for python, checks in looks.items() if holds(checks, "disk")]


def holds(checks: list[preflight.Check], what: str) -> bool:
    return all(each.holds for each in checks if each.what == what)


def sent_files(order, host: Host, project) -> int:
    """How many files a sync sends."""
    told: list[str] = []
    send.sync(order, host, project, told.append)
    return int(told[0].split()[-5])


@pytest.mark.falsifies("F-DISPATCH-006")
def test_a_run_is_started_once(observe, command, there):
    there.mark("held")
    kept = [f"ControlPath={there.host.folder}/kept", "ControlMaster=auto", "ControlPersist=60"]
    first = dispatched(command, there, *(f"--ssh-option={each}" for each in kept))
    second = dispatched(command, there)
    observe("exit_codes", first.code + second.code)
    observe("said_running", int("already there" in second.out and "engine watch" in second.out))
    number = int((there.run() / "job/pid").read_text().split()[0])
    observe("sessions_of_their_own", int(os.getsid(number) == number))
    observe("cuts", there.host.cut())  # of the connection by which it was started
    there.mark("held", False)
    observe("survived_the_connection", int(over(there)))
    third = dispatched(command, there)
    observe("said_finished", int(third.code == 0 and "already finished" in third.out))
    other = dispatched(command, there, recipe=replace(cases.RECIPE, steps=21))
    observe("others_taken", int(other.code != 2 or "steps: 21, there 20" not in other.err))
    observe("runs", there.calls.count("run"))


@pytest.mark.falsifies("F-DISPATCH-014")
def test_of_some_at_once_one_is_started(observe, there, monkeypatch):
    order = there.order("twice", project=str(there.folder.parent))
    other = replace(order, plan=there.plan(recipe=replace(cases.RECIPE, steps=21)))
    all_look, look = threading.Barrier(3), send.dry_run
    monkeypatch.setattr(send, "dry_run", lambda *given: all_look.wait(30) and None or look(*given))
    with there.connected() as near, ThreadPoolExecutor(3) as pool:
        every = [pool.submit(send.send, each, near, None, ignore) for each in (order, order, other)]
        ended = [each.exception() or each.result() for each in every]
    over(there, "twice")
    answers = [each for each in ended if isinstance(each, send.Sent)]
    observe("started", sum(each.started for each in answers))
    observe("runs", there.calls.count("run"))
    steps = json.loads((there.run("twice") / "job/dispatch.json").read_text())
    same = 2 if steps["plan"]["recipe"]["steps"] == 20 else 1
    observe("others_taken", len(answers) - same)
    refused = [each for each in ended if "found another run there" in str(each)]
    observe("others_refused", len(refused) - (3 - same))


def ignore(line: str) -> None:
    """What is told is of no interest."""


@pytest.mark.falsifies("F-DISPATCH-007")
def test_a_full_disk_starts_nothing_and_is_got_over(observe, there, tmp_path, monkeypatch):
    checkout = cases.small_project(tmp_path / "checkout")
    for number in range(6):
        (checkout / f"engine/m{number}.py").write_text(f"{number}" * 5000)
    subprocess.run(["git", "-C", checkout, "add", "."], check=True)
    project = read_project(checkout)
    monkeypatch.setattr(preflight, "RUN", 0)
    there.folder.mkdir()
    with small_disk(there.folder), there.connected() as near:
        try:
            send.send(there.order(), near, project, ignore)
            error = ""
        except EngineError as found:
            error = str(found)
        observe("clear", int("No space left" in error and f"{there.folder}/projects/" in error))
        observe("started", there.calls.count("run") + there.run().exists())
        observe("leftovers", len(list(there.folder.rglob("*.partial"))))
        subprocess.run(["mount", "-o", "remount,size=1m", there.folder], check=True)
        sent = send.send(there.order(), near, project, ignore)
        observe("started_after_room_was_made", int(sent.started))
        over(there)
        subprocess.run(["mount", "-o", "remount,ro", there.folder], check=True)
        try:
            send.send(there.order("second"), near, project, ignore)
        except EngineError as found:
            error = str(found)
        observe("read_only_unsaid", int(f"folder: found {there.folder} not writable" not in error))


class small_disk:
    """A real one of ten pages, mounted; BLOCKED where that is not allowed."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __enter__(self) -> None:
        command = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", self.place]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting is not permitted here, so there is no disk to fill")

    def __exit__(self, *given: object) -> None:
        subprocess.run(["umount", "--lazy", self.place], check=True)


# Watching


@pytest.mark.falsifies("F-DISPATCH-008")
def test_no_line_is_lost_or_told_twice_where_the_connection_is_cut(
    observe, command, there, monkeypatch
):
    there.mark("held")
    begun(there)
    until(lambda: (there.run() / "metrics.jsonl").exists())
    rows, said, cuts = [], [], []
    with there.connected() as near:
        follower = Follower(near, str(there.run()), Patience(60, said.append), said.append)
        try:
            for row in follower.rows():
                rows.append(row)
                if row["step"] == 2 and not cuts:
                    cuts.append(there.host.cut())
                    there.mark("held", False)
                    over(there)  # it goes on unseen
        except EngineError as error:
            said.append(str(error))
    truth = (there.run() / "metrics.jsonl").read_bytes()
    wanted = [json.loads(line) for line in truth.splitlines()]
    observe("lost", sum(each not in rows for each in wanted))
    observe("twice", len(rows) - len([each for each in wanted if each in rows]))
    observe("bytes_off", int(bytes(follower.seen) != truth))
    observe("cuts", sum(served > 0 for served in cuts))
    observe("said", int(any("connection lost" in e for e in said)))
    observe("connected_again", int(any("connected again" in e for e in said)))


@pytest.mark.falsifies("F-DISPATCH-009")
@pytest.mark.parametrize(("bound", "expected"), [(2.5, "FALSIFIED"), (3.5, "CORROBORATED")])
def test_the_end_is_the_verdict_of_the_contract(observe, command, there, tmp_path, bound, expected):
    begun(there)
    over(there)
    contract, home = cases.small_contract(tmp_path / "project", bound), tmp_path / "home"
    told = ("--contract", contract, "--test", "falsifiers/test_run.py")
    told += ("--variable", "RUN_PATH", "--json")
    ran = watched(command, there, "--into", home, *told)
    observe("code_off_the_verdict", int(ran.code != (expected == "FALSIFIED")))
    [found] = json.loads(ran.out)["results"]
    observe("wrong_verdicts", int(found["verdict"] != expected))
    observe("measured", found["measures"]["best"]["value"])
    line = f"RUN_PATH={home} pytest --contract contracts/run-v1.yaml"
    observe("line_unsaid", int(line not in ran.err))
    missing = watched(command, there, "--contract", tmp_path / "none.yaml")
    observe("no_contract_taken", int(missing.code != 2))


@pytest.mark.falsifies("F-DISPATCH-024")
def test_a_claim_that_nobody_judged_does_not_hold(observe, command, there, tmp_path):
    begun(there)
    over(there)
    contract = cases.small_contract(tmp_path / "project", 3.5, cases.UNBOUND)
    told = ("--contract", contract, "--variable", "RUN_PATH", "--json")
    ran = command("watch", there.run(), *told)
    observe("exit_code", ran.code)
    verdicts = {each["falsifier"]: each["verdict"] for each in ran.json["results"]}
    observe("judged", verdicts.get("F-RUN-001"))
    observe("unjudged", verdicts.get("F-RUN-002", ""))
    observe("held", ran.json["holds"])


@pytest.mark.falsifies("F-DISPATCH-017")
def test_progress_losses_and_speed_are_told(observe, command, tmp_path, monkeypatch):
    cases.run_that_is_done(tmp_path / "run", cases.ROWS, 10)
    shown: list[tuple[int, int]] = []

    @contextmanager
    def bar(*given):
        yield lambda done, whole: shown.append((done, whole))

    monkeypatch.setattr(cli_watch, "progress", bar)
    ran = command("watch", tmp_path / "run", "--no-verdict", "--json")
    observe("exit_code", ran.code)
    wanted = [
        "step 0 of 10: held-out loss 4.0000",
        "step 5 of 10: held-out loss 2.5000, loss 3.5000, 4 tokens/s, 0:00:10 left",
        "step 10 of 10: held-out loss 3.0000, loss 3.0000, 4 tokens/s",
    ]
    observe("lines_untold", sum(line not in ran.err.splitlines() for line in wanted))
    observe("steps_unshown", len({(step, 10) for step in range(11)} - set(shown)))
    best = {"step": 10, "steps": 10, "loss": 3.0, "best": 2.5, "holds": None}
    observe("facts_off", sum(ran.json[name] != value for name, value in best.items()))


@pytest.mark.falsifies("F-DISPATCH-018")
@pytest.mark.parametrize("when", ["following", "fetching"])
def test_a_host_that_is_gone_ends_the_watch(observe, command, tmp_path, monkeypatch, when):
    with ssh_host() as own:
        there = far(own, tmp_path)
        there.mark("held", when == "following")
        begun(there)
        if when == "following":
            see = Pace.see
            gone = lambda pace, row: row["step"] == 2 and own.end() or see(pace, row)  # noqa: E731
            monkeypatch.setattr(Pace, "see", gone)
        else:
            over(there)
            fetch = fetching.fetch
            monkeypatch.setattr(cli_watch, "fetch", lambda *given: own.end() or fetch(*given))
        home = tmp_path / "home"
        ran = watched(command, there, "--no-verdict", "--patience", 2, "--into", home)
        there.mark("held", False)
        observe("exit_code", ran.code)
        words = ("gave up after", "is the host alive? The run may be")
        observe("unsaid", sum(each not in ran.err for each in words))
        observe("tries", ran.out.count("trying again"))
        observe("fetched", len([*tmp_path.glob("home*"), *tmp_path.glob(".home*")]))
        observe("survived_the_host", int(over(there)))


@pytest.mark.falsifies("F-DISPATCH-026")
def test_what_is_cut_off_in_the_middle_is_asked_again(
    observe, command, there, tmp_path, monkeypatch
):
    begun(there)
    over(there)
    cuts = {1: 400, 3: 2000}  # in the rows as they are followed, and in the files
    monkeypatch.setenv("PATH", f"{ending_ssh(tmp_path / 'ends', cuts)}:{os.environ['PATH']}")
    home = tmp_path / "home"
    try:
        ran = watched(command, there, "--no-verdict", "--into", home)
    except ValueError as error:  # of half a line
        ran = Ran(1, "", str(error))
    observe("exit_code", ran.code)
    observe("cuts", ran.out.count("connection lost"))
    looks = [line.partition(":")[0] for line in ran.lines if "held-out loss" in line]
    observe("looks_off", int(looks != ["step 0 of 20", "step 20 of 20"]))
    observe("files_off", files_off(home, there.run()))


def ending_ssh(place: Path, cuts: dict[int, int]) -> Path:
    """An ssh of which some talks, by their numbers, end after so many bytes as at a cut."""
    place.mkdir()
    for number, size in cuts.items():
        (place / f"cut.{number}").write_text(str(size))
    (place / "ssh").write_text(f"""#!/bin/sh
cd {place}
case " $* " in *" -T "*)
  echo >> talks
  cut=cut.$(wc -l < talks)
  [ -e $cut ] && {{ {shutil.which("ssh")} "$@" | head -c $(cat $cut); exit 255; }}
esac
exec {shutil.which("ssh")} "$@"
""")
    (place / "ssh").chmod(0o755)
    return place


@pytest.mark.falsifies("F-DISPATCH-020")
def test_a_connection_is_made_once_and_closed_whatever_ends_it(observe, there):
    before, asked = there.host.connections, {"folder": "x", "run": "x", "paths": {}, "commands": []}
    with suppress(EngineError), there.connected() as near:
        for _ in range(2):
            near.ask("probe", **asked)
        raise EngineError("as where a host is not fit")
    observe("connections", there.host.connections - before)
    observe("left_open", int(not until(lambda: not there.host.sessions, 2)))
    there.host.cut()
    own = there.host.folder / "own_config"
    kept = f"  ControlMaster auto\n  ControlPath {there.host.folder}/own\n  ControlPersist 60\n"
    own.write_text(there.host.config.read_text() + kept)
    with connected(Host(NAME, str(there.python), ("-F", str(own)))) as near:
        near.ask("probe", **asked)
    observe("own_closed", int(until(lambda: not there.host.sessions, 0.2)))
    there.host.cut()


@pytest.mark.falsifies("F-DISPATCH-023")
def test_what_is_printed_can_be_typed(observe, command, there, monkeypatch):
    monkeypatch.setattr(preflight, "ENVIRONMENT", 1 << 60)  # none is to be made
    there.mark("held")
    name = "it's a run"
    started = command(*there.arguments(name), "--remote-python", there.python)
    watch, stop = (typed(started.out, f"{what} it:") for what in ("watch", "stop"))
    until((there.run(name) / "metrics.jsonl").exists)
    observe("stopped", int(subprocess.run(stop).returncode == 0 and over(there, name)))
    ended = command(*watch[3:], "--no-verdict")
    observe("end_unsaid", int("ended with exit code 143" not in ended.err))
    there.mark("held", False)
    resumed = command(*typed(ended.err, "go on by:")[3:])
    observe("resumed", int(resumed.code == 0 and over(there, name)))


def typed(said: str, before: str) -> list[str]:
    """What a shell makes of the words that were printed behind others; where nothing, `false`."""
    lines = [line.partition(before)[2] for line in said.splitlines() if before in line]
    with suppress(IndexError, ValueError):
        return shlex.split(lines[0])
    return ["false"] * 4


@pytest.mark.falsifies("F-DISPATCH-010")
def test_what_comes_home_is_what_was_there(observe, command, there, tmp_path, monkeypatch):
    begun(there)
    over(there)
    home = tmp_path / "home"
    quiet = ("--no-verdict", "--into", home)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{flipping_ssh(tmp_path)}:{os.environ['PATH']}")
        ran = watched(command, there, *quiet)
    observe("flipped_taken", int(ran.code != 2 or "model.safetensors" not in ran.err))
    observe("half_written", len([*tmp_path.glob("home*"), *tmp_path.glob(".home*")]))
    shutil.rmtree(home, ignore_errors=True)
    ran = watched(command, there, *quiet)
    observe("exit_code", ran.code)
    observe("files_off", files_off(home, there.run()))
    (tmp_path / "file").touch()
    observe("unclear", int(not is_clear(there, tmp_path / "file/home")))
    observe("written_over", int(watched(command, there, *quiet).code != 2))
    outside = ("/etc/x", "../x", "a/../../x", "")
    observe("names_that_leave_the_folder", sum(not refused(name) for name in outside))


def is_clear(there: Far, home: Path) -> bool:
    """Whether a place that cannot be written to is named."""
    try:
        fetching.fetch(there.near, str(there.run()), home)
    except EngineError as error:
        return f"{home.parent}" in str(error) and "expected to write there" in str(error)
    except OSError:
        return False
    return False


def files_off(home: Path, run: Path) -> int:
    """How many of the files that are to come home are not there, or are others."""
    names = ("metrics.jsonl", "dispatch.json", "best/model.safetensors", "job/dispatch.json")
    same = [
        (home / name).exists() and (home / name).read_bytes() == (run / name).read_bytes()
        for name in names
    ]
    return same.count(False)


def flipping_ssh(place: Path) -> Path:
    """An ssh through which one letter of the weights becomes another."""
    (place / "flip").mkdir()
    script = place / "flip/ssh"
    own = shutil.which("ssh")
    script.write_text(f"#!/bin/sh\n{own} \"$@\" | LC_ALL=C sed 's/WEIGHTS/WEIGHTZ/'\n")
    script.chmod(0o755)
    return script.parent


def refused(name: str) -> bool:
    try:
        fetching.safe_name(name)
    except EngineError:
        return True
    return False


@pytest.mark.falsifies("F-DISPATCH-011")
@pytest.mark.parametrize("end", ["killed", "stopped", "failed"])
def test_a_run_that_dies_or_fails_is_told(observe, command, there, tmp_path, end):
    there.mark("held")
    begun(there)
    until((there.run() / "metrics.jsonl").exists)
    number = int((there.run() / "job/pid").read_text().split()[0])
    if end != "failed":  # as at the end of a host, or by whoever stops it
        os.killpg(number, signal.SIGKILL if end == "killed" else signal.SIGTERM)
    else:
        there.mark("fails")
        there.mark("held", False)
    ran = watched(command, there, "--into", tmp_path / "home", "--no-verdict")
    observe("exit_code", ran.code)
    codes = {"stopped": "ended with exit code 143", "failed": "ended with exit code 1"}
    words = codes.get(end, "died")
    observe("unsaid", sum(each not in ran.err for each in (words, "after step", "--resume")))
    observe("log_unsaid", int(end == "failed" and "the disk is full" not in ran.err))
    observe("fetched", int((tmp_path / "home").exists()))
    again = dispatched(command, there)
    observe("started_again_unasked", int(again.code != 2 or there.calls.count("run") != 1))
    for name in ("held", "fails"):
        there.mark(name, False)
    resumed = command(*there.way, "--remote-python", there.python, "--resume", "runs/first")
    observe("resumed", int(resumed.code == 0 and "started" in resumed.out and over(there)))
    observe("jobs_kept", len(list(there.run().glob("job-*/log"))))


@pytest.mark.falsifies("F-DISPATCH-028")
def test_a_run_that_had_not_begun_is_started_again_by_its_order(observe, command, there):
    there.mark("broken")
    first = dispatched(command, there)
    over(there)
    watched_ = command("watch", there.run(), "--no-verdict")
    observe("exit_code", watched_.code)
    words = ("found no module named torch", "it had not begun: mend that, and dispatch it again")
    observe("unsaid", sum(each not in watched_.err for each in words))
    other = dispatched(command, there, recipe=replace(cases.RECIPE, steps=21))
    observe("others_taken", int(other.code != 2 or "found another run there" not in other.err))
    there.mark("broken", False)
    again = dispatched(command, there)
    observe("refused", int(first.code + again.code != 0))
    observe("done", int(over(there) and (there.run() / "job/exit").read_text() == "0\n"))
    observe("jobs_kept", len(list(there.run().glob("job-*/log"))))


@pytest.mark.falsifies("F-DISPATCH-012")
def test_slurm_takes_the_same_run_whatever_it_is_called(observe, tmp_path):
    with slurm_host() as config, ssh_host(SLURM_CONF=config) as own:
        there = far(own, tmp_path)
        run = str(there.folder / 'runs/it\'s "a" $run; 100%j')
        order = there.order(run, executor="slurm", processes=2, project=str(tmp_path))
        order = replace(order, submit=("--comment=two words",))
        with there.connected() as near:
            first = send.send(order, near, None, ignore)
            second = send.send(order, near, None, ignore)
            observe("started", first.started + second.started)
            follower = Follower(near, run, Patience(60, ignore), ignore)
            observe("rows", len(list(follower.rows())))
            observe("exit_code", follower.state.get("code", -1))
        observe("log_missing", int("done" not in Path(run, "job/log").read_text()))
        numbers = {each.job["slurm"] for each in (first, second)}
        observe("jobs", len(numbers))
        observe("torchruns", there.calls.count("torchrun --standalone --nproc-per-node 2"))


@pytest.mark.falsifies("F-DISPATCH-022")
def test_a_node_to_log_in_to_need_not_have_the_device(observe, command, there):
    there.tool("sbatch", 'for last; do :; done; setsid /bin/sh "$last" > /dev/null 2>&1 & echo 7')
    there.tool("squeue", "echo RUNNING")
    for mark in ("held", "fails"):
        there.mark(mark)
    slurm, device = ("--executor", "slurm"), {"device": "cuda", "teacher_device": "cuda"}
    ran = dispatched(command, there, *slurm, **device)
    observe("refused", int(ran.code != 0))
    if ran.code:
        print(ran.err)
        return
    observe("stop_unsaid", int(typed(ran.out, "stop it:")[-2:] != ["scancel", "7"]))
    there.mark("held", False)
    over(there)
    there.mark("fails", False)
    resume = [*there.way, "--remote-python", there.python, *slurm, "--resume", "runs/first"]
    resumed = command(*resume)
    began = resumed.code == 0 and "started" in resumed.out
    observe("resume_refused", int(not (began and over(there))))
    paths = (each / "dispatch.json" for each in there.run().glob("job*"))
    plans = [json.loads(path.read_text())["plan"] for path in paths]
    lost = [plan[name] != value for plan in plans for name, value in device.items()]
    observe("devices_lost", sum(lost))
    observe("manifests", len(plans))


@pytest.mark.falsifies("F-DISPATCH-021")
def test_how_a_job_stands(observe, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    states = [*stood(tmp_path, cases.ENDED), *stood(tmp_path, cases.GOING_ON)]
    died = [state["state"] == "died" for state in states]
    observe("dead_taken_for_alive", died[: len(cases.ENDED)].count(False))
    observe("alive_taken_for_dead", died[len(cases.ENDED) :].count(True))
    (tmp_path / "run/job/slurm").unlink()
    (tmp_path / "run/job/pid").write_text(f"{1 << 30} -\n")  # gone before it was looked at
    observe("gone_taken_for_alive", int(job.state_of(str(tmp_path / "run"))["state"] != "died"))


def stood(place: Path, scripts: list[str]) -> Iterator[dict]:
    """How a job of Slurm's stands where squeue says that of it, by a script each."""
    (place / "run/job").mkdir(parents=True, exist_ok=True)
    (place / "run/job/slurm").write_text("7\n")
    for script in scripts:
        (place / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (place / "squeue").chmod(0o755)
        yield job.state_of(str(place / "run"))


@pytest.mark.falsifies("F-DISPATCH-025")
@pytest.mark.parametrize("by", ["pid", "slurm"])
def test_a_job_that_nobody_could_find_again_is_ended(observe, tmp_path, monkeypatch, by):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, script in (("sbatch", "echo 7"), ("scancel", f"echo $1 > {tmp_path}/cancelled")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    put, popen, processes = job.put, subprocess.Popen, []
    full = lambda path, data: full_disk() if path.endswith(f"/{by}") else put(path, data)  # noqa: E731
    monkeypatch.setattr(job, "put", full)
    begin = lambda *given, **ways: processes.append(popen(*given, **ways)) or processes[-1]  # noqa: E731
    monkeypatch.setattr(subprocess, "Popen", begin)
    submit = ["/bin/sh"] if by == "pid" else ["sbatch"]
    try:
        job.start(str(tmp_path / "run"), {}, "exec sleep 3", submit, False)
        error = ""
    except OSError as found:
        error = str(found)
    observe("unsaid", int("No space left" not in error))
    ended = [each.wait() for each in processes]
    cancelled = tmp_path / "cancelled"
    killed = -signal.SIGKILL in ended if by == "pid" else cancelled.exists()
    observe("left_running", int(not killed))
    observe("folders_left", int((tmp_path / "run/job").exists()))


def full_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# The whole, with what is really trained


@pytest.mark.falsifies("F-DISPATCH-013")
def test_a_student_trained_elsewhere_comes_home_with_its_verdict(
    observe, capsys, monkeypatch, there, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(follow, "FIRST_PAUSE", 0.05)
    command = Command(capsys, monkeypatch)
    student = distill_cases.config_file(tmp_path / "student.json")
    recipe = replace(distill_cases.RECIPE, steps=30, heldout_every=10, alpha=1.0)
    given = {"teacher": "none", "student": str(student), "data": "synthetic", "recipe": recipe}
    started = command(*there.arguments(**given), "--remote-python", PYTHON)
    observe("started", int(started.code == 0 and "started" in started.out))
    if started.code:
        print(started.err)
        return
    with ThreadPoolExecutor(1) as pool:
        cuts = pool.submit(cut_when_begun, there)
        home = tmp_path / "home"
        ran = watched(command, there, "--into", home, "--no-verdict")
    observe("cuts", cuts.result())
    observe("exit_code", ran.code)
    rows = distill_cases.read_metrics(home) if home.exists() else []
    observe("rows", len(rows))
    observe("best_missing", int(not (home / "best/model.safetensors").exists()))
    paths = (home / "dispatch.json", home / "job/dispatch.json")
    plans = [json.loads(path.read_text())["plan"] for path in paths if path.exists()]
    observe("run_off_the_manifest", int(len(plans) != 2 or plans[0] != plans[1]))
    observe("hyperparameters_off", int(not plans or plans[-1]["recipe"] != recipe.to_dict()))
    if len(plans) != 2 or plans[0] != plans[1]:
        return  # nothing to judge
    ran = command("watch", home, "--json")
    observe("code_of_the_verdict", ran.code)  # thirty steps are no fifty thousand
    [found] = json.loads(ran.out)["results"]
    observe("falsifier", found["falsifier"])
    observe("verdict", found["verdict"])
    best = min(row["heldout_loss"] for row in rows if "heldout_loss" in row)
    observe("loss_off_the_judged", abs(found["measures"]["best_heldout_loss"]["value"] - best))


def cut_when_begun(there: Far) -> int:
    """Cut the connection once, when the first row is there; what served it."""
    until((there.run() / "metrics.jsonl").exists, 60)
    return there.host.cut()
