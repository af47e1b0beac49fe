"""The command `dispatch`: a distillation started on another machine; and `watch`, which follows it.

Knows options and exit codes; everything else is done by the modules that it calls. What is not its
own option is `distill`'s.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer
from typer.main import get_command

from engine import cli_train, cli_watch
from engine.cli_options import speaker, to_json
from engine.cli_ssh import SshFile, SshOption, ssh_options
from engine.dispatch.connection import connected
from engine.dispatch.host import Host
from engine.dispatch.order import EXECUTORS, Order
from engine.dispatch.project import Project, read_project
from engine.dispatch.send import Sent, send
from engine.distill.run import Plan

ROOT = Path(__file__).parents[1]
EPILOG = """Examples:

python -m engine dispatch gpu1 --teacher models/big.gguf --student small.json --data corpus \
--out first --device cuda --dry-run

python -m engine dispatch login --executor slurm --sbatch-option=--gres=gpu:2 --processes 2 \
--teacher models/big.gguf --student small.json --data synthetic --out first --device cuda

python -m engine dispatch gpu1 --resume runs/first

HOST is as in ssh_config. The options of `distill` follow; their paths are the host's, relative ones
begin at --folder there, and a bare --out at its `runs`. Exit codes: 0 started, or it was; 2 bad
input, or the host is not fit, and nothing was started."""

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog=EPILOG,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def dispatch(
    context: typer.Context,
    host: Annotated[str, typer.Argument(metavar="HOST", help="As ssh knows it.")],
    folder: Annotated[
        str, typer.Option(metavar="DIR", help="On the host: project, environments, runs.")
    ] = "tollens",
    executor: Annotated[
        str, typer.Option(metavar="|".join(EXECUTORS), help="Who starts it there.")
    ] = "ssh",
    processes: Annotated[int, typer.Option(min=1, help="Of torchrun, on one machine.")] = 1,
    remote_python: Annotated[
        str | None, typer.Option(metavar="PATH", help="Of an environment there: a name, /… or ~/….")
    ] = None,
    base_python: Annotated[
        str, typer.Option(metavar="PATH", help="On the host, to make an environment by.")
    ] = "python3",
    remote_project: Annotated[
        str | None, typer.Option(metavar="DIR", help="A project that is there; none is sent.")
    ] = None,
    sbatch_option: Annotated[
        list[str] | None, typer.Option(metavar="OPTION", help="Of sbatch; repeatable.")
    ] = None,
    ssh_file: SshFile = None,
    ssh_option: SshOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan; touch nothing, here or there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train on another machine: look, send, start, and come back."""
    run, plan = ordered(context.args)
    submit, python = tuple(sbatch_option or ()), remote_python
    order = Order(host, run, plan, folder, executor, processes, python, remote_project, submit)
    project = None if remote_project else read_project(ROOT)
    say = speaker(as_json)
    for line in introduction(order, project):
        say(line)
    if dry_run:
        say("dry run: nothing was touched, and the host was not asked")
        if as_json:
            print(to_json(order.to_dict() | {"command": order.command(python or "PYTHON")}))
        return
    asked = Host(host, python or base_python, ssh_options(ssh_file, ssh_option))
    with connected(asked) as there:
        sent = send(order, there, project, say)
    for line in _told(sent, asked, ssh_options(ssh_file, ssh_option, "--ssh-option")):
        say(line)
    if as_json:
        print(
            to_json(
                {"started": sent.started, "run": sent.run, **sent.job, "manifest": sent.manifest}
            )
        )


app.command(epilog=cli_watch.EPILOG)(cli_watch.watch)


def ordered(arguments: Sequence[str]) -> tuple[str, Plan | None]:
    """The run and the plan that the options of `distill` say; refuses what it does not know."""
    one = typer.Typer(rich_markup_mode=None)
    one.command()(cli_train.train)
    context = get_command(one).make_context("distill", list(arguments))
    run, plan = cli_train.chosen(cast(typer.Context, context))
    return place(str(run)), plan


def place(run: str) -> str:
    """Where a run is; a bare name is in the folder of runs."""
    return run if "/" in run else f"runs/{run}"


def introduction(order: Order, project: Project | None) -> list[str]:
    """The plan, as far as it is known before the host is asked."""
    where = str(order.project)
    if project is not None:
        dirty = " with changes" if project.dirty else ""
        where = (
            f"{len(project.files)} files, {project.digest:.12}, commit {project.commit:.12}{dirty}"
        )
    lines = [
        f"host       {order.host}, by {order.executor}, {order.processes} process(es)",
        f"folder     {order.folder}",
        f"run        {order.run}",
        f"project    {where}",
        f"python     {order.python or 'an environment of its own, made once'}",
        f"dataset    {order.dataset}",
    ]
    if order.plan is None:
        return [*lines, "resume     what the run began with"]
    plan, recipe = order.plan, order.plan.recipe.to_dict()
    lines += [f"teacher    {plan.teacher}", f"student    {plan.student}"]
    return [*lines, *(f"  {name:16} {value}" for name, value in recipe.items())]


def _told(sent: Sent, host: Host, ways: Sequence[str]) -> list[str]:
    how = (
        "started" if sent.started else "already finished" if "code" in sent.job else "already there"
    )
    known = " ".join(f"{name} {sent.job[name]}" for name in ("slurm", "pid") if name in sent.job)
    lines = [f"{how}    {sent.run}: {sent.job['state']}, {known}"]
    lines.append(f"watch it: {cli_watch.engine_line('watch', f'{host.name}:{sent.run}', *ways)}")
    if sent.job["state"] in ("ended", "died", "starting"):
        return lines
    slurm = sent.job.get("slurm")
    end = ["scancel", slurm] if slurm else ["kill", "-TERM", "--", f"-{sent.job['pid']}"]
    return [*lines, f"stop it:  {shlex.join(['ssh', *host.options, host.name, *end])}"]
