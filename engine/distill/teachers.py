"""Who a student learns from: a model by any route, or the logits that one left in a cache.

Knows how batches become logits; knows nothing of losses or students. A teacher is opened by what
it is called on the command line: a GGUF file, a HF folder, a folder of `distill precompute`, or
`fixture`, a small model with random weights.
"""

import tempfile
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.checkpoint import open_checkpoint
from engine.distill.cached import CachedTeacher
from engine.distill.data import Batch, Source
from engine.distill.digest import content_digest
from engine.distill.topk import MANIFEST
from engine.distill.vocabulary import check_vocabularies, require_cover, vocabulary_digest
from engine.errors import EngineError, naming
from engine.fixture import write_fixture
from engine.gguf import Checkpoint
from engine.model import Model
from engine.routes import choose
from engine.tokenizer import Tokenizer

FIXTURE, NONE = "fixture", "none"


class Teacher(Protocol):
    """Gives logits for a batch; `digest` is of its contents, whatever it is called."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def vocabulary_size(self) -> int: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def tokenizer(self) -> Tokenizer | None: ...

    @property
    def vocabulary(self) -> str | None:
        """The digest of its tokens, where it knows them."""

    def logits(self, batch: Batch) -> Tensor:
        """Float32 [B, T, V] on its device, without gradients."""

    def check(self, source: Source) -> None:
        """Refuse data that it cannot judge, before anything is trained."""


class ModelTeacher:
    """A model that judges each position of each window, by the route that it was opened with."""

    def __init__(
        self, name: str, model: Model, digest: str, tokenizer: Tokenizer | None = None
    ) -> None:
        self.name, self.model, self.digest, self.tokenizer = name, model, digest, tokenizer
        self.vocabulary_size = model.config.vocabulary_size
        self.vocabulary = None if tokenizer is None else vocabulary_digest(tokenizer)
        self.device = model.device

    @classmethod
    def from_checkpoint(
        cls, name: str, checkpoint: Checkpoint, device: str = "cpu", route: str = "auto"
    ) -> "ModelTeacher":
        """From a file or folder that is open already; one without a tokenizer has none."""
        model = Model.from_checkpoint(checkpoint, device, choose(route, device).route)
        with naming(name):
            tokenizer = _tokenizer(checkpoint)
            return cls(name, model, content_digest(checkpoint), tokenizer)

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        if self.model.route is None:
            return self.model.logits(batch.inputs)
        return torch.stack([self.model.forward(window) for window in batch.inputs.tolist()])

    @torch.no_grad()
    def hidden(self, batch: Batch) -> Tensor:
        """What `output_weight` turns into logits: float32 [B, T, H]."""
        if self.model.route is None:
            return self.model.hidden(batch.inputs)
        windows = batch.inputs.tolist()
        return torch.stack([self.model.forward(window, output=False) for window in windows])

    @torch.no_grad()
    def output_weight(self) -> Tensor:
        """The matrix to logits, decoded: float32 [V, H]. It is not kept here."""
        return self.model.output().dequantise(self.device)

    def check(self, source: Source) -> None:
        most = self.model.config.context_length
        if source.seq_len > most:
            raise EngineError(
                f"{self.name}: found windows of {source.seq_len} tokens, "
                f"expected at most the teacher's context length of {most}"
            )
        if {source.vocabulary, self.vocabulary} - {None, self.vocabulary}:
            raise EngineError(
                f"{self.name}: found a corpus of other tokens than the teacher's, expected one "
                "that its tokenizer made: python -m engine corpus --tokenizer"
            )
        require_cover(self.vocabulary_size, source.vocabulary_size)


class NoTeacher:
    """Nobody: the text's own next tokens are all that there is to learn, with an alpha of 1."""

    name = digest = NONE
    vocabulary_size = 0
    tokenizer: Tokenizer | None = None
    vocabulary: str | None = None

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)

    def logits(self, batch: Batch) -> Tensor:
        raise EngineError("teacher: found none, expected one to say what it thinks")

    def check(self, source: Source) -> None:
        """Any text will do."""


def open_teacher(
    spec: str | Path, *, device: str = "cpu", route: str = "auto", data: Source | None = None
) -> Teacher:
    """The teacher called `spec`; with `data`, one that can judge it.

    Raises `FormatError` or `TensorError` for a bad file, `EngineError` for a device or a route
    that is not there, and for data that it cannot judge.
    """
    teacher = _open(spec, device, route)
    if data is not None:
        teacher.check(data)
    return teacher


def check_tokens(teacher: Teacher, student: Tokenizer) -> None:
    """Refuse a student whose ids mean other tokens than the teacher's, as far as both are known."""
    if teacher.tokenizer is not None:
        check_vocabularies(teacher.tokenizer, student)
    elif teacher.vocabulary not in (None, vocabulary_digest(student)):
        raise EngineError(
            f"{teacher.name}: found a cache by a teacher with other tokens than the student's, "
            "expected equal tokens at equal ids"
        )


def _open(spec: str | Path, device: str, route: str) -> Teacher:
    if (Path(spec) / MANIFEST).is_file():
        return CachedTeacher(spec, device)
    if str(spec) == NONE:
        return NoTeacher(device)
    if str(spec) == FIXTURE:
        with tempfile.TemporaryDirectory() as folder:  # what is mapped outlives its name
            checkpoint = open_checkpoint(write_fixture(Path(folder) / "fixture.gguf"))
            return ModelTeacher.from_checkpoint(FIXTURE, checkpoint, device, route)
    return ModelTeacher.from_checkpoint(str(spec), open_checkpoint(spec), device, route)


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer | None:
    if "tokenizer.ggml.tokens" not in checkpoint.metadata:
        return None
    return Tokenizer.from_metadata(checkpoint.metadata)
