"""Publishes a checkpoint: a folder that HF transformers, llama.cpp and the engine load.

Knows what goes into the folder, and that it comes into being whole or not at all; how a GGUF or a
card is written is other modules'. The safetensors go in as they are, byte for byte. Whatever else
lies in a checkpoint (optimiser, journal) stays there.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.checkpoint import open_checkpoint
from engine.disk import require_room
from engine.errors import EngineError, FormatError, naming
from engine.evidence_card import read_evidence
from engine.gguf_writer import Progress
from engine.model_card import Card, card_text
from engine.publish_gguf import Loss, Plan, plan_gguf, write_planned
from engine.safetensors import INDEX, shard_names
from engine.whole_folder import paths_in, whole_folder

MANIFEST, CARD = "SHA256SUMS", "README.md"
EVIDENCE = "evidence"
BESIDE = (  # what HF's loaders read beside the shards
    *("config.json", "generation_config.json", INDEX),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "chat_template.jinja", "LICENSE"),
)
MORE_TEMPLATES = "additional_chat_templates"
PIECE = 1 << 22  # bytes copied or digested at once
SPARE = 1 << 20  # bytes for the card, the manifest and the folder itself


@dataclass(frozen=True)
class Order:
    """What to publish, and how. `name` is the model's; else the folder's."""

    source: Path
    out: Path
    mix: str
    name: str = ""
    licence: str | None = None
    base_models: tuple[str, ...] = ()
    evidence: tuple[Path, ...] = ()
    overwrite: bool = False


@dataclass(frozen=True)
class File:
    """A file of the folder, by its path in it."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Published:
    """What was written."""

    folder: Path
    gguf: str
    files: tuple[File, ...]
    losses: tuple[Loss, ...]


def publish(order: Order, progress: Progress = lambda done, total: None) -> Published:
    """Write the folder, whole or not at all. `EngineError` says what is missing or in the way."""
    order = replace(order, out=Path(os.path.abspath(order.out)))
    _check_place(order)
    if not order.source.is_dir():
        raise FormatError(f"{order.source}: found no folder, expected one with safetensors")
    source = open_checkpoint(order.source)
    with naming(order.source):
        plan = plan_gguf(source, order.mix)
    copies = {**_copies(order.source), **_evidence_files(order.evidence)}
    evidence = [read_evidence(path) for path in order.evidence]
    meter = _Meter(plan, copies, progress)
    require_room(_existing(order.out.parent), meter.room)
    with whole_folder(order.out, order.overwrite) as folder:
        for path, origin in copies.items():
            _copy(origin, folder / path, meter)
        name = order.name or order.out.name
        gguf = f"{name}-{order.mix}.gguf"
        losses = write_planned(folder / gguf, plan, name, meter.encoded)
        card = Card(name, gguf, plan, losses, evidence, order.licence, order.base_models)
        (folder / CARD).write_text(card_text(card), "utf-8")
        files = [_digested(folder, path, meter) for path in paths_in(folder)]
        lines = [f"{file.sha256}  {file.path}\n" for file in files]
        (folder / MANIFEST).write_text("".join(lines), "utf-8")
    return Published(order.out, gguf, tuple(files), tuple(losses))


def _check_place(order: Order) -> None:
    """Refuse to take the place of anything but an earlier publication."""
    out, name = order.out, order.name
    if name and (name in (".", "..") or {"/", "\\", "\0", "\n"} & set(name)):
        raise EngineError(f"--name: found {name!r:.60}, expected a name and no path")
    if not os.path.lexists(out):
        return
    if not order.overwrite:
        raise EngineError(f"{out}: found it there, expected nothing; --overwrite replaces it")
    if out.is_symlink() or not (out / MANIFEST).is_file():
        raise EngineError(
            f"{out}: found no folder with {MANIFEST}, expected one that publish wrote: "
            "nothing else is overwritten"
        )
    if order.source.resolve().is_relative_to(out.resolve()):
        raise EngineError(f"{out}: found the checkpoint in it, expected another folder")


def _copies(source: Path) -> dict[str, Path]:
    """What is taken as it is: path in the new folder -> file."""
    templates = sorted((source / MORE_TEMPLATES).glob("*.jinja"))
    names = [
        *BESIDE,
        *shard_names(source),
        *(f"{MORE_TEMPLATES}/{each.name}" for each in templates),
    ]
    return {name: source / name for name in names if (source / name).is_file()}


def _evidence_files(paths: Sequence[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        if files.setdefault(f"{EVIDENCE}/{path.name}", path) != path:
            raise EngineError(f"--evidence: found two files {path.name}, expected different names")
    return files


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there, whose disk it will be."""
    folder = folder.absolute()
    return next(each for each in (folder, *folder.parents) if each.exists())


class _Meter:
    """What is to do and what is done: bytes copied, encoded and digested."""

    def __init__(self, plan: Plan, copies: dict[str, Path], progress: Progress) -> None:
        copied = sum(path.stat().st_size for path in copies.values())
        vocabulary = (plan.source.path / "tokenizer.json").stat().st_size
        self.room = copied + plan.bytes + vocabulary + SPARE
        self._total, self._done, self._progress = 2 * (copied + plan.bytes), 0, progress
        self._encoded = 0

    def advance(self, size: int) -> None:
        """So many bytes more; what nobody foresaw (the card) does not go beyond the whole."""
        self._done = min(self._done + size, self._total)
        self._progress(self._done, self._total)

    def encoded(self, done: int, total: int) -> None:
        """A `Progress` of the GGUF alone."""
        self.advance(done - self._encoded)
        self._encoded = done


def _copy(origin: Path, to: Path, meter: _Meter) -> None:
    to.parent.mkdir(exist_ok=True)
    with origin.open("rb") as source, to.open("wb") as copy:
        while piece := source.read(PIECE):
            copy.write(piece)
            meter.advance(len(piece))


def _digested(folder: Path, path: str, meter: _Meter) -> File:
    digest, size = hashlib.sha256(), 0
    with (folder / path).open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
            meter.advance(len(piece))
    return File(path, size, digest.hexdigest())
