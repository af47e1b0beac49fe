"""Asks a teacher once for all windows of a source, and keeps its K most probable tokens.

Knows batches and the cache's files; knows nothing of training. A shard is whole or not there, so
a run that was stopped goes on where it was; what it finds is looked at before it is believed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.disk import replace_file, require_room
from engine.distill import topk
from engine.distill.data import Source
from engine.distill.teachers import Teacher
from engine.distill.topk import MANIFEST, Recipe, Shard
from engine.errors import EngineError, FormatError

Progress = Callable[[int, int], None]  # windows done, and of all
ROOM = 1 << 20  # bytes beside the shards: the manifest, and what a folder takes


def recipe_of(teacher: Teacher, source: Source, k: int) -> Recipe:
    """What the cache of this teacher on this data will hold."""
    teacher.check(source)
    if not 1 <= k <= teacher.vocabulary_size:
        raise EngineError(f"top-k: found {k}, expected 1 to {teacher.vocabulary_size}")
    return Recipe(
        teacher=teacher.digest,
        vocabulary=teacher.vocabulary,
        vocabulary_size=teacher.vocabulary_size,
        data=source.digest,
        windows=len(source),
        seq_len=source.seq_len,
        k=k,
    )


def precompute(
    teacher: Teacher,
    source: Source,
    folder: str | Path,
    *,
    k: int = 64,
    batch: int = 8,
    progress: Progress | None = None,
) -> Recipe:
    """Write the cache to `folder`, or finish the one that is there; `batch` windows at a time.

    Raises `EngineError` where the disk has no room for it, where the folder holds anything else,
    and where the teacher's logits are not finite.
    """
    folder, recipe = Path(folder), recipe_of(teacher, source, k)
    tell = progress or (lambda done, total: None)
    rows: list[dict[str, Any]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_ours(folder, recipe)
        _require_room(folder, recipe)
        replace_file(folder / MANIFEST, topk.manifest(recipe, []).encode())
        for windows in recipe.shards():
            path = folder / topk.shard_name(windows)
            shard = _kept(path, recipe, windows)
            if shard is None:
                replace_file(
                    path, topk.encode(recipe, *_ask(teacher, source, windows, k, batch, tell))
                )
                shard = topk.open_shard(path, recipe, windows)
            rows.append(topk.row(path, shard))
            tell(windows.stop, recipe.windows)
        replace_file(folder / MANIFEST, topk.manifest(recipe, rows).encode())
    except OSError as error:
        raise EngineError(f"{folder}: found {error.strerror}, expected to write there") from error
    return recipe


def _ask(
    teacher: Teacher, source: Source, windows: range, k: int, batch: int, tell: Progress
) -> tuple[Tensor, Tensor]:
    """What is kept of `windows`: float16 log-probabilities and int32 ids [N, T, K]."""
    kept = []
    for start in range(windows.start, windows.stop, batch):
        asked = range(start, min(start + batch, windows.stop))
        log_probs = teacher.logits(source.take(asked)).log_softmax(dim=-1)
        if not log_probs.isfinite().all():
            raise EngineError(
                f"{teacher.name}: found logits that are not finite in windows {asked.start} to "
                f"{asked.stop - 1}, expected finite ones"
            )
        kept.append(_most_probable(log_probs, k))
        tell(asked.stop, len(source))
    log_probs, ids = (torch.cat(each) for each in zip(*kept, strict=True))
    return log_probs, ids


def _most_probable(log_probs: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The K best of [..., V], most probable first, equal ones by id."""
    ids = log_probs.topk(k, dim=-1).indices.sort(dim=-1).values
    best = log_probs.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    return best.values.half().cpu(), ids.gather(-1, best.indices).int().cpu()


def _kept(path: Path, recipe: Recipe, windows: range) -> Shard | None:
    """The shard of an earlier run; None where there is none, or none that is whole."""
    try:
        return topk.open_shard(path, recipe, windows) if path.exists() else None
    except FormatError:
        return None


def _require_ours(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder that holds another cache, or anything else."""
    if any(folder.iterdir()) and topk.read_manifest(folder, finished=False) != recipe:
        raise EngineError(
            f"{folder}: found a cache of another teacher, other data or another size, "
            "expected an empty folder, or this cache to go on with"
        )


def _require_room(folder: Path, recipe: Recipe) -> None:
    there = sum(path.stat().st_size for path in folder.iterdir())
    require_room(folder, recipe.bytes() - there + ROOM)
