"""The plain forward pass of qwen3moe, from the file's bytes to logits and text.

Oracles: HF transformers in float32 on weights that the `gguf` package dequantised, and that
package's own dequantiser; neither shares code with the engine.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

import engine
from engine.fixture import FixtureShape
from engine.quant import TYPES, dequantise
from falsifiers.altered import write_altered

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
LENGTHS = (1, 2, 17, 96)  # tokens
NOISE = 1e-3  # a smaller gap between the reference's best two logits decides nothing
# No size or constant is the default's, so that one that is not read from the file shows.
ODD = FixtureShape(
    hidden=512,
    layers=2,
    heads=4,
    kv_heads=4,
    head_dim=64,
    experts=6,
    experts_used=3,
    context=256,
    rms_epsilon=0.05,
    rope_base=2e5,
)


@pytest.fixture(params=["default", "odd"])
def file(request, tiny, tmp_path) -> Path:
    if request.param == "default":
        return tiny
    return engine.write_fixture(tmp_path / "odd.gguf", seed=1, shape=ODD)


@pytest.fixture
def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 500, (size,), generator=generator).tolist() for size in LENGTHS]


@pytest.fixture
def reference(file, prompts) -> list[torch.Tensor]:
    """HF's logits [T, V] for each prompt."""
    from falsifiers.hf_oracle import hf_logits, hf_model

    model = hf_model(file)
    return [hf_logits(model, ids) for ids in prompts]


def compare(observe, found: torch.Tensor, expected: torch.Tensor) -> None:
    """Observe logits [N, V] against the reference's."""
    best = expected.topk(2, dim=-1)
    clear = best.values[:, 0] - best.values[:, 1] > NOISE
    wrong = found.argmax(dim=-1) != best.indices[:, 0]
    observe("cosine", torch.cosine_similarity(found, expected, dim=-1).min())
    observe("argmax_mismatches", int((wrong & clear).sum()))
    observe("positions_compared", int(clear.sum()))


@pytest.mark.falsifies("F-QW3-MOE-PARITY-001")
def test_last_position_logits_agree_with_hf_transformers(observe, file, prompts, reference):
    model = engine.load(file)
    found = [model.forward(ids, model.new_cache(), last_only=True) for ids in prompts]
    compare(observe, torch.cat(found), torch.cat([logits[-1:] for logits in reference]))


@pytest.mark.falsifies("F-QW3-MOE-PARITY-002")
def test_every_positions_logits_agree_with_hf_transformers(observe, file, prompts, reference):
    model = engine.load(file)
    found = [model.logits(ids) for ids in prompts]
    compare(observe, torch.cat(found), torch.cat(reference))


@pytest.mark.falsifies("FALSIFY-QW3-MOE-DEQUANT-001")
@pytest.mark.parametrize("kind", TYPES)
def test_dequantised_blocks_are_the_gguf_packages_bit_for_bit(observe, kind):
    size = TYPES[kind].bytes
    random = np.random.default_rng(0)
    blocks = random.integers(0, 256, (4096, size), dtype=np.uint8)  # NaN and infinite scales too
    blocks[0], blocks[1] = 0, 255
    with np.errstate(all="ignore"):
        expected = dequantize(blocks, GGMLQuantizationType[kind]).reshape(-1)
    found = dequantise(blocks.reshape(-1), kind, expected.shape).numpy()
    same = found.view(np.uint32) == expected.view(np.uint32)
    both_nan = np.isnan(found) & np.isnan(expected)
    observe("differing_values", int((~(same | both_nan)).sum()))
    observe("values_compared", same.size)


@pytest.mark.falsifies("FALSIFY-QW3-MOE-FORWARD-001")
def test_a_missing_or_misshapen_tensor_is_a_clear_error(observe, tiny, tmp_path):
    names = [tensor.name for tensor in GGUFReader(tiny).tensors]
    kinds = [name for name in names if not name.startswith("blk.") or name.startswith("blk.1.")]
    missing = [({"without": [name]}, name) for name in kinds if name != "output.weight"]  # tied
    misshapen = [({"shortened": [name]}, name) for name in kinds]
    said = [
        (error_of(write_altered(tiny, tmp_path / "altered.gguf", **change)), name)
        for change, name in missing + misshapen
    ]
    observe("altered_files", len(said))
    observe("accepted", sum(error is None for error, _ in said))
    observe("unclear_errors", sum(not is_clear(error, name) for error, name in said))


def error_of(path: Path) -> Exception | None:
    try:
        engine.load(path)
    except Exception as error:
        return error
    return None


def is_clear(error: Exception | None, tensor: str) -> bool:
    """Whether it is a TensorError that names the tensor, what was found and what was expected."""
    words = (tensor, "found", "expected")
    return isinstance(error, engine.TensorError) and all(word in str(error) for word in words)


@pytest.mark.falsifies("FALSIFY-QW3-MOE-FORWARD-002")
def test_a_file_is_loaded_as_the_architecture_that_it_names(observe, tiny, tiny_dense, tmp_path):
    liars = [
        write_altered(tiny, tmp_path / "a.gguf", architecture="qwen3"),
        write_altered(tiny_dense, tmp_path / "b.gguf", architecture="qwen3moe"),
        write_altered(tiny, tmp_path / "c.gguf", architecture="llama"),
    ]
    errors = [error_of(path) for path in (tiny, tiny_dense)]
    observe("honest_files_refused", sum(error is not None for error in errors))
    refused = [isinstance(error_of(path), engine.EngineError) for path in liars]
    observe("mislabelled_files_accepted", refused.count(False))


@pytest.mark.falsifies("FALSIFY-QW3-MOE-FORWARD-003")
def test_a_chat_prompt_generates_text(observe, tiny):
    try:
        text = answer(tiny)
    except engine.EngineError as error:
        pytest.fail(f"no text: {error}")
    observe("non_space_characters", len("".join(text.split())))


def answer(path: Path) -> str:
    tokenizer = engine.load_tokenizer(path)
    ids, stop = tokenizer.encode(PROMPT), tokenizer.eos_ids
    made = engine.generate(engine.load(path), ids, max_tokens=16, stop_ids=stop)
    return tokenizer.decode(made)
