"""Checkpoints of a run: whole folders that appear at once, the newest and the best of them kept.

    RUN/checkpoints/step-00000500/   a HF folder, and the state that training goes on from
    RUN/last -> checkpoints/…        the newest
    RUN/best -> checkpoints/…        of the best held-out loss

Knows files and names; knows nothing of how a step is made. A folder is written beside its place,
read back, and renamed, so that a run that dies at any moment leaves the one before it.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.checkpoint import open_checkpoint
from engine.config import ModelConfig
from engine.distill.hf_folder import write_folder
from engine.errors import EngineError, FormatError, naming
from engine.layout import check_tensors
from engine.safetensors import read_json

FOLDER, LAST, BEST = "checkpoints", "last", "best"
STATE = "training"  # a folder in the checkpoint: no reader of models looks there
MOMENTS, PROGRESS = f"{STATE}/optimiser.safetensors", f"{STATE}/progress.json"


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps that are done, and the best held-out loss with the step it was at."""

    step: int = 0
    best: float | None = None
    best_step: int | None = None


@dataclass(frozen=True)
class Saved:
    """What training goes on from; tensors are under GGUF's names."""

    progress: Progress
    moments: dict[str, Tensor]


def save(
    run: Path,
    progress: Progress,
    tensors: Mapping[str, Tensor],
    moments: Mapping[str, Tensor],
    hf: Mapping[str, Any],
    tokenizer: Path | None,
) -> Path:
    """Write the checkpoint of `progress.step`, make it the newest, and the best where it is that.

    Checkpoints that are neither are removed. Raises `EngineError` where the disk refuses.
    """
    place = run / FOLDER / f"step-{progress.step:08d}"
    partial = place.with_name(f".{place.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        write_folder(partial, tensors, hf, tokenizer)
        (partial / STATE).mkdir()
        save_file({name: each.contiguous() for name, each in moments.items()}, partial / MOMENTS)
        (partial / PROGRESS).write_text(json.dumps(asdict(progress)) + "\n", "utf-8")
        verify(partial)
        for each in partial.rglob("*"):
            flush(each)
        shutil.rmtree(place, ignore_errors=True)  # of an earlier attempt at the same step
        os.replace(partial, place)
        flush(place.parent)
        point(run / LAST, place)
        if progress.best_step == progress.step:
            point(run / BEST, place)
        _remove_others(run)
    except OSError as error:
        raise EngineError(f"{place}: found {error.strerror}, expected to write there") from error
    except SafetensorError as error:
        raise EngineError(f"{place}: found {error}, expected to write there") from error
    return place


def verify(folder: Path) -> None:
    """Read a checkpoint back: every tensor of its config is there, in its shape and size."""
    checkpoint = open_checkpoint(folder)
    with naming(folder):
        check_tensors(ModelConfig.from_metadata(checkpoint.metadata), checkpoint.tensors)


def newest(run: Path) -> Path:
    """The checkpoint to go on from."""
    place = run / LAST
    if not place.is_dir():
        raise FormatError(f"{place}: found nothing, expected a checkpoint of the run to resume")
    return place.resolve()


def has_saved(run: Path) -> bool:
    """Whether the run came to its first checkpoint; the newest may be lost since."""
    return (run / LAST).is_symlink()


def load(folder: Path) -> Saved:
    """What `save` wrote beside the student, which `open_student` reads."""
    verify(folder)
    found = read_json(folder / PROGRESS)
    if set(found) != {each.name for each in fields(Progress)}:
        raise FormatError(f"{folder / PROGRESS}: found {sorted(found)}, expected step and best")
    try:
        moments = load_file(folder / MOMENTS)
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"{folder / MOMENTS}: found {error}, expected the optimiser's state"
        ) from error
    return Saved(Progress(**found), moments)


def point(link: Path, place: Path) -> None:
    """Make `link` lead to `place`, at once and whatever it led to before."""
    partial = link.with_name(f".{link.name}.partial")
    partial.unlink(missing_ok=True)
    partial.symlink_to(os.path.relpath(place, link.parent))
    os.replace(partial, link)
    flush(link.parent)


def flush(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_others(run: Path) -> None:
    kept = {(run / link).resolve() for link in (LAST, BEST)}
    for each in (run / FOLDER).iterdir():
        if each.resolve() not in kept:
            shutil.rmtree(each, ignore_errors=True)
