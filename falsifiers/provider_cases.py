"""Shards, tokenizers and teachers to try the providers with, and what they must give.

Knows the bytes of a shard by `struct` alone; the oracle of windows is a list of tokens.
"""

import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from engine.distill.data import Batch, Source
from engine.errors import EngineError
from engine.tokenizer import Tokenizer
from falsifiers.small_vocabulary import small_vocabulary

V = 1000


def write_shards(folder: Path, *shards: Sequence[int]) -> Path:
    """Files of these tokens, whose names are in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, tokens in enumerate(shards):
        (folder / f"{place:02d}.bin").write_bytes(struct.pack(f"<{len(tokens)}I", *tokens))
    return folder


def random_shards(folder: Path, *sizes: int, seed: int = 0) -> tuple[Path, list[int]]:
    """Shards of these sizes, and all of their tokens, no two of which are equal."""
    tokens = Random(seed).sample(range(V), sum(sizes))
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    parts = [tokens[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return write_shards(folder, *parts), tokens


def pairs(batch: Batch) -> list[tuple[int, int]]:
    """Each input with its label."""
    columns = batch.inputs.flatten().tolist(), batch.labels.flatten().tolist()
    return list(zip(*columns, strict=True))


def order(source: Source, steps: Sequence[int], size: int) -> list[tuple[int, ...]]:
    """The windows of each step's batch, asked for in the order given, sorted by step."""
    return [found for _, found in sorted((s, source.batch(s, size).windows) for s in steps)]


def tokenizer(vocabulary_size: int = 0, **changes: object) -> Tokenizer:
    """The small tokenizer, padded by fillers to this size."""
    keys = small_vocabulary(**changes)
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    fillers = [f"[PAD{index}]" for index in range(len(tokens), vocabulary_size)]
    keys["tokenizer.ggml.tokens"] = [*tokens, *fillers]
    keys["tokenizer.ggml.token_type"] = [*types, *(5 for _ in fillers)]
    return Tokenizer.from_metadata(keys)


def swapped(tokens: Sequence[str], one: int, other: int) -> list[str]:
    """The tokens with two that changed places."""
    tokens = list(tokens)
    tokens[one], tokens[other] = tokens[other], tokens[one]
    return tokens


class Scripted:
    """A teacher whose logits are random numbers by window; counts what it is asked."""

    name, tokenizer, vocabulary = "scripted", None, None
    device = torch.device("cpu")

    def __init__(self, vocabulary_size: int = 300, seed: int = 0, sharpness: float = 3.0) -> None:
        self.vocabulary_size, self.digest = vocabulary_size, f"{seed:064d}"
        self._seed, self._sharpness, self.asked = seed, sharpness, []
        self.stop_at: int | None = None  # the window that a kill comes at

    def check(self, source: Source) -> None:
        pass

    def logits(self, batch: Batch) -> Tensor:
        if self.stop_at in batch.windows:
            raise KeyboardInterrupt
        self.asked += batch.windows
        return torch.stack([self._of(window, batch.inputs.shape[1]) for window in batch.windows])

    def _of(self, window: int, length: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * 10**6 + window)
        return torch.randn(length, self.vocabulary_size, generator=generator) * self._sharpness


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(call: Callable[[], object]) -> str:
    """What it says when it refuses; nothing where it does not."""
    try:
        call()
    except EngineError as error:
        return str(error)
    return ""


def largest(found: Tensor, expected: Tensor) -> float:
    """The largest difference; infinite for another shape."""
    return float((found - expected).abs().max()) if found.shape == expected.shape else math.inf
