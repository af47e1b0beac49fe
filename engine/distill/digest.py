"""What a model is, whatever it is called and wherever it lies: a digest of its contents.

Knows tensors as bytes; knows nothing of training. Names, shapes, types and bytes of the tensors
count, and the sizes that the forward pass reads; path, container, tokenizer and template do not.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from engine.config import ModelConfig
from engine.gguf import Checkpoint, RawTensor


def content_digest(checkpoint: Checkpoint) -> str:
    """The same for a copy under another name, and for a folder that holds the same tensors."""
    config = asdict(ModelConfig.from_metadata(checkpoint.metadata))
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        for line in pool.map(_line, sorted(checkpoint.tensors.items())):
            digest.update(line.encode())
    return digest.hexdigest()


def _line(entry: tuple[str, RawTensor]) -> str:
    name, tensor = entry
    digest = hashlib.sha256()
    for part in tensor.parts:
        digest.update(part.data)
    return f"\n{name} {tensor.type} {tensor.shape} {digest.hexdigest()}"
