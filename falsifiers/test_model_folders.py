"""HF folders: good ones are read as HF writes them, bad ones are refused.

The good ones are written by HF transformers; the bad ones byte by byte (`falsifiers.hf_folders`).
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine
from falsifiers import bad_folders
from falsifiers.damage import is_clear, outcome, resident, write
from falsifiers.hf_folders import (
    CONFIG,
    LAYER,
    SHARD,
    Stored,
    read_shard,
    shard_bytes,
    shard_header,
    small_folder,
)
from falsifiers.thorough import THOROUGH

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
KINDS = [(kind, dtype) for kind in ("qwen2", "qwen3", "qwen3_moe") for dtype in DTYPES]
# GGUF's name in a block -> HF's in a layer.
NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}


@pytest.fixture
def models() -> dict[tuple[str, str], Any]:
    """An HF model of each architecture and type; every other one is tied."""
    return {
        each: hf_model(*each, tied=place % 2 == 1 and each[0] != "qwen3_moe")
        for place, each in enumerate(KINDS)
    }


def hf_model(kind: str, dtype: str, tied: bool) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {
        k: v for k, v in CONFIG.items() if k not in ("model_type", "rope_theta", "num_experts")
    }
    config = AutoConfig.for_model(
        kind,
        **sizes | {"num_hidden_layers": 2, "num_experts": 12, "tie_word_embeddings": tied},
        rope_parameters={"rope_type": "default", "rope_theta": 3e5},
    )
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    for weight in model.parameters():  # norms and biases too, which are all ones and zeros
        torch.nn.init.normal_(weight)
    return model


@pytest.mark.falsifies("FALSIFY-FOLDERS-001")
def test_what_hf_saved_is_read_bit_for_bit(observe, tmp_path, models):
    from transformers.utils import logging

    logging.disable_progress_bar()
    refused = differing = compared = numbers = 0
    for place, ((kind, dtype), model) in enumerate(models.items()):
        shards = {"max_shard_size": "8KB"} if place % 3 else {}
        model.save_pretrained(tmp_path / f"{kind}-{dtype}", **shards)
        found = outcome(tmp_path / f"{kind}-{dtype}")
        if not isinstance(found, engine.Model):
            print(kind, dtype, repr(found))
            refused += 1
            continue
        numbers += sum(getattr(found.config, ours) != value for ours, value in said(model.config))
        expected = gguf_named(model)
        compared += len(expected)
        for name in expected.keys() | found.weights.keys():
            weight = found.weights.get(name)
            if name not in expected or not is_same(weight, expected[name], DTYPES[dtype]):
                print(kind, dtype, name)
                differing += 1
    observe("refused_folders", refused)
    observe("differing_tensors", differing)
    observe("differing_hyperparameters", numbers)
    observe("tensors", compared)


def said(config: Any) -> Iterator[tuple[str, Any]]:
    """The engine's names and HF's values of what decides a logit."""
    yield "context_length", config.max_position_embeddings
    yield "vocabulary_size", config.vocab_size
    yield "block_count", config.num_hidden_layers
    yield "embedding_length", config.hidden_size
    yield "head_count", config.num_attention_heads
    yield "head_count_kv", config.num_key_value_heads
    yield "key_length", config.head_dim
    yield "rms_epsilon", config.rms_norm_eps
    yield "rope_base", config.rope_parameters["rope_theta"]
    if config.model_type == "qwen3_moe":
        yield "expert_count", config.num_experts
        yield "expert_used_count", config.num_experts_per_tok
        yield "expert_feed_forward_length", config.moe_intermediate_size
    else:
        yield "feed_forward_length", config.intermediate_size


def gguf_named(model: Any) -> dict[str, Any]:
    """HF's tensors under GGUF's names."""
    state = dict(model.named_parameters())  # without the tied output
    named = {
        "token_embd.weight": state.pop("model.embed_tokens.weight"),
        "output_norm.weight": state.pop("model.norm.weight"),
    }
    if "lm_head.weight" in state:
        named["output.weight"] = state.pop("lm_head.weight")
    for layer in range(2):
        there, block = f"model.layers.{layer}", f"blk.{layer}"
        for name, hf in NAMES.items():
            for part in ("weight", "bias"):
                if f"{there}.{hf}.{part}" in state:
                    named[f"{block}.{name}.{part}"] = state.pop(f"{there}.{hf}.{part}")
        if f"{there}.mlp.experts.down_proj" in state:
            both = state.pop(f"{there}.mlp.experts.gate_up_proj").chunk(2, dim=1)
            named[f"{block}.ffn_gate_exps.weight"], named[f"{block}.ffn_up_exps.weight"] = both
            named[f"{block}.ffn_down_exps.weight"] = state.pop(f"{there}.mlp.experts.down_proj")
    assert not state, f"HF has more: {sorted(state)}"
    return named


def is_same(weight: Any, expected: Any, kind: str) -> bool:
    """Whether the engine's weight has HF's type, shape and bits."""
    import torch

    if weight is None or (weight.type, weight.shape) != (kind, tuple(expected.shape)):
        return False
    return torch.equal(weight.dequantise(), expected.detach().float())


@pytest.mark.falsifies("FALSIFY-FOLDERS-002")
@pytest.mark.parametrize("wrong", ["bad_configs", "bad_tensors", "bad_shards"])
def test_wrong_folders_are_refused(observe, tmp_path, wrong):
    (tmp_path / "all").mkdir()
    folders = accepted = unclear = 0
    for folder, words in getattr(bad_folders, wrong)():
        error = outcome(folder.write(tmp_path / "all" / "model"))
        folders += 1
        accepted += isinstance(error, engine.Model)
        if not is_clear(error, words):
            unclear += 1
            print(words, repr(error))
    observe("folders", folders)
    observe("accepted", accepted)
    observe("unclear_errors", unclear)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, 2**31, 2**63, 2**64, 10**30])
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
KEYS = [
    *CONFIG,
    "rope_parameters",
    "rope_scaling",
    "sliding_window",
    "max_window_layers",
    "layer_types",
]


@pytest.mark.falsifies("FALSIFY-FOLDERS-003")
def test_damaged_folders_are_refused_or_read_rightly(observe, tmp_path):
    good = small_folder()
    path = good.write(tmp_path / "model")
    data = shard_bytes(good.shards[SHARD])
    header = len(shard_header(good.shards[SHARD]))
    counts = {"folders": 0, "untyped_errors": 0, "misread": 0, "accepted": 0}

    def judge(expected: Any) -> None:
        found = outcome(path)
        counts["folders"] += 1
        if not isinstance(found, engine.Model):
            counts["untyped_errors"] += not is_clear(found)
            return
        counts["accepted"] += 1
        counts["misread"] += reading(found) != expected

    @settings(THOROUGH, max_examples=200)
    @given(st.dictionaries(st.sampled_from(KEYS), json_values, min_size=1, max_size=2))
    def damage_config(values: dict[str, Any]) -> None:
        config = CONFIG | {"use_sliding_window": True} | values
        write(path / "config.json", json.dumps(config).encode())
        judge(stacked(read_shard(data)))

    @settings(THOROUGH, max_examples=200)
    @given(st.integers(0, header - 1) | st.integers(0, len(data) - 1), st.binary(max_size=3))
    def damage_shard(at: int, replacement: bytes) -> None:
        bad = data[:at] + replacement + data[at + len(replacement) :]
        write(path / SHARD, bad)
        judge(stacked(read_shard(bad)))

    damage_config()
    write(path / "config.json", json.dumps(CONFIG).encode())
    damage_shard()
    for name, count in counts.items():
        observe(name, count)


def reading(model: engine.Model) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The tensors of a model: type, shape and bytes."""
    return {
        name: (weight.type, weight.shape, b"".join(part.tobytes() for part in weight.parts))
        for name, weight in model.weights.items()
    }


def stacked(tensors: Any) -> Any:
    """The same from a shard by HF's names: under GGUF's names and with the experts in stacks."""
    if isinstance(tensors, str):
        return tensors
    found = {}
    outside = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for name, hf in {
        **outside,
        **{f"blk.0.{n}": f"{LAYER}.{hf}" for n, hf in NAMES.items()},
    }.items():
        if f"{hf}.weight" in tensors:
            found[f"{name}.weight"] = tensors[f"{hf}.weight"]
    for part in ("gate", "up", "down"):
        names = [f"{LAYER}.mlp.experts.{expert}.{part}_proj.weight" for expert in range(12)]
        if all(name in tensors for name in names):
            experts = [tensors[name] for name in names]
            kind, shape, _ = experts[0]
            stack = (kind, (12, *shape), b"".join(each[2] for each in experts))
            found[f"blk.0.ffn_{part}_exps.weight"] = stack
    return found


@pytest.mark.falsifies("FALSIFY-FOLDERS-004")
def test_opening_reads_no_tensor(observe, tmp_path):
    folder = sparse_folder(tmp_path / "model")
    before, began = resident(), time.perf_counter()
    model = outcome(folder)
    observe("seconds", time.perf_counter() - began)
    observe("resident_growth", resident() - before)
    observe("tensors", len(getattr(model, "weights", ())))
    observe("file_size", (folder / SHARD).stat().st_size / 2**30)


def sparse_folder(path: Path) -> Path:
    """A model of 2^25 tokens, whose embedding and output are a hole of 8 GiB."""
    tokens = 2**25
    hole = Stored("F32", (tokens, 32), range(tokens * 32 * 4))
    good = small_folder().saying("vocab_size", tokens)
    good = good.holding(**{"model.embed_tokens.weight": hole, "lm_head.weight": hole})
    shard = good.shards[SHARD]
    header = shard_header(shard)
    replace(good, shards={SHARD: header}).write(path)
    os.truncate(path / SHARD, len(header) + sum(len(tensor.data) for tensor in shard.values()))
    return path
