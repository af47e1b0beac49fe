"""Two processes that train together over gloo, forked so that planted faults are in them too."""

import multiprocessing
import os
import socket
import traceback
import warnings
from pathlib import Path

import torch

from engine.distill.loop import Training
from engine.distill.objective import Targets
from engine.distill.recipe import Recipe
from engine.distill.workers import joined
from falsifiers import distill_cases as cases

FORK = multiprocessing.get_context("fork")
PATIENCE = 30  # seconds


def two_processes(run: Path, sharding: str, recipe: Recipe) -> None:
    """Train in `run`; fails by assertion where a process did not end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = [(rank, port, run, sharding, recipe) for rank in range(2)]
    cases.teacher_folder()  # before they part
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        both = [FORK.Process(target=work, args=each, daemon=True) for each in given]
        for each in both:
            each.start()
    for each in both:
        each.join(PATIENCE)
    codes = [each.exitcode for each in both]
    for each in both:
        each.kill()
    assert codes == [0, 0]


def work(rank: int, port: int, run: Path, sharding: str, recipe: Recipe) -> None:
    """One of the two."""
    code = 1
    try:
        torch.set_num_threads(1)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ.update(place, RANK=str(rank), WORLD_SIZE="2")
        with joined("cpu", sharding, 2, rank) as workers:
            model = cases.student("qwen3moe")
            targets = Targets(cases.teacher(), cases.V, torch.device("cpu"))
            data = (cases.text(), cases.held_out())
            Training(model, targets, *data, recipe, run, workers=workers, ahead=0).train()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)  # nothing of the parent's is undone here
