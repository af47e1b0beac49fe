"""A checkpoint of floats as a GGUF file in one of the mixes.

Knows which tensors go in, in what types, and what that loses; the encoding, the keys and the
container are other modules'. It holds one encoded tensor at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from torch import Tensor

from engine.config import ModelConfig
from engine.errors import EngineError, FormatError, TensorError
from engine.gguf import Bytes, Checkpoint
from engine.gguf_keys import add_file_type, add_hyperparameters, add_vocabulary
from engine.gguf_writer import Progress, write_gguf
from engine.layout import check_tensors, tensor_shapes
from engine.mixes import MIXES, Planned, tensor_type
from engine.quant import dequantise
from engine.quant_search import encode
from engine.tokenizer import Tokenizer
from engine.weights import Blocks, Weight

PUBLISHED = tuple(name for name in MIXES if name != "Q4_0")  # which llama.cpp mixes otherwise


@dataclass(frozen=True)
class Loss:
    """What all tensors of one type lost: `error` is the root mean square of the difference over
    that of the weights."""

    type: str
    tensors: int
    parameters: int
    error: float


@dataclass(frozen=True)
class Plan:
    """A GGUF file that is to be written from a checkpoint."""

    source: Checkpoint
    config: ModelConfig
    mix: str
    tensors: tuple[Planned, ...]

    @property
    def bytes(self) -> int:
        """The size of the file's tensors."""
        return sum(tensor.bytes for tensor in self.tensors)


def plan_gguf(source: Checkpoint, mix: str) -> Plan:
    """What the file is to hold; refuses a checkpoint that a GGUF cannot say, before any work."""
    if mix not in PUBLISHED:
        raise EngineError(f"--quantize: found {mix!r}, expected one of {', '.join(PUBLISHED)}")
    if "tokenizer.ggml.tokens" not in source.metadata:
        raise FormatError("found no tokenizer.json, expected one: a GGUF holds its tokenizer")
    config = ModelConfig.from_metadata(source.metadata)
    check_tensors(config, source.tensors)
    Tokenizer.from_metadata(source.metadata)  # refuses a bad one
    if any(0 < window < config.context_length for window in config.sliding_windows):
        raise FormatError(
            f"found a sliding window of {max(config.sliding_windows)}, expected "
            f"none: llama.cpp has none for {config.architecture} and would answer otherwise"
        )
    shapes = dict(tensor_shapes(config))
    tied = "output.weight" not in source.tensors
    if not tied:
        shapes["output.weight"] = shapes["token_embd.weight"]
    tensors = tuple(
        Planned(name, shape, tensor_type(name, shape, mix, config, tied))
        for name, shape in shapes.items()
    )
    width = source.metadata.get(f"{config.architecture}.feed_forward_length")
    if config.is_moe and isinstance(width, int):  # which a mixture's file has too, for nothing
        config = replace(config, feed_forward_length=width)
    return Plan(source, config, mix, tensors)


def write_planned(path: Path, plan: Plan, name: str, progress: Progress) -> list[Loss]:
    """Write the file; `progress` hears of the bytes that are encoded."""
    encoder = Encoder(plan, progress)

    def add_metadata(writer: GGUFWriter) -> None:
        writer.add_type("model")
        writer.add_name(name)
        add_file_type(writer, plan.mix)
        add_hyperparameters(writer, plan.config)
        add_vocabulary(writer, plan.source.metadata)

    write_gguf(path, plan.config.architecture, add_metadata, plan.tensors, encoder.blocks)
    return encoder.losses()


class Encoder:
    """Hands out a plan's tensors, encoded, and keeps account of what that loses."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self._plan, self._progress = plan, progress
        self._done, self._total = 0, plan.bytes
        self._squares: dict[str, tuple[float, float]] = {}  # by type: of differences, of weights

    def blocks(self, tensor: Planned) -> Bytes:
        """The bytes of one tensor, of its `raw_shape`."""
        parts, kind, shape = self._plan.source.tensors[tensor.name]
        encoded: Bytes = np.empty(tensor.bytes, np.uint8)
        at = 0
        for piece in _pieces(Blocks(tensor.name, parts, kind, shape)):
            part = encode(piece, tensor.type, tensor.name).numpy().reshape(-1)
            self._account(tensor, piece, part)
            encoded[at : at + part.size] = part
            at += part.size
        return encoded.reshape(tensor.raw_shape)

    def _account(self, tensor: Planned, x: Tensor, encoded: Bytes) -> None:
        decoded = dequantise(encoded, tensor.type, x.shape, tensor.name)
        if not bool(decoded.isfinite().all()):
            raise TensorError(
                f"{tensor.name}: found numbers up to {float(x.abs().max()):g}, "
                f"expected smaller ones: {tensor.type} cannot hold them"
            )
        lost, whole = self._squares.get(tensor.type, (0.0, 0.0))
        lost += float((decoded - x).square().sum(dtype=torch.float64))
        whole += float(x.square().sum(dtype=torch.float64))
        self._squares[tensor.type] = (lost, whole)
        self._done += encoded.size
        self._progress(self._done, self._total)

    def losses(self) -> list[Loss]:
        """Of each type, the most used first."""
        found = []
        for kind, (lost, whole) in self._squares.items():
            shapes = [tensor.shape for tensor in self._plan.tensors if tensor.type == kind]
            error = sqrt(lost / whole) if whole else 0.0
            found.append(Loss(kind, len(shapes), sum(map(prod, shapes)), error))
        return sorted(found, key=lambda loss: -loss.parameters)


def _pieces(weight: Weight) -> Iterator[Tensor]:
    """All of it as float32, some rows of a matrix at a time."""
    if len(weight.shape) < 3:
        yield from weight.pieces()
        return
    for index in range(weight.shape[0]):
        yield from weight[index].pieces()
