"""The plain forward pass of qwen3moe, from the file's bytes to logits and text.

Oracles: HF transformers in float32 on weights that the `gguf` package dequantised, that package's
own dequantiser, and llama.cpp on the same file; none shares code with the engine.
"""

import time
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

import engine
from engine.quant import TYPES, dequantise
from falsifiers import forward_cases, sample_models
from falsifiers.altered import write_altered
from falsifiers.conftest import GIVEN
from falsifiers.forward_cases import Case
from falsifiers.sample_models import write_model

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module", params=sample_models.MOE)
def case(request, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("qwen3moe")
    return Case.write(folder, "qwen3moe", sample_models.MOE[request.param])


@pytest.mark.falsifies("F-QW3-MOE-PARITY-001")
def test_last_position_logits_agree_with_hf_transformers(observe, case):
    forward_cases.last_position(observe, case)


@pytest.mark.falsifies("F-QW3-MOE-PARITY-002")
def test_every_positions_logits_agree_with_hf_transformers(observe, case):
    forward_cases.every_position(observe, case)


@pytest.mark.falsifies("F-QW3-MOE-PARITY-003")
@pytest.mark.parametrize("name", sample_models.FLOAT32_ON_LLAMA)
def test_greedy_tokens_on_float32_weights_are_llama_cpps(observe, tmp_path, name):
    shape = sample_models.FLOAT32_ON_LLAMA[name]
    forward_cases.greedily_with_llama(observe, write_model(tmp_path, "qwen3moe", shape))


@pytest.mark.falsifies("F-QW3-MOE-PARITY-004")
def test_the_same_weights_in_a_hf_folder_give_the_same_logits(observe, case, tmp_path):
    forward_cases.through_a_folder(observe, case, tmp_path / "folder")


@pytest.mark.falsifies("F-QW3-MOE-PARITY-005")
def test_gradients_in_training_agree_with_hf_transformers(observe, case):
    forward_cases.gradients_in_training(observe, case)


@pytest.mark.falsifies("F-QW3-MOE-PARITY-006")
def test_a_hf_folder_answers_a_chat_as_hf_does(observe, case, tmp_path):
    forward_cases.answers_as_hf_does(observe, case, tmp_path / "folder")


@pytest.mark.falsifies("FALSIFY-QW3-MOE-FORWARD-004")
@pytest.mark.parametrize("name", [*sample_models.ON_LLAMA, *GIVEN])
def test_every_positions_logits_are_near_llama_cpps(request, observe, tmp_path, name):
    if name in GIVEN:
        path = request.getfixturevalue("shape_gguf")
    else:
        path = write_model(tmp_path, "qwen3moe", sample_models.ON_LLAMA[name])
    forward_cases.against_llama(observe, path)


@pytest.fixture(scope="module", params=sample_models.ON_THE_FAST_ROUTE)
def calm(request, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("calm")
    return Case.write(folder, "qwen3moe", sample_models.ON_LLAMA[request.param])


@pytest.mark.falsifies("FALSIFY-QW3-MOE-FORWARD-006")
def test_every_positions_logits_on_the_fast_route_are_near_hf_transformers(observe, calm):
    forward_cases.on_the_fast_route(observe, calm)


@pytest.mark.falsifies("FALSIFY-QW3-MOE-FORWARD-005")
def test_a_large_file_is_ready_at_once_and_its_forward_needs_little_memory(observe, shape_gguf):
    if shape_gguf is None:
        pytest.skip("needs QWEN3_MOE_SHAPE_GGUF_PATH or QWEN3_MOE_GGUF_PATH")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, began = peak_gigabytes(), time.perf_counter()
    model = engine.load(shape_gguf)
    observe("seconds_to_load", time.perf_counter() - began)
    model.logits(forward_cases.prompts(model.config.vocabulary_size)[2][:4])
    size = shape_gguf.stat().st_size / 1e9
    observe("gigabytes_over_the_file", peak_gigabytes() - before - size)
    observe("gigabytes_of_the_file", size)


def peak_gigabytes() -> float:
    """The most memory that this process had at once, mapped files included."""
    [line] = [
        each for each in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in each
    ]
    return int(line.split()[1]) * 1024 / 1e9


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
        text = forward_cases.answer(tiny, PROMPT, max_tokens=16)
    except engine.EngineError as error:
        pytest.fail(f"no text: {error}")
    observe("non_space_characters", len("".join(text.split())))
