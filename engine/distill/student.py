"""The student: a trainable Qwen2, Qwen3 or Qwen3-MoE, from a HF folder or fresh from a config.

Knows parameters and how the forward pass takes them; knows nothing of losses, data or files that
are written. The layers are `engine.model`'s own: the one forward pass serves training too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine import rope
from engine.checkpoint import open_checkpoint
from engine.config import ModelConfig
from engine.errors import FormatError, naming
from engine.hf_config import hyperparameters, is_tied
from engine.layout import Shape, tensor_shapes
from engine.model import Model, Pass, add_norm, run_layer
from engine.safetensors import read_json
from engine.weights import Device, Floats, Weight, require_index

STD = 0.02  # of a fresh matrix, as Qwen's configs have it
Then = Callable[[Tensor, Tensor], Tensor]  # hidden [B, T, H] and the output matrix [V, H] to …


class Stack(Weight):
    """The experts' matrices [E, out, in], taken apart once, so that a gradient is put together
    once too, and not for each expert anew."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name, self.shape = name, tuple(tensor.shape)
        self._parts = tensor.unbind()

    def dequantise(self, device: Device = "cpu") -> Tensor:
        return torch.stack(self._parts)

    def pieces(self, device: Device = "cpu") -> Iterator[Tensor]:
        yield self.dequantise()

    def rows(self, ids: Sequence[int], device: Device = "cpu") -> Tensor:
        return torch.stack([self._parts[index] for index in ids])

    def __getitem__(self, index: int) -> Floats:
        require_index(self, index)
        return Floats(f"{self.name}[{index}]", self._parts[index])


def weight_of(name: str, tensor: Tensor) -> Weight:
    """A parameter as the forward pass takes it."""
    return Stack(name, tensor) if tensor.dim() == 3 else Floats(name, tensor)


class Block(nn.Module):
    """One layer; its parameters are named as the file's tensors: `attn_q.weight`."""

    def __init__(self, config: ModelConfig, layer: int, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        for name, tensor in tensors.items():
            part, kind = name.split(".")
            if part not in self._modules:
                self.add_module(part, nn.ParameterDict())
            getattr(self, part)[kind] = nn.Parameter(tensor)

    def forward(self, x: Tensor, made: Tensor | None, step: Pass) -> tuple[Tensor, Tensor]:
        """The residual stream [B, T, H] and what is yet to be added to it, after this layer."""
        named = ((f"blk.{self.layer}.{n}", each) for n, each in self.named_parameters())
        weights = {name: weight_of(name, each) for name, each in named}
        return run_layer(Model(self.config, weights, x.device), self.layer, x, made, step)


class Student(nn.Module):
    """A model whose parameters are float32 and bear GGUF's names; `hf` is its config.json."""

    def __init__(
        self, config: ModelConfig, tensors: Mapping[str, Tensor], hf: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.config, self.hf = config, dict(hf)
        tensors = dict(
            sorted(tensors.items())
        )  # sums over parameters have one order, come what may
        for name, tensor in tensors.items():
            if not name.startswith("blk."):
                part, kind = name.split(".")
                self.add_module(part, nn.ParameterDict({kind: nn.Parameter(tensor)}))
        layers: list[dict[str, Tensor]] = [{} for _ in range(config.block_count)]
        for name, tensor in tensors.items():
            if name.startswith("blk."):
                _, layer, rest = name.split(".", 2)
                layers[int(layer)][rest] = tensor
        self.blk = nn.ModuleList(Block(config, i, each) for i, each in enumerate(layers))

    def forward(self, ids: Tensor, then: Then) -> Tensor:
        """What `then` makes of the hidden states [B, T, H] of `ids` [B, T] and the output matrix.

        It is called in here, so that a sharded output matrix is whole when it is used.
        """
        embedding = self._outside("token_embd")
        positions = torch.arange(ids.shape[-1], device=ids.device)
        step = Pass(*rope.tables(self.config, positions))
        x: Tensor = functional.embedding(ids, embedding)
        made: Tensor | None = None
        for block in self.blk:
            x, made = block(x, made, step)
        gain = Floats("output_norm.weight", self._outside("output_norm"))
        outside = Model(self.config, {gain.name: gain}, x.device)
        _, hidden = add_norm(outside, "output_norm", x, made, step)
        return then(hidden, embedding if self.is_tied else self._outside("output"))

    def _outside(self, name: str) -> Tensor:
        """A parameter that belongs to no layer."""
        return self.get_parameter(f"{name}.weight")

    @property
    def is_tied(self) -> bool:
        """Whether the output matrix is the embedding."""
        return "output" not in self._modules

    def logits(self, ids: Tensor) -> Tensor:
        """Float32 logits [B, T, V] of `ids` [B, T]."""
        made: Tensor = self(ids, functional.linear)
        return made


def open_student(path: str | Path, *, seed: int = 0) -> Student:
    """The student at `path`: a HF folder as it is, or fresh from a config.json by `seed`.

    Raises `FormatError` or `TensorError`, naming the file.
    """
    path = Path(path)
    return fresh(read_json(path), path, seed) if path.suffix == ".json" else _from_folder(path)


def fresh(hf: Mapping[str, Any], where: object, seed: int) -> Student:
    """Random weights for the config of a config.json; the same seed gives the same."""
    with naming(where):
        config, tied = ModelConfig.from_metadata(hyperparameters(hf)), is_tied(hf)
    shapes = dict(tensor_shapes(config))
    if not tied:
        shapes["output.weight"] = shapes["token_embd.weight"]
    random = torch.Generator().manual_seed(seed)
    tensors = {name: _drawn(name, shape, config, random) for name, shape in shapes.items()}
    return Student(config, tensors, hf)


def _drawn(name: str, shape: Shape, config: ModelConfig, random: torch.Generator) -> Tensor:
    """Norms begin at one, biases at zero; what adds to the residual stream begins smaller, for
    there are two of them in each layer (GPT-2's rule)."""
    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith(".bias") else torch.ones(shape)
    adds = "attn_output." in name or "ffn_down" in name
    std = STD / sqrt(2 * config.block_count) if adds else STD
    return torch.randn(shape, generator=random) * std


def _from_folder(path: Path) -> Student:
    if not path.is_dir():
        raise FormatError(
            f"{path}: found no folder, expected a student: a Hugging Face folder of safetensors, "
            "or a config.json to start afresh from"
        )
    model = Model.from_checkpoint(open_checkpoint(path)).to_float()
    tensors = {name: weight.dequantise() for name, weight in model.weights.items()}
    return Student(model.config, tensors, read_json(path / "config.json"))
