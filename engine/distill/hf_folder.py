"""Writes a student as a Hugging Face folder: config.json, model.safetensors, the tokenizer's files.

Knows HF's names and layout; knows nothing of training. `engine.safetensors` reads them back.
"""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from engine.errors import EngineError, TensorError
from engine.safetensors import IN_LAYER, OUTSIDE

WEIGHTS, CONFIG = "model.safetensors", "config.json"
TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
CLASSES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "qwen3_moe": "Qwen3Moe"}
BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
EXPERTS = re.compile(r"ffn_(gate|up|down)_exps")
FROM_GGUF = {ours: hf for hf, ours in IN_LAYER.items()}
OUTSIDE_GGUF = {ours: hf for hf, ours in OUTSIDE.items()}


def hf_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under GGUF's names to HF's; a stack of experts becomes a matrix for each."""
    return {to: each for name, tensor in tensors.items() for to, each in _renamed(name, tensor)}


def _renamed(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name in OUTSIDE_GGUF:
        yield OUTSIDE_GGUF[name], tensor
        return
    found = BLOCK.fullmatch(name)
    if not found:
        raise TensorError(f"{name}: found in the student, expected a tensor that HF has")
    layer, part, kind = found.groups()
    experts = EXPERTS.fullmatch(part)
    if not experts:
        yield f"model.layers.{layer}.{FROM_GGUF[part]}.{kind}", tensor
        return
    for index, each in enumerate(tensor.unbind()):
        yield f"model.layers.{layer}.mlp.experts.{index}.{experts[1]}_proj.{kind}", each


def write_folder(
    folder: Path, tensors: Mapping[str, Tensor], hf: Mapping[str, Any], tokenizer: Path | None
) -> None:
    """Write tensors under GGUF's names, the config, and what `tokenizer` has of tokenizer files."""
    named = {name: each.contiguous() for name, each in hf_tensors(tensors).items()}
    config = {key: value for key, value in hf.items() if key != "torch_dtype"}
    config |= {"architectures": [f"{CLASSES[hf['model_type']]}ForCausalLM"], "dtype": "float32"}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(named, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
        for name in TOKENIZER:
            if tokenizer is not None and (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, folder / name)
    except OSError as error:
        raise EngineError(f"{folder}: found {error.strerror}, expected to write there") from error
