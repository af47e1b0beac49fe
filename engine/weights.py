"""The weights of a model, which give out float32 numbers when they are used.

Knows encoded and plain weights, and the guard against a weight without data; knows nothing of
files, layers or architectures. This is the plain route: decode, then multiply. It is the
reference that faster routes are compared with, so it must stay simple.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from engine.errors import TensorError
from engine.quant import dequantise

# Named after where the weights are used, which is where a reader of the log will look.
logger = logging.getLogger("engine.model")

PIECE = 1 << 24  # numbers decoded at once by `linear`: 64 MiB of float32
Bytes = npt.NDArray[np.uint8]
Device = torch.device | str


class Weight(ABC):
    """A matrix [out, in], a stack of them [E, out, in], or a vector [n]; shapes are row-major."""

    name: str
    shape: tuple[int, ...]

    @abstractmethod
    def dequantise(self, device: Device = "cpu") -> Tensor:
        """All of it as float32."""

    @abstractmethod
    def pieces(self, device: Device = "cpu") -> Iterator[Tensor]:
        """A matrix as float32, some rows at a time and in order."""

    @abstractmethod
    def rows(self, ids: Sequence[int], device: Device = "cpu") -> Tensor:
        """Only the rows `ids` as float32 [len(ids), in]: an embedding look-up."""

    @abstractmethod
    def __getitem__(self, index: int) -> "Weight":
        """One matrix of a stack."""


@dataclass(frozen=True, eq=False)
class Floats(Weight):
    """A weight that is a float32 tensor already, perhaps one that is being trained."""

    name: str
    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self.tensor.shape)

    def dequantise(self, device: Device = "cpu") -> Tensor:
        return self.tensor

    def pieces(self, device: Device = "cpu") -> Iterator[Tensor]:
        yield self.tensor

    def rows(self, ids: Sequence[int], device: Device = "cpu") -> Tensor:
        return self.tensor[torch.as_tensor(ids, device=self.tensor.device)]

    def __getitem__(self, index: int) -> "Floats":
        require_index(self, index)
        return Floats(f"{self.name}[{index}]", self.tensor[index])


@dataclass(frozen=True, eq=False)
class Blocks(Weight):
    """A tensor of the file, still encoded; its numbers come out only past the guards.

    `parts` are flat views: one, or one for each matrix of a stack that are stored apart.
    """

    name: str
    parts: tuple[Bytes, ...]
    type: str
    shape: tuple[int, ...]

    @classmethod
    def absent(cls, name: str) -> "Blocks":
        """Stands for a tensor that the file lacks: to use it is an error."""
        return cls(name, (), "F32", ())

    def dequantise(self, device: Device = "cpu") -> Tensor:
        return self._decode(self._whole(), self.shape, device)

    def pieces(self, device: Device = "cpu") -> Iterator[Tensor]:
        raw, rows = self._whole().reshape(self.shape[0], -1), max(1, PIECE // self.shape[-1])
        for start in range(0, self.shape[0], rows):
            part = raw[start : start + rows]
            yield self._decode(part.reshape(-1), (len(part), *self.shape[1:]), device)

    def rows(self, ids: Sequence[int], device: Device = "cpu") -> Tensor:
        raw = self._whole().reshape(self.shape[0], -1)[list(ids)]
        return self._decode(raw, (len(ids), *self.shape[1:]), device)

    def __getitem__(self, index: int) -> "Blocks":
        require_data(self)
        require_index(self, index)
        apart = len(self.parts) > 1
        part = self.parts[index] if apart else self.parts[0].reshape(self.shape[0], -1)[index]
        return Blocks(f"{self.name}[{index}]", (part,), self.type, self.shape[1:])

    def _whole(self) -> Bytes:
        require_data(self)
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)

    def _decode(self, raw: Bytes, shape: Sequence[int], device: Device) -> Tensor:
        x = dequantise(raw, self.type, shape, self.name, device)
        require_finite(self, x)
        return x


def require_data(weight: Blocks) -> None:
    """The guard: a weight without bytes is reported and refused, never read as zeros."""
    if not any(part.size for part in weight.parts):
        message = f"matmul weight has EMPTY data buffer: {weight.name}"
        logger.error(message)
        raise TensorError(f"{message}; found 0 bytes, expected the tensor's data")


def require_index(weight: Weight, index: int) -> None:
    """Refuse a matrix that the stack lacks; a negative index would take one from its end."""
    if not 0 <= index < weight.shape[0]:
        raise TensorError(
            f"{weight.name}: found index {index}, expected 0 to {weight.shape[0] - 1}"
        )


def require_finite(weight: Blocks, x: Tensor) -> None:
    """The other guard: a NaN in a block's scale would spread to every logit, so it is refused."""
    if x.sum().isfinite() or x.isfinite().all():  # the sum alone is quick, and nearly always enough
        return
    bad = int((~x.isfinite()).sum())
    raise TensorError(
        f"{weight.name}: found {bad} of {prod(x.shape)} numbers that are NaN or infinite "
        f"({weight.type}), expected finite numbers"
    )


def check_finite(weight: Weight) -> None:
    """Decode all of a weight, a matrix at a time, for the guard to see."""
    if len(weight.shape) < 3:
        for _ in weight.pieces():
            pass
        return
    for index in range(weight.shape[0]):
        weight[index].dequantise()


def linear(x: Tensor, weight: Weight, bias: Weight | None = None) -> Tensor:
    """x [..., in] times weight [out, in] transposed, plus bias [out], in float32: [..., out].

    The matrix is decoded a piece at a time, so that a vocabulary's does not take gigabytes.
    """
    parts = [functional.linear(x, piece) for piece in weight.pieces(x.device)]
    y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
    return y if bias is None else y + bias.dequantise(x.device)
