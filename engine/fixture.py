"""Writes the embedded default: a small but real GGUF with random weights, from a seed.

Knows the layout of Qwen3 files; knows nothing of how they run. The blocks, the tokenizer
(trained here on the text below) and the metadata are of the kinds that a Q4_K_M file of
Qwen3-30B-A3B has; only the sizes differ. The same seed gives the same bytes on every machine.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor

from engine.chat import CHATML
from engine.config import ARCHITECTURES
from engine.errors import EngineError
from engine.quant import quantise
from engine.tokenizer import byte_level

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MOSTLY_Q4_K_M = 15  # general.file_type

TEXT = """\
A claim is only worth as much as the test that could have refuted it. The test runs, the answer
is written down, and the next reader can see what was asked, what was found and what was expected.
If the test could not have failed, then nothing was learned, however green the light was. This is
an old rule of logic: if the claim were true, we would see the result; we do not see the result;
therefore the claim is not true. The other way round does not hold. A thousand white swans do not
prove that all swans are white, but one black swan shows that they are not.

The model reads the words of the user and writes the words of the assistant, one token at a time.
Each token is looked up in a table, and becomes a row of numbers. Each layer mixes the rows that
came before, and then sends each row to a few of its experts. The router decides which experts
are asked, and how much each of them counts. At the end the row is compared with every word that
the model knows, and the best one is written. Then the model starts again with one more word.

What is the capital of France? The capital of France is Paris. How many days are there in a week?
There are seven days in a week. Write a Python function to compute the nth Fibonacci number. You
are a helpful assistant. Hello, how are you today? I am well, thank you. What can I do for you?

def fibonacci(n: int) -> int:
    \"\"\"Return the nth Fibonacci number.\"\"\"
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def is_prime(number: int) -> bool:
    if number < 2:
        return False
    for divisor in range(2, int(number ** 0.5) + 1):
        if number % divisor == 0:
            return False
    return True


class Stack:
    def __init__(self) -> None:
        self.items = []

    def push(self, item: object) -> None:
        self.items.append(item)

    def pop(self) -> object:
        if not self.items:
            raise IndexError("pop from an empty stack")
        return self.items.pop()


def count_words(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in text.lower().split():
        counts[word] = counts.get(word, 0) + 1
    return counts


if __name__ == "__main__":
    print([fibonacci(n) for n in range(10)])
    print([number for number in range(50) if is_prime(number)])
    print(count_words("the quick brown fox jumps over the lazy dog and the cat"))
"""


@dataclass(frozen=True)
class FixtureShape:
    """Sizes of the model. Rows of K-quants need multiples of 256; D is not H / heads on purpose."""

    hidden: int = 256
    layers: int = 3
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 64
    experts: int = 8
    experts_used: int = 2
    expert_width: int = 256
    dense_width: int = 512
    context: int = 512
    vocabulary: int = 512  # at most: the text above may not yield as many merges
    rms_epsilon: float = 1e-6
    rope_base: float = 1e6


def write_fixture(
    path: str | Path,
    seed: int = 0,
    *,
    architecture: str = "qwen3moe",
    shape: FixtureShape | None = None,
) -> Path:
    """Write a GGUF of `architecture` (qwen3moe or qwen3) to `path`, whole or not at all."""
    if architecture not in ARCHITECTURES:
        raise EngineError(
            f"architecture: found {architecture!r}, expected one of {', '.join(ARCHITECTURES)}"
        )
    path, shape = Path(path), shape or FixtureShape()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write(partial, seed, architecture, shape)
        os.replace(partial, path)
    except OSError as error:
        raise EngineError(f"{path}: found {error.strerror}, expected to write there") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _write(path: Path, seed: int, architecture: str, shape: FixtureShape) -> None:
    tokens, merges = train_tokenizer(shape.vocabulary)
    writer = GGUFWriter(path, architecture)
    _add_hyperparameters(writer, architecture, shape)
    _add_tokenizer(writer, tokens, merges)
    random = Random(seed)
    for spec in tensor_specs(architecture, shape, len(tokens)):
        data = quantise(random.tensor(spec), spec.type, spec.name).numpy()
        writer.add_tensor(spec.name, data, raw_dtype=GGMLQuantizationType[spec.type])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def train_tokenizer(size: int) -> tuple[list[str], list[str]]:
    """Tokens and merges of a byte-level BPE trained on `TEXT`; the special tokens come last."""
    pipeline = Tokenizer(models.BPE())
    pipeline.pre_tokenizer = byte_level("qwen2")
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL),
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    pipeline.train_from_iterator([TEXT], trainer)
    model = json.loads(pipeline.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return [*tokens, *SPECIAL], [f"{left} {right}" for left, right in model["merges"]]


def _add_hyperparameters(writer: GGUFWriter, architecture: str, shape: FixtureShape) -> None:
    writer.add_name(f"fixture-{architecture}")
    writer.add_file_type(MOSTLY_Q4_K_M)
    writer.add_quantization_version(2)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.rms_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_feed_forward_length(shape.dense_width)
    if ARCHITECTURES[architecture]:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
        writer.add_expert_feed_forward_length(shape.expert_width)


def _add_tokenizer(writer: GGUFWriter, tokens: list[str], merges: list[str]) -> None:
    first = len(tokens) - len(SPECIAL)
    ids = {token: first + place for place, token in enumerate(SPECIAL)}
    types = [TokenType.NORMAL] * first + [TokenType.CONTROL] * len(SPECIAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to be made: uniform around `mean` with standard deviation `std`."""

    name: str
    shape: tuple[int, ...]
    type: str
    mean: float
    std: float


def _matrix(name: str, kind: str, *shape: int, gain: float = 1.0) -> TensorSpec:
    """A weight that takes rows of unit variance to rows of variance gain²."""
    return TensorSpec(f"{name}.weight", shape, kind, 0.0, gain / sqrt(shape[-1]))


def _norm(name: str, size: int, mean: float = 1.0) -> TensorSpec:
    """A norm's gain, near `mean` but not equal, so that leaving it out shows."""
    return TensorSpec(f"{name}.weight", (size,), "F32", mean, 0.2)


def tensor_specs(architecture: str, shape: FixtureShape, vocabulary: int) -> Iterator[TensorSpec]:
    """Every tensor of the file, in order. Gains keep attention and logits far from uniform."""
    h, d = shape.hidden, shape.head_dim
    q, kv = shape.heads * d, shape.kv_heads * d
    yield TensorSpec("token_embd.weight", (vocabulary, h), "Q4_K", 0.0, 1.0)
    for layer in range(shape.layers):
        block, mixed = f"blk.{layer}", mixed_type(layer, shape.layers)
        yield _norm(f"{block}.attn_norm", h)
        yield _matrix(f"{block}.attn_q", "Q4_K", q, h)
        yield _matrix(f"{block}.attn_k", "Q4_K", kv, h)
        yield _matrix(f"{block}.attn_v", mixed, kv, h)
        yield _matrix(f"{block}.attn_output", "Q4_K", h, q, gain=2.0)
        yield _norm(f"{block}.attn_q_norm", d, mean=1.5)
        yield _norm(f"{block}.attn_k_norm", d, mean=1.5)
        yield _norm(f"{block}.ffn_norm", h)
        yield from _feed_forward(architecture, shape, block, mixed)
    yield _norm("output_norm", h)
    yield _matrix("output", "Q6_K", vocabulary, h, gain=4.0)


def _feed_forward(
    architecture: str, shape: FixtureShape, block: str, mixed: str
) -> Iterator[TensorSpec]:
    h = shape.hidden
    if not ARCHITECTURES[architecture]:
        f = shape.dense_width
        yield _matrix(f"{block}.ffn_gate", "Q4_K", f, h)
        yield _matrix(f"{block}.ffn_up", "Q4_K", f, h)
        yield _matrix(f"{block}.ffn_down", mixed, h, f, gain=2.0)
        return
    e, f = shape.experts, shape.expert_width
    yield _matrix(f"{block}.ffn_gate_inp", "F32", e, h, gain=2.0)
    yield _matrix(f"{block}.ffn_gate_exps", "Q4_K", e, f, h)
    yield _matrix(f"{block}.ffn_up_exps", "Q4_K", e, f, h)
    yield _matrix(f"{block}.ffn_down_exps", mixed, e, h, f, gain=2.0)


def mixed_type(layer: int, layers: int) -> str:
    """Q4_K_M's type for `attn_v` and `ffn_down`: Q6_K in about half the layers (llama.cpp)."""
    eighth = layers // 8
    more = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
    return "Q6_K" if more else "Q4_K"


class Random:
    """Numbers from a seed, the same everywhere: raw PCG64 output and exact arithmetic only."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def tensor(self, spec: TensorSpec) -> Tensor:
        """Uniform float32 numbers; a normal distribution would need the platform's log."""
        uniform = torch.from_numpy(self._generator.random(spec.shape)) * 2 - 1  # variance 1/3
        return (uniform * (spec.std * sqrt(3)) + spec.mean).float()
