"""Opens a model by its path, whatever the container: a GGUF file or a HF folder.

Knows which reader takes what; knows nothing of tensors.
"""

from dataclasses import replace
from os.path import isdir  # which is False for a path that cannot be
from pathlib import Path

from engine.errors import naming
from engine.gguf import Checkpoint, open_gguf
from engine.safetensors import open_safetensors
from engine.tokenizer import Tokenizer
from engine.tokenizer_json import read_tokenizer_folder


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Map the model at `path`; `FormatError` or `TensorError` for a bad one."""
    path = Path(path)
    if not isdir(path):
        return open_gguf(path)
    folder = open_safetensors(path)
    if not (path / "tokenizer.json").exists():
        return folder
    return replace(folder, metadata={**folder.metadata, **read_tokenizer_folder(path)})


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of the model at `path`; `FormatError` if it has none."""
    metadata = open_checkpoint(path).metadata
    with naming(path):
        return Tokenizer.from_metadata(metadata)
