"""HF folders in which one thing is wrong, and the words that the error for it must hold."""

from collections.abc import Iterator
from dataclasses import replace
from math import inf, nan

from falsifiers.hf_folders import (
    CONFIG,
    EXPERT,
    INDEX,
    LAYER,
    SHARD,
    Folder,
    Stored,
    shard_bytes,
    small_folder,
    stored,
)

Case = tuple[Folder, list[str]]

WRONG_VALUES = ("32", -1, 0, 2**64, 10**400, True, nan, inf, [32], {})
# config.json -> what the error calls it
COUNTED = {
    "vocab_size": "vocab_size",
    "hidden_size": "embedding_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "head_count",
    "num_key_value_heads": "head_count_kv",
    "head_dim": "key_length",
    "num_experts": "expert_count",
    "num_experts_per_tok": "expert_used_count",
    "moe_intermediate_size": "expert_feed_forward_length",
    "max_position_embeddings": "context_length",
    "rms_norm_eps": "layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
WRONG = {
    "model_type": ["llama", None, ["qwen3_moe"], 3],
    "hidden_act": ["gelu", 5],
    "norm_topk_prob": [False, None],
    "decoder_sparse_step": [0, 2],
    "mlp_only_layers": [[0], 3],
    "attention_bias": [True],
    "quantization_config": [{"quant_method": "fp8"}],
    "tie_word_embeddings": ["yes", 1],
    "use_sliding_window": ["yes"],
    "rope_parameters": [[1], "yarn"],
}
ROPE = [
    ({"rope_type": "llama3", "rope_theta": 1e6}, "rope.scaling.type"),
    ({"rope_type": ["yarn"], "rope_theta": 1e6}, "rope.scaling.type"),
    ({"rope_type": "linear", "rope_theta": 1e6}, "rope.scaling.factor"),
    ({"rope_type": "linear", "rope_theta": 1e6, "factor": "4"}, "rope.scaling.factor"),
    ({"rope_type": "yarn", "rope_theta": 1e6, "factor": 4}, "original_context_length"),
    ({"rope_theta": 1e6, "attention_factor": "1"}, "attention_factor"),
    ({"rope_theta": 1e6, "attention_factor": 1.0, "factor": "4"}, "factor"),
]
WINDOW = {"use_sliding_window": True, "sliding_window": 8, "model_type": "qwen3"}


def bad_configs() -> Iterator[Case]:
    """config.json missing, no JSON, and wrong in every value that counts."""
    good = small_folder()
    texts = (b"", b"{", b"[]", b"null", b"\xff{}", b'{"a": 1, "a": 2}', b"[" * 100_000)
    for text in (None, *texts):
        yield replace(good, config=text), ["config.json"]
    for key, name in COUNTED.items():
        yield good.silent(key), [name]
        for value in WRONG_VALUES:
            yield good.saying(key, value), [name]
    yield good.silent("norm_topk_prob"), ["norm_topk_prob"]  # HF's default is not ours
    for key, values in WRONG.items():
        for value in values:
            yield good.saying(key, value), ["config.json", key]
    for rope, word in ROPE:
        yield good.saying("rope_parameters", rope), [word]
    windowed = replace(good, config=CONFIG | WINDOW)
    yield windowed.saying("layer_types", 5), ["layer_types"]
    yield windowed.saying("max_window_layers", "2"), ["max_window_layers"]
    yield windowed.saying("num_hidden_layers", "2"), ["num_hidden_layers"]
    yield windowed.saying("layer_types", ["sliding_attention"] * 2), ["sliding_window_pattern"]


def bad_tensors() -> Iterator[Case]:
    """Every tensor missing and misshapen; types and names that there are not; experts astray."""
    good = small_folder()
    for name, (_, shape, data) in good.shards[SHARD].items():
        if name.startswith(EXPERT) and name.split(".")[5] not in ("0", "5", "11"):
            continue
        word = "_exps" if name.startswith(EXPERT) else "found"
        yield good.holding(**{name: None}), [word]
        yield good.holding(**{name: stored(*shape[:-1], shape[-1] + 1)}), [word]
        for dtype, size, word in (
            ("I32", 4, "int32"),
            ("F8_E4M3", 1, "float8"),
            ("BOOL", 1, "bool"),
        ):
            other = Stored(dtype, shape, bytes(len(data) // 4 * size))
            yield good.holding(**{name: other}), [name, word]
    for name in (
        "lm_head.bias",
        "blk.0.attn_q.weight",
        "output.weight",
        f"x.{LAYER}.mlp.gate.weight",
        f"{LAYER}.mlp.gate.weight.weight",
        "model.layers.00.mlp.gate.weight",
        f"{EXPERT}.01.up_proj.weight",
        f"{EXPERT}.².up_proj.weight",
        f"{EXPERT}.1.up.weight",
        f"{EXPERT}.1.up_proj.bias",
        "model.layers.1.mlp.gate.weight",
        "new\nline",
        "n" * 300,
    ):
        yield good.holding(**{name: stored(12, 32)}), ["found"]
    half = Stored("F16", (8, 32), bytes(512))
    yield good.holding(**{f"{EXPERT}.7.up_proj.weight": half}), ["ffn_up_exps.weight[7]", "F16"]


def bad_shards() -> Iterator[Case]:
    """Shards missing, cut, hostile or outside the folder, an index that lies, a pickle."""
    good = small_folder()
    shard = good.shards[SHARD]
    data = shard_bytes(shard)
    yield replace(good, shards={}), ["safetensors"]
    yield replace(good, shards={}, files={"pytorch_model.bin": b"\x80\x02}"}), ["pytorch_model.bin"]
    for cut in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
        yield replace(good, shards={SHARD: data[:cut]}), [SHARD]
    for length in (0, 1, 2**31, 2**63, 2**64 - 1):
        yield replace(good, shards={SHARD: length.to_bytes(8, "little") + data[8:]}), [SHARD]
    yield replace(good, shards={SHARD: data + b"0"}), [SHARD]
    twice = {SHARD: shard, "other.safetensors": {"lm_head.weight": stored(4, 32, seed=99)}}
    yield replace(good, shards=twice), ["lm_head.weight", "once"]
    right = {"weight_map": dict.fromkeys(shard, SHARD)}
    for index in (b"", [], {}, {"weight_map": {}}, {"weight_map": 3}, {"weight_map": [SHARD]}):
        yield replace(good, index=index), [INDEX]
    # Outside is what the index promises: who follows the path has a whole model.
    outside = {"../outside.safetensors": data}
    for name in ("../outside.safetensors", "", "..", "sub/x.safetensors", "m.bin", 5, [SHARD]):
        lies = {"weight_map": dict.fromkeys(shard, name)}
        yield replace(good, index=lies, files=outside), [INDEX]
    missing = {"weight_map": dict.fromkeys(shard, "absent.safetensors")}
    yield replace(good, index=missing), ["absent.safetensors"]
    right["weight_map"]["model.absent.weight"] = SHARD
    yield replace(good, index=right), ["model.absent.weight"]
