"""Makes a corpus: shards of token ids to learn from and to judge by, out of a folder of texts.

Knows how texts become shards; knows nothing of models or training. Whole files are held out, by
the digests of their contents: which ones depends on nothing else but the seed. Each text ends
with the token of its end, and special tokens that are spelt in a text are text. The same texts
with the same options give the same bytes, wherever they lie.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.bpe import END_OF_TEXT, bpe_metadata, train_bpe
from engine.disk import require_room
from engine.distill.data import HELD_OUT, KIND, MANIFEST, TRAIN
from engine.distill.stream import TOKEN
from engine.distill.vocabulary import vocabulary_digest
from engine.errors import EngineError
from engine.texts import Text, Texts
from engine.tokenizer import Tokenizer
from engine.tokenizer_files import write_tokenizer

SHARD_TOKENS = 1 << 26  # in a file, at most: 256 MiB
ROOM = 2  # bytes on disk for a byte of text: a token has four, and stands for two or more
TOGETHER = 1 << 20  # bytes of text that are encoded at once
END_KEY = "tokenizer.ggml.eos_token_id"
Progress = Callable[[int, int], None]  # bytes of text done, and of all


def write_corpus(
    texts: Texts,
    out: Path,
    *,
    vocabulary: Mapping[str, Any] | int,
    held_out: float = 0.05,
    seed: int = 0,
    shard_tokens: int = SHARD_TOKENS,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a corpus to the folder `out`, whole or not at all; returns its manifest.

    `vocabulary` is a tokenizer, as the metadata of a model, or the size of the one to be trained
    on what is learned from. Raises `EngineError` where `out` holds something already, where fewer
    than two files are there to be split, and where the disk has no room.
    """
    train, judge = split(texts.files, held_out, seed)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise EngineError(f"{out}: found something there, expected a new or an empty folder")
    done = _Done(progress or (lambda done, total: None), sum(text.bytes for text in texts.files))
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        require_room(partial, ROOM * done.total)
        trained = isinstance(vocabulary, int)
        metadata = _trained(texts, train, vocabulary) if isinstance(vocabulary, int) else vocabulary
        made = _Made(texts, partial, Tokenizer.from_metadata(metadata), _end_id(metadata), done)
        told = {
            "kind": KIND,
            "vocabulary": vocabulary_digest(made.tokenizer),
            "vocabulary_size": made.tokenizer.vocab_size,
            "trained": trained,
            "end_of_text": made.end,
            "seed": seed,
            "held_out": held_out,
            "left_out": dict(sorted(texts.left_out.items())),
            TRAIN: made.write(TRAIN, train, shard_tokens),
            HELD_OUT: made.write(HELD_OUT, judge, shard_tokens),
            "held_out_files": [text.name for text in judge],
        }
        write_tokenizer(partial, metadata)
        (partial / MANIFEST).write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        os.replace(partial, out)
    except OSError as error:
        raise EngineError(f"{out}: found {error.strerror}, expected to write there") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return told


def split(files: Sequence[Text], held_out: float, seed: int) -> tuple[list[Text], list[Text]]:
    """Files to learn from and files to judge by, `held_out` of all bytes or a little more."""
    if not 0 < held_out < 1:
        raise EngineError(f"held-out: found {held_out}, expected a fraction between 0 and 1")
    if len(files) < 2:
        raise EngineError(f"held-out: found {len(files)} file, expected two or more to split")
    wanted = held_out * sum(text.bytes for text in files)
    judge: set[Text] = set()
    for text in sorted(files, key=lambda text: _rank(text, seed))[: len(files) - 1]:
        if judge and sum(each.bytes for each in judge) >= wanted:
            break
        judge.add(text)
    return [t for t in files if t not in judge], [t for t in files if t in judge]


def _rank(text: Text, seed: int) -> str:
    return hashlib.sha256(f"{seed} {text.digest}".encode()).hexdigest()


def _trained(texts: Texts, files: Sequence[Text], size: int) -> dict[str, Any]:
    return bpe_metadata(*train_bpe((texts.read(text) for text in files), size, normalize=True))


def _end_id(metadata: Mapping[str, Any]) -> int:
    """The token that ends a text: <|endoftext|>, or the one that the file names."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    if END_OF_TEXT in tokens:
        return tokens.index(END_OF_TEXT)
    if END_KEY not in metadata:
        raise EngineError(f"tokenizer: found no token {END_OF_TEXT} and no {END_KEY}, expected one")
    return int(metadata[END_KEY])


class _Done:
    """Adds up the bytes of text that are done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self.total, self._done = progress, total, 0

    def add(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self.total)


@dataclass(frozen=True)
class _Made:
    """A corpus that is being written: where from, where to, and by which tokens."""

    texts: Texts
    folder: Path
    tokenizer: Tokenizer
    end: int
    done: _Done

    def write(self, name: str, files: Sequence[Text], shard_tokens: int) -> dict[str, Any]:
        """One half, a stream of ids cut into files; returns what went in and what came out."""
        (self.folder / name).mkdir()
        shards: list[dict[str, Any]] = []
        for place, ids in enumerate(_cut(self._ids(files), shard_tokens)):
            path, data = self.folder / name / f"{place:05d}.bin", np.array(ids, TOKEN).tobytes()
            path.write_bytes(data)
            told = {"file": path.name, "tokens": len(ids)}
            shards.append(told | {"sha256": hashlib.sha256(data).hexdigest()})
        tokens = sum(each["tokens"] for each in shards)
        size = sum(text.bytes for text in files)
        return {"files": len(files), "bytes": size, "tokens": tokens, "shards": shards}

    def _ids(self, files: Sequence[Text]) -> Iterator[list[int]]:
        for some in _some(files):
            texts = [self.texts.read(text) for text in some]
            for ids in self.tokenizer.encode_all(texts, special=False):
                yield [*ids, self.end]
            self.done.add(sum(text.bytes for text in some))


def _some(files: Sequence[Text]) -> Iterator[list[Text]]:
    """Files together that have `TOGETHER` bytes, or a single one that has more."""
    held: list[Text] = []
    for text in files:
        held.append(text)
        if sum(each.bytes for each in held) >= TOGETHER:
            yield held
            held = []
    if held:
        yield held


def _cut(ids: Iterator[list[int]], size: int) -> Iterator[list[int]]:
    held: list[int] = []
    for each in ids:
        held += each
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held
