"""What is in a model file: architecture, sizes, tensors, tokenizer, template, and what is amiss.

Knows metadata and tensor headers; reads no tensor and builds no tokenizer, so that it is quick and
works on a model that the engine refuses. What the engine would refuse is listed in `warnings`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from engine.chat import ChatTemplate
from engine.config import ModelConfig
from engine.errors import EngineError
from engine.gguf import Checkpoint, RawTensor
from engine.layout import check_tensors
from engine.quant import TYPES
from engine.tokenizer import END_KEYS, END_TEXTS, PRE_TOKENIZERS

IN_LAYER = re.compile(r"blk\.(\d{1,9})\.(.+)")
TOKENIZER = "tokenizer.ggml."


@dataclass(frozen=True)
class TypeTotal:
    """All tensors of one type."""

    type: str
    tensors: int
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Fold:
    """Tensors that are alike in several layers; `layers` is empty for one outside of them."""

    name: str  # without the layer: attn_q.weight
    type: str
    shape: tuple[int, ...]
    layers: tuple[int, ...]
    bytes: int  # of all of them

    @property
    def folded(self) -> str:
        """blk.0-47.attn_q.weight; the layers are counted where they are not in one run."""
        if not self.layers:
            return self.name
        first, last = self.layers[0], self.layers[-1]
        if last - first + 1 != len(self.layers):
            return f"blk.*.{self.name} ({len(self.layers)} layers)"
        return f"blk.{first if first == last else f'{first}-{last}'}.{self.name}"


class NamedToken(NamedTuple):
    """A token that the file or its text gives a part to play."""

    role: str
    id: int
    text: str


@dataclass(frozen=True)
class TokenizerSummary:
    """The tokenizer's kind and size, its named tokens, and those that end a generation."""

    model: str
    pre: str
    tokens: int
    merges: int
    named: tuple[NamedToken, ...]
    ends: tuple[NamedToken, ...]


@dataclass(frozen=True)
class Inspection:
    """Everything that the header of a model tells. `active` is the parameters that one token uses
    and None where the hyperparameters do not say; `None` elsewhere is what the file does not have.
    """

    path: Path
    bytes: int
    architecture: str | None
    metadata: Mapping[str, Any]  # of the model, not of its tokenizer
    parameters: int
    active: int | None
    types: tuple[TypeTotal, ...]
    folds: tuple[Fold, ...]
    tensors: Mapping[str, RawTensor]
    tokenizer: TokenizerSummary | None
    template: str | None
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON; every tensor is in `tensors`, with the layers folded."""
        folds = [vars(each) for each in self.folds]
        tokenizer = self.tokenizer
        return {
            "schema": "engine/inspection/v1",
            **{key: value for key, value in vars(self).items() if key not in ("folds", "path")},
            "path": str(self.path),
            "types": [vars(each) for each in self.types],
            "tensors": folds,
            "tokenizer": tokenizer
            and {
                **vars(tokenizer),
                "named": [each._asdict() for each in tokenizer.named],
                "ends": [each._asdict() for each in tokenizer.ends],
            },
        }


def inspect(checkpoint: Checkpoint) -> Inspection:
    """Look at an open model, whether or not the engine could run it."""
    metadata, tensors = checkpoint.metadata, checkpoint.tensors
    own = {key: value for key, value in metadata.items() if not key.startswith("tokenizer.")}
    architecture, template = metadata.get("general.architecture"), metadata.get(TEMPLATE)
    return Inspection(
        path=checkpoint.path,
        bytes=size_of(checkpoint.path),
        architecture=architecture if isinstance(architecture, str) else None,
        metadata=own,
        parameters=sum(prod(tensor.shape) for tensor in tensors.values()),
        active=_active(metadata, tensors),
        types=tuple(_types(tensors.values())),
        folds=tuple(_folds(tensors)),
        tensors=tensors,
        tokenizer=_tokenizer(metadata),
        template=template if isinstance(template, str) else None,
        warnings=tuple(_warnings(checkpoint)),
    )


TEMPLATE = "tokenizer.chat_template"


def size_of(path: Path) -> int:
    """Bytes of the file, or of a folder's shards."""
    return sum(file.stat().st_size for file in files_of(path))


def files_of(path: Path) -> list[Path]:
    """The files that a model is mapped from."""
    return list(path.glob("*.safetensors")) if path.is_dir() else [path]


def _active(metadata: Mapping[str, Any], tensors: Mapping[str, RawTensor]) -> int | None:
    """Parameters but for those of the experts that a token does not go to; embeddings count."""
    try:
        config = ModelConfig.from_metadata(metadata)
    except EngineError:
        return None
    used, active = config.expert_used_count, 0
    for name, tensor in tensors.items():
        size = prod(tensor.shape)
        active += size // tensor.shape[0] * used if "_exps." in name else size
    return active


def _types(tensors: Iterable[RawTensor]) -> Iterator[TypeTotal]:
    """The type with the most bytes first."""
    by_type: dict[str, list[RawTensor]] = {}
    for tensor in tensors:
        by_type.setdefault(tensor.type, []).append(tensor)
    totals = [
        TypeTotal(kind, len(of), sum(prod(t.shape) for t in of), sum(t.bytes for t in of))
        for kind, of in by_type.items()
    ]
    yield from sorted(totals, key=lambda total: -total.bytes)


def _folds(tensors: Mapping[str, RawTensor]) -> Iterator[Fold]:
    """One for each name, type and shape, in the file's order."""
    alike: dict[tuple[str, str, tuple[int, ...]], list[tuple[int | None, int]]] = {}
    for name, tensor in tensors.items():
        match = IN_LAYER.fullmatch(name)
        layer, rest = (int(match[1]), match[2]) if match else (None, name)
        key = (rest, tensor.type, tensor.shape)
        alike.setdefault(key, []).append((layer, tensor.bytes))
    for (name, kind, shape), found in alike.items():
        layers = sorted(layer for layer, _ in found if layer is not None)
        yield Fold(name, kind, shape, tuple(layers), sum(size for _, size in found))


def _tokenizer(metadata: Mapping[str, Any]) -> TokenizerSummary | None:
    tokens = metadata.get(f"{TOKENIZER}tokens")
    if not isinstance(tokens, list):
        return None
    merges = metadata.get(f"{TOKENIZER}merges")
    named = tuple(_named(metadata, tokens))
    texts = {text: index for index, text in enumerate(tokens) if text in END_TEXTS}
    ends = {each for each in named if each.role in END_KEYS}
    ends |= {NamedToken("by its text", index, text) for text, index in texts.items()}
    return TokenizerSummary(
        model=str(metadata.get(f"{TOKENIZER}model")),
        pre=str(metadata.get(f"{TOKENIZER}pre")),
        tokens=len(tokens),
        merges=len(merges) if isinstance(merges, list) else 0,
        named=named,
        ends=tuple({end.id: end for end in sorted(ends)}.values()),
    )


def _named(metadata: Mapping[str, Any], tokens: list[Any]) -> Iterator[NamedToken]:
    for key, index in metadata.items():
        if key.startswith(TOKENIZER) and key.endswith("_token_id") and isinstance(index, int):
            text = tokens[index] if 0 <= index < len(tokens) else "outside the vocabulary"
            yield NamedToken(key.removeprefix(TOKENIZER), index, str(text))


def _warnings(checkpoint: Checkpoint) -> Iterator[str]:
    """What the engine would refuse, and what it would do without."""
    metadata, tensors = checkpoint.metadata, checkpoint.tensors
    unknown = Counter(t.type for t in tensors.values() if t.type not in TYPES)
    for kind, count in unknown.items():
        yield f"{count} tensors: found type {kind}, expected one of {', '.join(TYPES)}"
    yield from _refusal(lambda: check_tensors(ModelConfig.from_metadata(metadata), tensors))
    yield from _tokenizer_warnings(metadata)
    yield from _refusal(lambda: ChatTemplate.from_metadata(metadata))


def _tokenizer_warnings(metadata: Mapping[str, Any]) -> Iterator[str]:
    if f"{TOKENIZER}tokens" not in metadata:
        yield "tokenizer: found none, expected one, or token ids for a prompt"
        return
    for key, expected in (("model", ("gpt2",)), ("pre", tuple(PRE_TOKENIZERS))):
        found = metadata.get(TOKENIZER + key)
        if found not in expected:
            wanted = " or ".join(expected)
            yield f"metadata key {TOKENIZER}{key}: found {found!r:.60}, expected {wanted}"


def _refusal(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except EngineError as error:
        yield str(error)
