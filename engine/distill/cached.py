"""A teacher that is not asked again: its K most probable tokens, read from a cache.

Knows the cache's format; knows nothing of models. It answers for the windows that it was made
of and refuses all others.
"""

from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from engine.distill.data import Batch, Source
from engine.distill.topk import Recipe, Shard, open_shard, read_manifest, shard_name
from engine.distill.vocabulary import require_cover
from engine.errors import EngineError

OPEN_SHARDS = 64  # that are mapped at a time


class CachedTeacher:
    """The logits of a finished cache. `digest` is that of the teacher which it was made by."""

    tokenizer = None

    def __init__(self, folder: str | Path, device: torch.device | str = "cpu") -> None:
        self.folder, self.device = Path(folder), torch.device(device)
        self.recipe: Recipe = read_manifest(self.folder)
        self.name, self.digest = str(folder), self.recipe.teacher
        self.vocabulary, self.vocabulary_size = self.recipe.vocabulary, self.recipe.vocabulary_size
        self._shard = lru_cache(OPEN_SHARDS)(self._opened)

    def kept(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities, float32, and ids, int64, [B, T, K] each: most probable first."""
        if batch.source != self.recipe.data:
            raise EngineError(
                f"{self.name}: found a batch of the data {batch.source:.12}, "
                f"expected the data {self.recipe.data:.12} that the cache was made of"
            )
        rows = [self._row(window) for window in batch.windows]
        log_probs = torch.stack([shard.log_probs[at] for shard, at in rows])
        ids = torch.stack([shard.ids[at] for shard, at in rows])
        return log_probs.to(self.device).float(), ids.to(self.device).long()

    def logits(self, batch: Batch) -> Tensor:
        """Float32 [B, T, V]: -inf for what was not kept, so that a softmax renormalises."""
        log_probs, ids = self.kept(batch)
        shape = (*ids.shape[:-1], self.vocabulary_size)
        nothing = torch.full(shape, -float("inf"), device=self.device)
        return nothing.scatter_(-1, ids, log_probs)

    def check(self, source: Source) -> None:
        """Refuse data that the cache was not made of."""
        recipe = self.recipe
        if source.seq_len != recipe.seq_len:
            raise EngineError(
                f"{self.name}: found windows of {source.seq_len} tokens, "
                f"expected {recipe.seq_len}, as in the cache"
            )
        if source.digest != recipe.data:
            raise EngineError(
                f"{self.name}: found the data {source.digest:.12}, expected the data "
                f"{recipe.data:.12} that the cache was made of; precompute another cache for it"
            )
        require_cover(self.vocabulary_size, source.vocabulary_size)

    @cached_property
    def _windows(self) -> list[range]:
        return self.recipe.shards()

    def _row(self, window: int) -> tuple[Shard, int]:
        shard, at = divmod(window, self.recipe.per_shard)
        return self._shard(shard), at

    def _opened(self, shard: int) -> Shard:
        windows = self._windows[shard]
        return open_shard(self.folder / shard_name(windows), self.recipe, windows)
