"""A teacher's K most probable tokens at every position, as files: what is in them and their names.

Knows the format; knows nothing of models. A folder holds safetensors shards of whole windows in
the order of their source, and a manifest that names them once all are there.
Kept are log-probabilities over the whole vocabulary, float16 [N, T, K], most probable first, and
their ids, int32 [N, T, K]. Being logits up to a constant, they serve any temperature: a softmax
over them renormalises the K that are kept. What their exponentials lack to 1 is the mass that was
not kept, whose mean the manifest states. Every shard carries the digests of its recipe and of its
own numbers. Nothing depends on a path, a date or a seed: the same recipe gives the same bytes.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from engine.errors import FormatError

KIND = "engine.distill top-k cache, version 1"
MANIFEST = "manifest.json"
TOLD = "engine.distill"  # the entry of a shard's metadata
SHARD_BYTES = 1 << 23  # of numbers in a shard, about: what a killed run loses at most
NUMBER_BYTES = 2 + 4  # float16 and int32


@dataclass(frozen=True)
class Recipe:
    """What decides every byte of a cache, but for the rounding of the route that computed it."""

    teacher: str  # digest of contents
    vocabulary: str | None  # digest of the teacher's tokens, where it has a tokenizer
    vocabulary_size: int  # V
    data: str  # digest of the source
    windows: int
    seq_len: int  # T
    k: int

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    @property
    def per_shard(self) -> int:
        """Windows in every shard but the last."""
        return max(1, SHARD_BYTES // (self.seq_len * self.k * NUMBER_BYTES))

    def shards(self) -> list[range]:
        """The windows of each shard."""
        starts = range(0, self.windows, self.per_shard)
        return [range(start, min(start + self.per_shard, self.windows)) for start in starts]

    def bytes(self) -> int:
        """The size of all shards, before any of them is there."""
        shards = self.shards()
        sizes = {len(each): self._shard_bytes(len(each)) for each in (shards[0], shards[-1])}
        return sum(sizes[len(each)] for each in shards)

    def _shard_bytes(self, windows: int) -> int:
        shape = (windows, self.seq_len, self.k)
        nothing = torch.full(shape, -float("inf"), dtype=torch.float16)
        return len(encode(self, nothing, torch.zeros(shape, dtype=torch.int32)))


def shard_name(windows: range) -> str:
    """Named after its first window."""
    return f"windows-{windows.start:09d}.safetensors"


def encode(recipe: Recipe, log_probs: Tensor, ids: Tensor) -> bytes:
    """A shard: float16 log-probabilities and int32 ids, [N, T, K] each."""
    mass = log_probs.double().exp().sum(dim=-1).mean()
    told = {"recipe": recipe.digest, "numbers": numbers_digest(log_probs, ids)}
    text = json.dumps(told | {"kept_mass": f"{mass:.6f}"})  # in one entry: several have no order
    return bytes(save({"ids": ids, "log_probs": log_probs}, {TOLD: text}))


def numbers_digest(log_probs: Tensor, ids: Tensor) -> str:
    """Of a shard's numbers as they lie in memory."""
    digest = hashlib.sha256()
    for tensor in (log_probs, ids):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Shard:
    """The numbers of a shard, mapped: log-probabilities and ids [N, T, K], the mean mass kept."""

    log_probs: Tensor
    ids: Tensor
    kept_mass: float
    digest: str


def open_shard(path: Path, recipe: Recipe, windows: range) -> Shard:
    """Map a shard and look at every number; `FormatError` for one that is not of this recipe."""
    try:
        with safe_open(path, framework="pt") as file:
            told = json.loads((file.metadata() or {})[TOLD])
            log_probs, ids = file.get_tensor("log_probs"), file.get_tensor("ids")
        made_for, numbers, mass = told["recipe"], told["numbers"], float(told["kept_mass"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise FormatError(f"{path}: found {error!r:.99}, expected a shard of a cache") from error
    expected = (len(windows), recipe.seq_len, recipe.k)
    if made_for != recipe.digest or tuple(ids.shape) != expected:
        raise FormatError(f"{path}: found the shard of another cache, expected {recipe.digest}")
    if numbers != numbers_digest(log_probs, ids):
        raise FormatError(f"{path}: found numbers that are not those that were written")
    return Shard(log_probs, ids, mass, numbers)


def row(path: Path, shard: Shard) -> dict[str, Any]:
    """What the manifest says of a shard."""
    told = {"file": path.name, "bytes": path.stat().st_size, "windows": len(shard.ids)}
    return told | {"kept_mass": shard.kept_mass, "numbers": shard.digest}


def manifest(recipe: Recipe, rows: list[dict[str, Any]]) -> str:
    """The text of the manifest: of a cache that is begun without `rows`, of a finished one with."""
    told: dict[str, Any] = {"kind": KIND, "recipe": asdict(recipe), "bytes": recipe.bytes()}
    if rows:
        mass = sum(each["kept_mass"] * each["windows"] for each in rows) / recipe.windows
        told |= {"kept_mass": round(mass, 6), "shards": rows}
    return json.dumps(told, indent=1) + "\n"


def read_manifest(folder: Path, *, finished: bool = True) -> Recipe:
    """The recipe of a cache; `FormatError` for anything else, and for one that is not `finished`
    if it has to be."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text("utf-8"))
        recipe = Recipe(**found["recipe"])
        kind, whole = found["kind"], "shards" in found
    except OSError as error:
        raise FormatError(
            f"{path}: found {error.strerror}, expected the manifest of a top-k cache"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: found {error!r:.80}, expected a top-k cache's") from error
    if kind != KIND:
        raise FormatError(f"{path}: found kind {kind!r:.60}, expected {KIND!r}")
    if finished and not whole:
        raise FormatError(
            f"{folder}: found a top-k cache that is not finished, expected a whole one: run "
            "python -m engine distill precompute again, which goes on where it was"
        )
    return recipe
