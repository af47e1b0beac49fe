"""Which type each tensor of a quantised file has: llama.cpp's rules (llama-quant.cpp).

Knows names, shapes and types; knows nothing of how numbers are encoded, or of files.
"""

from dataclasses import dataclass
from math import prod

from gguf import LlamaFileType

from engine.config import ModelConfig
from engine.errors import EngineError
from engine.quant import TYPES, row_bytes


@dataclass(frozen=True)
class Mix:
    """The types of a file's matrices: most of them; `attn_v` and `ffn_down` in about half the
    layers; the output."""

    most: str
    some: str
    output: str


MIXES = {
    "Q4_K_M": Mix("Q4_K", "Q6_K", "Q6_K"),
    "Q5_K_M": Mix("Q5_K", "Q6_K", "Q6_K"),
    **{name: Mix(name, name, name) for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q6_K")},
}
MORE_BITS = ("attn_v", "ffn_down", "ffn_down_exps")
# With eight experts what they share is small, so that more bits of it cost little.
OF_EIGHT_EXPERTS = {
    "Q4_K_M": {"attn_k": "Q8_0", "attn_v": "Q8_0", "attn_output": "Q5_K"},
    "Q5_K_M": {"attn_k": "Q8_0", "attn_v": "Q8_0"},
    "Q6_K": {"attn_k": "Q8_0", "attn_v": "Q8_0"},
}
# Where a row is no multiple of a type's block. llama.cpp has Q5_0 and Q5_1 for Q4_K and Q5_K, which
# the engine does not read: Q8_0 has more bits than these.
INSTEAD = {"Q4_K": "Q8_0", "Q5_K": "Q8_0", "Q6_K": "Q8_0", "Q4_0": "F16", "Q8_0": "F16"}


def require_mix(name: str) -> None:
    """Refuse a mix that there is not."""
    if name not in MIXES:
        raise EngineError(f"mix: found {name!r}, expected one of {', '.join(MIXES)}")


def file_type(name: str) -> LlamaFileType:
    """What `general.file_type` says of a file in this mix."""
    return LlamaFileType["ALL_F32" if name == "F32" else f"MOSTLY_{name}"]


def has_more_bits(layer: int, layers: int) -> bool:
    """Whether `attn_v` and `ffn_down` get the larger type in a K_M file."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


@dataclass(frozen=True)
class Planned:
    """A tensor that a file is to have: its GGUF name, row-major shape and type."""

    name: str
    shape: tuple[int, ...]
    type: str

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """The shape in bytes, [..., bytes per row]."""
        return (*self.shape[:-1], row_bytes(self.type, self.shape[-1], self.name))

    @property
    def bytes(self) -> int:
        """Bytes of the encoded tensor."""
        return prod(self.raw_shape)


def tensor_type(
    name: str, shape: tuple[int, ...], mix: str, config: ModelConfig, tied: bool
) -> str:
    """The type of a tensor in a file of this mix, where the output may be `tied` to the embedding.

    Vectors and routers are float32 in every mix: they are small, and decide much.
    """
    *block, part, _ = name.split(".")
    if len(shape) == 1 or part == "ffn_gate_inp":
        return "F32"
    kind = _preferred(part, int(block[1]) if block else 0, mix, config, tied)
    while shape[-1] % TYPES[kind].size:
        kind = INSTEAD[kind]
    return kind


def _preferred(part: str, layer: int, mix: str, config: ModelConfig, tied: bool) -> str:
    kinds = MIXES[mix]
    if part == ("token_embd" if tied else "output"):
        return kinds.output
    if config.expert_count == 8 and part in OF_EIGHT_EXPERTS.get(mix, {}):
        return OF_EIGHT_EXPERTS[mix][part]
    if part in MORE_BITS and has_more_bits(layer, config.block_count):
        return kinds.some
    return kinds.most
