"""The command `watch`: follows a run, wherever it is, to the verdict of its contract.

Knows options, terminals and exit codes; everything else is done by the modules that it calls.
"""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn

from engine.cli_options import speaker, to_json
from engine.cli_progress import progress
from engine.cli_ssh import SshFile, SshOption, ssh_options
from engine.dispatch.connection import connected
from engine.dispatch.fetch import fetch
from engine.dispatch.follow import Follower, Lost, Patience
from engine.dispatch.host import Cut, Host
from engine.dispatch.verdict import CONTRACT, TEST, VARIABLE, Claim, Verdict, judge
from engine.distill.pace import Pace
from engine.errors import EngineError

DAY = 86400.0  # seconds
EPILOG = """Examples:

python -m engine watch gpu1:/home/me/tollens/runs/first

python -m engine watch runs/first --contract contracts/distill-train-v1.yaml

The run goes on whether it is watched or not; Ctrl-C ends the watching alone.
Exit codes: 0 the claim holds of the run; 1 it does not, nobody judged it, the run failed or died,
or its host is gone; 2 bad input; 130 stopped by Ctrl-C."""


def watch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="HOST:FOLDER, or a folder here.")],
    into: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where its evidence goes; else runs/NAME.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="What is there.")] = False,
    contract: Annotated[
        Path | None, typer.Option(metavar="FILE", help=f"Who judges; else {CONTRACT}.")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(metavar="TEST", help="By these of its tests; repeatable.")
    ] = None,
    variable: Annotated[
        str, typer.Option(metavar="NAME", help="Tells the test where the run is.")
    ] = VARIABLE,
    no_verdict: Annotated[
        bool, typer.Option("--no-verdict", help="Only print the line that judges.")
    ] = False,
    patience: Annotated[float, typer.Option(help="Seconds without a connection.")] = DAY,
    remote_python: Annotated[
        str | None, typer.Option(metavar="PATH", help="Any on the host; else python3.")
    ] = None,
    ssh_file: SshFile = None,
    ssh_option: SshOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Follow a run to its end and judge it by its contract."""
    claim = _claim(contract, test, variable)
    if not no_verdict:
        claim.check()
    name, folder = split(run)
    if not name:
        given = {"into": into, "overwrite": overwrite, "remote_python": remote_python}
        _require_none(given | {"ssh_config": ssh_file, "ssh_option": ssh_option})
    home = (into or Path("runs") / Path(folder).name) if name else Path(folder)
    if name and home.exists() and not overwrite:
        raise EngineError(f"{home}: found a folder, expected none: --into another, or --overwrite")
    tell = speaker(as_json)
    host = Host(name, remote_python or "python3", ssh_options(ssh_file, ssh_option))
    ways = ssh_options(ssh_file, ssh_option, "--ssh-option")
    pace = Pace()
    with connected(host) as there, _watching(engine_line("watch", run, *ways), tell):
        follower = Follower(there, folder, Patience(patience, tell), tell)
        _follow(follower, pace, tell)
        _require_done(follower, pace, ways)
        if name:
            _fetch(follower, home, overwrite, tell)
    verdict = None if no_verdict else judge(claim, home)
    for line in verdict.lines() if verdict else ():
        tell(line)
    tell(f"judge it: {claim.line(home)}")
    if as_json:
        print(to_json(pace.summary() | _summary(home, verdict)))
    if verdict is not None and not verdict.holds:
        raise typer.Exit(1)


def _claim(contract: Path | None, tests: list[str] | None, variable: str) -> Claim:
    if contract is None:
        root = Path(__file__).parents[1]
        return Claim(root / CONTRACT, tuple(tests or [TEST]), variable)
    return Claim(contract.absolute(), tuple(tests or ()), variable)


def split(run: str) -> tuple[str, str]:
    """HOST and FOLDER, as scp reads them: a colon after a slash is no host's."""
    name, colon, folder = run.partition(":")
    if not colon or "/" in name:
        return "", run
    if not name or not folder:
        raise EngineError(f"RUN: found {run!r}, expected HOST:FOLDER, or a folder here")
    return name, folder


def _require_none(given: Mapping[str, object]) -> None:
    """Refuse what would be ignored of a run that is here."""
    for name in filter(given.get, given):
        option = f"--{name.replace('_', '-')}"
        raise EngineError(f"{option}: found it for a folder here, expected it with HOST:FOLDER")


def engine_line(*words: str) -> str:
    """A command of the engine as a shell reads it."""
    return shlex.join(["python", "-m", "engine", *words])


def _follow(follower: Follower, pace: Pace, tell: Callable[[str], None]) -> None:
    """Show each row; a bar where there is a terminal, a line for each held-out loss."""
    with progress("watching", None, MofNCompleteColumn()) as advance:
        for row in follower.rows():
            pace.steps = follower.steps
            line = pace.see(row)
            advance(pace.step, follower.steps or pace.step)
            if line:
                tell(", ".join([line, *pace.told()]))


@contextmanager
def _watching(line: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Exit code 1 where the host is lost, 130 at Ctrl-C; neither touches the run."""
    try:
        yield
    except Lost as error:
        print(f"error: {error}: is the host alive? The run may be", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        tell(f"the run goes on; watch it again: {line}")
        raise typer.Exit(130) from None


def _require_done(follower: Follower, pace: Pace, ways: Sequence[str]) -> None:
    """Exit code 1 where the run did not come to a good end."""
    state = follower.state
    if state["state"] == "ended" and state["code"] == 0:
        return
    how = f"ended with exit code {state['code']}" if "code" in state else "died without an end"
    log = "".join(f"\n  {line}" for line in state.get("log", "").splitlines())
    name, again = follower.host.name, ("--resume", follower.run)
    words = ("dispatch", name, *ways, *state["again"], *again) if name else ("distill", *again)
    advice = f"go on by: {engine_line(*words)}"
    if not state["begun"]:
        advice = "it had not begun: mend that, and dispatch it again"
    print(
        f"error: {follower.host}: {follower.run}: the run {how}, after step {pace.place}; its log "
        f"says:{log}\nlook at {follower.run}/job/log; {advice}",
        file=sys.stderr,
    )
    raise typer.Exit(1)


def _fetch(follower: Follower, home: Path, overwrite: bool, tell: Callable[[str], None]) -> None:
    while True:
        try:
            names = fetch(follower.host, follower.run, home, overwrite)
        except Cut as error:
            follower.patience.wait(error)
        else:
            break
    tell(f"fetched {len(names)} files, every digest as on the host: {home}")


def _summary(home: Path, verdict: Verdict | None) -> dict[str, Any]:
    found: dict[str, Any] = {"run": str(home), "holds": None, "results": []}
    return found | ({"holds": verdict.holds, "results": verdict.results} if verdict else {})
