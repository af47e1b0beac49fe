"""What publishing is tried on: rows of weights, a run's evidence, what is missing or in the way.

Knows what llama.cpp's converter calls things, by the `gguf` package's own names.
"""

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, Keys, LlamaFileType
from gguf.quants import dequantize

import engine
from engine.gguf_writer import Progress
from engine.publish import Order, publish


def weights(shape: tuple[int, int] = (24, 1024)) -> dict[str, np.ndarray]:
    """Rows as they are in models: their spread, and what is harder (tails, spikes, gains)."""
    random = np.random.default_rng(0)
    found = {
        "normal": 0.02 * random.standard_normal(shape),
        "uniform": random.uniform(-0.05, 0.05, shape),
        "laplace": random.laplace(0, 0.02, shape),
        "heavy tails": 0.02 * random.standard_t(4, shape),
        "of columns that differ": random.standard_normal(shape) * random.gamma(2, 0.01, shape[1]),
        "gains": 1 + 0.2 * random.standard_normal(shape),
        "of one sign": -np.abs(random.standard_normal(shape)),
        "spikes": random.standard_normal(shape) + 50 * (random.random(shape) < 0.002),
    }
    return {name: rows.astype(np.float32) for name, rows in found.items()}


def rms(encoded: np.ndarray, kind: str, exact: np.ndarray) -> float:
    off = dequantize(encoded, GGMLQuantizationType[kind]).astype(np.float64) - exact
    return float(np.sqrt(np.square(off).mean()))


def awkward() -> np.ndarray:
    """A row for each thing that breaks a quantiser."""
    random = np.random.default_rng(1)
    rows = random.standard_normal((12, 512)).astype(np.float32)
    rows[0], rows[1], rows[2] = 0, 0.5, -0.5
    rows[3], rows[4] = np.abs(rows[3]), -np.abs(rows[4])
    rows[5] *= 1e-9
    rows[6, 17] = 1000
    rows[7] = -1000 + random.random(512)
    rows[8, :256] = 0
    rows[9] *= 1e-30
    rows[10] = np.where(np.arange(512) % 7 == 0, rows[10], 0)
    return rows


def write_evidence(folder: Path) -> Iterator[Path]:
    """What a run leaves: its order, its journal and a statement of verdicts."""
    folder.mkdir()
    result = {"falsifier": "F-X-001", "level": "algorithm", "verdict": "CORROBORATED"}
    result |= {"measures": {"held_out": {"value": 2.0625}}}
    contents = {
        "dispatch.json": json.dumps({"optimiser": {"rate": 0.0003125}, "teacher": "a|<b>\nc"}),
        "metrics.jsonl": '{"step": 0, "loss": 5.75}\n{"step": 40, "loss": 1.15625}\n',
        "evidence.json": json.dumps({"predicate": {"results": [result]}}),
    }
    for name, text in contents.items():
        (folder / name).write_text(text)
        yield folder / name


# What the card has to say of them.
FIGURES = (
    *("| optimiser.rate | 0.0003125 |", "a\\|&lt;b> c", "| loss | 5.75 | 1.15625 |"),
    "| F-X-001 | algorithm | CORROBORATED | held_out 2.0625 |",
)


def said_by_converter(config: dict, mix: str, name: str) -> dict[str, object]:
    """llama.cpp's keys for a config.json of Qwen's, with their values (convert_hf_to_gguf.py)."""
    arch = {"qwen3_moe": "qwen3moe"}.get(config["model_type"], config["model_type"])
    names = {
        Keys.LLM.BLOCK_COUNT: "num_hidden_layers",
        Keys.LLM.CONTEXT_LENGTH: "max_position_embeddings",
        Keys.LLM.EMBEDDING_LENGTH: "hidden_size",
        Keys.LLM.FEED_FORWARD_LENGTH: "intermediate_size",
        Keys.Attention.HEAD_COUNT: "num_attention_heads",
        Keys.Attention.HEAD_COUNT_KV: "num_key_value_heads",
        Keys.Attention.LAYERNORM_RMS_EPS: "rms_norm_eps",
    }
    if arch != "qwen2":
        names |= {Keys.Attention.KEY_LENGTH: "head_dim", Keys.Attention.VALUE_LENGTH: "head_dim"}
    if arch == "qwen3moe":
        names |= {
            Keys.LLM.EXPERT_COUNT: "num_experts",
            Keys.LLM.EXPERT_USED_COUNT: "num_experts_per_tok",
            Keys.LLM.EXPERT_FEED_FORWARD_LENGTH: "moe_intermediate_size",
        }
    config = {"num_experts": config.get("num_local_experts"), **config}
    said = {key.format(arch=arch): config[value] for key, value in names.items()}
    said[Keys.Rope.FREQ_BASE.format(arch=arch)] = config["rope_parameters"]["rope_theta"]
    said |= {Keys.General.ARCHITECTURE: arch, Keys.General.TYPE: "model", Keys.General.NAME: name}
    said |= {Keys.General.FILE_TYPE: LlamaFileType[f"MOSTLY_{mix}"]}
    said |= {Keys.General.QUANTIZATION_VERSION: 2, Keys.Tokenizer.ADD_BOS: False}
    return said | {Keys.Tokenizer.MODEL: "gpt2", Keys.Tokenizer.PRE: "qwen2"}


def _edit(name: str, **values: Any) -> Callable[[Path], None]:
    """Set values of a JSON file."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def _tensor(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Replace a tensor of the one shard; None takes it away."""

    def rewrite(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = folder / "model.safetensors"
        tensors = load_file(path)
        tensors[name] = change(tensors[name])
        kept = {each: tensor for each, tensor in tensors.items() if tensor is not None}
        save_file(kept, path, {"format": "pt"})

    return rewrite


def _without_merges(folder: Path) -> None:
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["merges"] = []
    path.write_text(json.dumps(tokenizer))


def _with(value: float) -> Callable[[Any], Any]:
    def change(tensor: Any) -> Any:
        tensor[3, 5] = value
        return tensor

    return change


WINDOW = {"use_sliding_window": True, "sliding_window": 8, "layer_types": None}
UP = "model.layers.1.mlp.up_proj.weight"
# What is wrong with a checkpoint of qwen3 -> the change, and what the error says.
BAD_CHECKPOINTS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), ("tokenizer.json", "expected")),
    "no merges": (_without_merges, ("merges", "expected")),
    "a bad tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), ("tokenizer.json",)),
    "no config": (lambda f: (f / "config.json").unlink(), ("config.json",)),
    "another family": (_edit("config.json", model_type="llama"), ("model_type", "qwen2")),
    "a tensor missing": (
        _tensor("model.norm.weight", lambda tensor: None),
        ("output_norm.weight", "expected shape"),
    ),
    "a tensor cut": (_tensor(UP, lambda t: t[1:].clone()), ("blk.1.ffn_up.weight", "shape")),
    "a NaN": (_tensor(UP, _with(float("nan"))), ("blk.1.ffn_up.weight", "NaN")),
    "a number too large": (_tensor(UP, _with(1e30)), ("blk.1.ffn_up.weight", "1e+30", "F16")),
    "a window": (_edit("config.json", **WINDOW, max_window_layers=0), ("sliding window", "8")),
    "a pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        ("a pickle", "safetensors"),
    ),
    "nothing": (shutil.rmtree, ("found no folder", "expected")),
}


def unseen(done: int, total: int) -> None:
    """Nobody looks at the progress."""


class Refusals:
    """Counts what was wrong with refusals, and what they left behind in `place`."""

    def __init__(self, place: Path) -> None:
        self.place, self.cases, self.accepted, self.unclear, self.touched = place, 0, 0, 0, 0

    def expect(self, order: Order, *words: str, progress: Progress = unseen) -> None:
        """The order must fail with these words, and leave the place as it was."""
        before = contents(self.place)
        self.cases += 1
        try:
            publish(order, progress)
            self.accepted += 1
        except (Exception, KeyboardInterrupt) as error:
            typed = isinstance(error, engine.EngineError | KeyboardInterrupt)
            if not typed or not all(word in repr(error) for word in words):
                self.unclear += 1
                print(words, repr(error))
        if contents(self.place) != before:
            self.touched += 1
            print("touched", words)

    def observe(self, observe) -> None:
        for name in ("cases", "accepted", "unclear", "touched"):
            observe(name, getattr(self, name))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: b"" if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


def interrupt(done: int, total: int) -> None:
    """Somebody presses Ctrl-C when the GGUF is half written."""
    if done > 0.4 * total:
        raise KeyboardInterrupt


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file of this process can grow beyond that, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
