"""HF folders made byte by byte, so that anything in them can be wrong.

A writer and a reader of safetensors of its own, because the package's are what the engine uses.
"""

import json
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

INDEX = "model.safetensors.index.json"
SHARD = "model.safetensors"


class Stored(NamedTuple):
    """A tensor of a shard; a range stands for so many bytes of a hole."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | range


Shard = Mapping[str, Stored]


@dataclass(frozen=True)
class Folder:
    """What is in a folder: `files` are any others, by path from the folder."""

    config: Any
    shards: Mapping[str, Shard | bytes]
    index: Any = None
    files: Mapping[str, bytes] = field(default_factory=dict)

    def saying(self, key: str, value: Any) -> "Folder":
        """The same folder with another value in config.json."""
        return replace(self, config=self.config | {key: value})

    def silent(self, key: str) -> "Folder":
        """The same folder without a key in config.json."""
        return replace(self, config={k: v for k, v in self.config.items() if k != key})

    def holding(self, **tensors: Stored | None) -> "Folder":
        """The same folder with other tensors in its one shard; None takes one away."""
        held = {**self.shards[SHARD], **tensors}
        return replace(self, shards={SHARD: {n: t for n, t in held.items() if t is not None}})

    def write(self, path: Path) -> Path:
        """Make it anew at `path`."""
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        contents = {name: shard_bytes(shard) for name, shard in self.shards.items()}
        for name, value in (("config.json", self.config), (INDEX, self.index)):
            if value is not None:
                contents[name] = value if isinstance(value, bytes) else json.dumps(value).encode()
        for name, data in {**contents, **self.files}.items():
            (path / name).write_bytes(data)
        return path


def shard_header(shard: Shard) -> bytes:
    """The length and the JSON before the tensors' bytes."""
    header, at = {}, 0
    for name, (dtype, shape, data) in shard.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


def shard_bytes(shard: Shard | bytes) -> bytes:
    """A safetensors file."""
    if isinstance(shard, bytes):
        return shard
    return shard_header(shard) + b"".join(bytes(tensor.data) for tensor in shard.values())


def read_shard(data: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]] | str:
    """Name -> type, shape and bytes; or what is wrong."""
    try:
        (size,) = struct.unpack_from("<Q", data)
        header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
        header.pop("__metadata__", None)
        return {
            name: (each["dtype"], tuple(each["shape"]), body[slice(*each["data_offsets"])])
            for name, each in header.items()
        }
    except Exception as error:
        return repr(error)


def stored(*shape: int, seed: int = 0) -> Stored:
    """A float32 tensor of random numbers."""
    numbers = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return Stored("F32", shape, numbers.tobytes())


def small_folder() -> Folder:
    """A qwen3_moe model of one layer with twelve experts, in one shard."""
    shard = {name: stored(*shape, seed=place) for place, (name, shape) in enumerate(SHAPES.items())}
    return Folder(CONFIG, {SHARD: shard})


LAYER = "model.layers.0"
EXPERT = f"{LAYER}.mlp.experts"
SHAPES = {
    "model.embed_tokens.weight": (4, 32),
    f"{LAYER}.input_layernorm.weight": (32,),
    f"{LAYER}.self_attn.q_proj.weight": (32, 32),
    f"{LAYER}.self_attn.k_proj.weight": (16, 32),
    f"{LAYER}.self_attn.v_proj.weight": (16, 32),
    f"{LAYER}.self_attn.q_norm.weight": (16,),
    f"{LAYER}.self_attn.k_norm.weight": (16,),
    f"{LAYER}.self_attn.o_proj.weight": (32, 32),
    f"{LAYER}.post_attention_layernorm.weight": (32,),
    f"{LAYER}.mlp.gate.weight": (12, 32),
    "model.norm.weight": (32,),
    "lm_head.weight": (4, 32),
} | {
    f"{EXPERT}.{expert}.{part}_proj.weight": (32, 8) if part == "down" else (8, 32)
    for expert in range(12)
    for part in ("gate", "up", "down")
}
CONFIG = {
    "model_type": "qwen3_moe",
    "vocab_size": 4,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "num_experts": 12,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "hidden_act": "silu",
    "attention_bias": False,
    "tie_word_embeddings": False,
}
