"""Opens a HF folder (config.json and safetensors shards) as if it were a GGUF file.

Knows HF's files and how HF names Qwen's tensors, which it turns into GGUF's names, so that one
loader serves both; knows nothing of what they mean. Reading is the `safetensors` package's, by
memory map; nothing is copied. A pickle is never read.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as shown  # short, however long the value is
from stat import S_ISREG
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import FormatError, TensorError, naming
from engine.gguf import Bytes, Checkpoint, RawTensor
from engine.hf_config import hyperparameters, is_tied

OUTPUT = "lm_head.weight"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth")  # which can run code when they are read
MOST_JSON = 1 << 26  # bytes
MOST_NAME = 200

OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    OUTPUT: "output.weight",
}
IN_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
}
NUMBER = r"(0|[1-9][0-9]{0,5})"
LAYER = re.compile(rf"model\.layers\.{NUMBER}\.(.+)\.(weight|bias)")
EXPERT = re.compile(
    rf"model\.layers\.{NUMBER}\.mlp\.experts\.{NUMBER}\.(gate|up|down)_proj\.weight"
)
# A name and no path, which could leave the folder.
SHARD = re.compile(r"[^/\\\0]+\.safetensors")
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def open_safetensors(folder: Path) -> Checkpoint:
    """Map the shards of `folder`; `FormatError` and `TensorError` name what is wrong in it.

    The metadata holds the hyperparameters alone, no tokenizer.
    """
    path = folder / "config.json"
    config = read_json(path)
    with naming(path):
        metadata, tied = hyperparameters(config), is_tied(config)
    with naming(folder):
        tensors = _tensors(folder)
        if tied:
            tensors.pop(OUTPUT, None)  # HF would not read it either
        elif OUTPUT not in tensors:  # where GGUF would call that tied
            raise TensorError(
                f"{OUTPUT}: found nothing, expected it, for config.json does not tie it"
            )
        return Checkpoint(folder, metadata, _renamed(tensors))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`, no key of which may come twice."""
    try:
        status = path.stat()
        if not S_ISREG(status.st_mode) or status.st_size > MOST_JSON:
            raise ValueError(f"{status.st_size} bytes of a file that is large or no file at all")
        found = json.loads(path.read_text("utf-8"), object_pairs_hook=_unique)
    except OSError as error:
        raise FormatError(f"{path}: found {error.strerror}, expected a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: found {error}, expected JSON in a file") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path}: found {type(found).__name__}, expected a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, times)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {shown(key)} {times} times")
    return found


def _tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors, by HF's names; none may come twice, or elsewhere than the index says."""
    places = _index(folder)
    tensors: dict[str, Tensor] = {}
    found: dict[str, str] = {}
    for shard in _named(places) or _shards(folder):
        for name, tensor in _read(folder / shard):
            if name in found:
                raise TensorError(f"{name}: found in {found[name]} and {shard}, expected it once")
            tensors[name], found[name] = tensor, shard
    for name, shard in places.items():
        if found.get(name) != shard:
            raise TensorError(
                f"{name!r:.80}: found in {found.get(name, 'no shard')}, expected in {shard}, "
                f"where {INDEX} places it"
            )
    return tensors


def shard_names(folder: Path) -> list[str]:
    """The shards that are read: those of the index, or all where there is none."""
    return _named(_index(folder)) or _shards(folder)


def _named(places: Mapping[str, str]) -> list[str]:
    return sorted(set(places.values()))


def _index(folder: Path) -> dict[str, str]:
    """Tensor -> shard, if there is an index."""
    if not (folder / INDEX).exists():
        return {}
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise FormatError(f"{INDEX}: found weight_map {shown(places)}, expected tensor to shard")
    for shard in places.values():
        if not isinstance(shard, str) or not SHARD.fullmatch(shard):
            raise FormatError(
                f"{INDEX}: found shard {shown(shard)}, expected the name of a .safetensors file"
            )
    return dict(places)


def _shards(folder: Path) -> list[str]:
    """The names of all the shards that there are."""
    shards = sorted(path.name for path in folder.glob("*.safetensors"))
    for path in () if shards else sorted(folder.glob("*")):
        if path.suffix in PICKLES:
            raise FormatError(
                f"found {path.name}, a pickle, expected *.safetensors: nothing else is read"
            )
    if not shards:
        raise FormatError("found no *.safetensors file, expected at least one")
    return shards


def _read(shard: Path) -> Iterator[tuple[str, Tensor]]:
    if not shard.is_file():  # to open a pipe would wait for ever
        raise FormatError(f"{shard.name}: found no such file, expected a safetensors file")
    try:
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                if len(name) > MOST_NAME or not name.isprintable():
                    raise FormatError(
                        f"{shard.name}: found tensor name {shown(name)}, "
                        f"expected at most {MOST_NAME} printable characters"
                    )
                yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{shard.name}: found {error}, expected a safetensors file") from error


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, RawTensor]:
    """Under GGUF's names; the experts of a layer become one stack, stored apart."""
    renamed: dict[str, RawTensor] = {}
    experts: dict[str, dict[int, RawTensor]] = {}
    for name, tensor in tensors.items():
        raw, expert = _raw(name, tensor), EXPERT.fullmatch(name)
        if expert:
            layer, index, part = expert.groups()
            experts.setdefault(f"blk.{layer}.ffn_{part}_exps.weight", {})[int(index)] = raw
        else:
            renamed[_gguf_name(name)] = raw
    return renamed | {name: _stacked(name, parts) for name, parts in experts.items()}


def _gguf_name(name: str) -> str:
    if name in OUTSIDE:
        return OUTSIDE[name]
    place = LAYER.fullmatch(name)
    if not place or place[2] not in IN_LAYER:
        raise TensorError(f"{name}: found in the folder, expected no such tensor")
    return f"blk.{place[1]}.{IN_LAYER[place[2]]}.{place[3]}"


def _raw(name: str, tensor: Tensor) -> RawTensor:
    if tensor.dtype not in DTYPES:
        raise TensorError(
            f"{name}: found type {tensor.dtype}, expected one of {', '.join(DTYPES.values())}"
        )
    raw: Bytes = tensor.reshape(-1).view(torch.uint8).numpy()
    return RawTensor((raw,), DTYPES[tensor.dtype], tuple(tensor.shape))


def _stacked(name: str, parts: Mapping[int, RawTensor]) -> RawTensor:
    """Experts 0 to E - 1 in order; they must be all there, and alike."""
    for index in range(len(parts)):
        if index not in parts:
            raise TensorError(f"{name}[{index}]: found nothing, expected expert {index}")
        part, first = parts[index], parts[0]
        if (part.type, part.shape) != (first.type, first.shape):
            raise TensorError(
                f"{name}[{index}]: found {part.type} {list(part.shape)}, "
                f"expected {first.type} {list(first.shape)} as in expert 0"
            )
    stored = tuple(parts[index].parts[0] for index in range(len(parts)))
    return RawTensor(stored, parts[0].type, (len(parts), *parts[0].shape))
