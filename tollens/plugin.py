"""The pytest plugin: adapts pytest's hooks to a `Session`; decides nothing itself.

Without `--contract` and without a test marked `falsifies`, nothing but three options, a marker and
a fixture exist, and no other module of the harness is imported.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tollens.observing import Observe


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tollens", "contracts and falsifiers")
    group.addoption(
        "--contract",
        action="append",
        default=[],
        metavar="PATH",
        help="run the falsifiers of this contract, or of all contracts in this folder; repeatable",
    )
    group.addoption(
        "--record",
        choices=["auto", "always", "never"],
        default="never" if os.environ.get("CI") else "auto",
        help="write evidence and history where something changed (auto), always, or never; "
        "the default is auto, and never where CI is set",
    )
    group.addoption(
        "--sabotage",
        action="store_true",
        help="also run each falsifier under each planted fault that it must kill",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "falsifies(id, ...): bind this test to the falsifiers of a contract"
    )
    if config.getoption("contract"):
        config.pluginmanager.register(_hooks(config, judging_only=False), "tollens-session")


def pytest_itemcollected(item: pytest.Item) -> None:
    """In a plain `pytest` run too, a bound test is judged by its contract."""
    plugins = item.config.pluginmanager
    if item.get_closest_marker("falsifies") and not plugins.has_plugin("tollens-session"):
        plugins.register(_hooks(item.config, judging_only=True), "tollens-session")


def _hooks(config: pytest.Config, judging_only: bool) -> object:
    from tollens.errors import TollensError
    from tollens.hooks import JudgingHooks, SessionHooks
    from tollens.project import read_project
    from tollens.session import Session, open_session

    is_worker = hasattr(config, "workerinput")
    try:
        project = read_project(config.rootpath)
        given = [config.invocation_params.dir / path for path in config.getoption("contract")]
        if judging_only:
            folder = project.root / project.contracts
            given = [folder] if folder.is_dir() else []
        if not given:
            return JudgingHooks(Session(project, []))
        session = open_session(
            project,
            given,
            "never" if judging_only else config.getoption("record"),
            config.getoption("sabotage") and not judging_only,
            config.invocation_params.args,
        )
        if judging_only or not is_worker:  # whose controller has done it
            session.inspect()
    except TollensError as error:
        raise pytest.UsageError(f"\n{error}") from error
    return JudgingHooks(session) if judging_only else SessionHooks(session, is_worker)


@pytest.fixture
def observe(request: pytest.FixtureRequest) -> Observe:
    """Record a measure of the falsifier that this test is bound to: `observe(name, value)`.

    `observe.attach(path)` adds a file to the evidence; `observe.at(level, artifact=path)` says at
    which level this test observes.
    """
    from tollens.errors import ObserveError
    from tollens.hooks import OBSERVE

    found: Observe | None = request.node.stash.get(OBSERVE, None)
    if found is None:
        raise ObserveError(f"{request.node.nodeid}: no @pytest.mark.falsifies binds this test")
    return found
