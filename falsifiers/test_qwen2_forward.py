"""The plain forward pass of dense Qwen2, from the file's bytes to logits and gradients.

Oracles: HF transformers in float32 on weights that the `gguf` package dequantised, and llama.cpp
on the same file; neither shares code with the engine.
"""

import pytest

from falsifiers import forward_cases, sample_models
from falsifiers.forward_cases import Case
from falsifiers.sample_models import with_head, write_model


@pytest.fixture(scope="module", params=sample_models.QWEN2)
def case(request, tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("qwen2")
    return Case.write(folder, "qwen2", sample_models.QWEN2[request.param])


@pytest.mark.falsifies("FALSIFY-QW2-FORWARD-001")
def test_every_positions_logits_agree_with_hf_transformers(observe, case):
    forward_cases.every_position(observe, case)


@pytest.mark.falsifies("FALSIFY-QW2-FORWARD-002")
def test_last_position_logits_agree_with_hf_transformers(observe, case):
    forward_cases.last_position(observe, case)


@pytest.mark.falsifies("FALSIFY-QW2-FORWARD-003")
@pytest.mark.parametrize("name", sample_models.ON_LLAMA)
def test_every_positions_logits_are_near_llama_cpps(observe, tmp_path, name):
    shape = with_head(sample_models.ON_LLAMA[name], "qwen2")
    forward_cases.against_llama(observe, write_model(tmp_path, "qwen2", shape))


@pytest.mark.falsifies("FALSIFY-QW2-FORWARD-004")
@pytest.mark.parametrize("name", sample_models.FLOAT32_ON_LLAMA)
def test_greedy_tokens_on_float32_weights_are_llama_cpps(observe, tmp_path, name):
    shape = with_head(sample_models.FLOAT32_ON_LLAMA[name], "qwen2")
    forward_cases.greedily_with_llama(observe, write_model(tmp_path, "qwen2", shape))


@pytest.mark.falsifies("FALSIFY-QW2-FORWARD-005")
def test_the_same_weights_in_a_hf_folder_give_the_same_logits(observe, case, tmp_path):
    forward_cases.through_a_folder(observe, case, tmp_path / "folder")


@pytest.mark.falsifies("FALSIFY-QW2-FORWARD-006")
def test_gradients_in_training_agree_with_hf_transformers(observe, case):
    forward_cases.gradients_in_training(observe, case)
