"""What must come out the same wherever it is made; as a program, prints it as one line of JSON.

python -m falsifiers.determinism_cases
"""

import hashlib
import json
import tempfile
from pathlib import Path

import torch

import engine
from engine.fixture import FixtureShape
from falsifiers.cache_models import loader, some_ids

SAMPLED = {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "min_p": 0.01}
FILES = {
    "F32": ("qwen3moe", FixtureShape(hidden=64, expert_width=32, mix="F32")),
    "Q4_K_M": ("qwen3moe", FixtureShape(layers=1, experts=4)),
    "Q8_0": ("qwen2", FixtureShape(hidden=64, head_dim=8, dense_width=64, mix="Q8_0")),
}


def tokens(folder: Path) -> dict[str, list[int]]:
    """Answers of a small mixture, greedy and sampled."""
    model, prompt = loader(folder)("grouped").to_float(), some_ids(48)
    choices = {"greedy": {}, "seed 7": {**SAMPLED, "seed": 7}, "seed 8": {**SAMPLED, "seed": 8}}
    return {
        name: list(engine.generate(model, prompt, max_tokens=48, **options))
        for name, options in choices.items()
    }


def digests(folder: Path, seed: int = 0) -> dict[str, str]:
    """SHA-256 of fixtures of several kinds."""
    found = {}
    for name, (architecture, shape) in FILES.items():
        path = folder / "fixture.gguf"
        engine.write_fixture(path, seed, architecture=architecture, shape=shape)
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        made = {"tokens": tokens(Path(name)), "digests": digests(Path(name))}
    print(json.dumps({**made, "threads": torch.get_num_threads()}))
