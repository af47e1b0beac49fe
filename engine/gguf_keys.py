"""A model's metadata as a GGUF file has it: hyperparameters, tokenizer, chat template.

Knows the keys and types that llama.cpp's converter writes; knows nothing of tensors. What the
engine holds in memory (`ModelConfig`, `tokenizer.*`) goes in, whatever container it came from.
"""

from collections.abc import Mapping
from typing import Any

from gguf import GGUFWriter, RopeScalingType

from engine.config import ModelConfig, RopeScaling, yarn_attention_factor
from engine.errors import FormatError
from engine.mixes import file_type

TOKENIZER = "tokenizer.ggml."
QUANTISATION_VERSION = 2  # of ggml's block layouts
TEMPLATES = {"default": "tokenizer.chat_template", "tool_use": "tokenizer.chat_template.tool_use"}
IDS = ("bos", "eos", "padding", "unknown")


def add_file_type(writer: GGUFWriter, mix: str) -> None:
    """Say which mix of types the file is in."""
    writer.add_file_type(file_type(mix))
    writer.add_quantization_version(QUANTISATION_VERSION)


def add_hyperparameters(writer: GGUFWriter, config: ModelConfig) -> None:
    """Under the architecture's keys; a value's head is as wide as a key's."""
    writer.add_block_count(config.block_count)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.embedding_length)
    writer.add_head_count(config.head_count)
    writer.add_head_count_kv(config.head_count_kv)
    whole = config.key_length * config.head_count == config.embedding_length
    if config.architecture != "qwen2" or not whole:  # whose files leave it to hidden / heads
        writer.add_key_length(config.key_length)
        writer.add_value_length(config.key_length)
    writer.add_layer_norm_rms_eps(config.rms_epsilon)
    writer.add_rope_freq_base(config.rope_base)
    _add_rope_scaling(writer, config.rope_scaling)
    if config.feed_forward_length:
        writer.add_feed_forward_length(config.feed_forward_length)
    if any(config.sliding_windows):
        writer.add_sliding_window(max(config.sliding_windows))
        writer.add_sliding_window_pattern([window > 0 for window in config.sliding_windows])
    if config.is_moe:
        writer.add_expert_count(config.expert_count)
        writer.add_expert_used_count(config.expert_used_count)
        writer.add_expert_feed_forward_length(config.expert_feed_forward_length)


def _add_rope_scaling(writer: GGUFWriter, scaling: RopeScaling) -> None:
    """YaRN's own constants are left out where they are the paper's, as converters do."""
    if scaling.type == "none":
        return
    writer.add_rope_scaling_type(RopeScalingType(scaling.type))
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.type != "yarn":
        return
    writer.add_rope_scaling_orig_ctx_len(scaling.original_context_length)
    usual, extra = RopeScaling(), scaling.attention_factor / yarn_attention_factor(scaling.factor)
    if scaling.beta_fast != usual.beta_fast:
        writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
    if scaling.beta_slow != usual.beta_slow:
        writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)
    if extra != 1:
        writer.add_rope_scaling_attn_factors(extra)


def add_vocabulary(writer: GGUFWriter, metadata: Mapping[str, Any]) -> None:
    """The `tokenizer.*` keys of `metadata`, in the types of a GGUF; no token is added before a
    text, as Qwen's templates write what they want."""
    if not metadata.get(f"{TOKENIZER}merges"):
        raise FormatError(f"{TOKENIZER}merges: found none, expected some: llama.cpp needs them")
    writer.add_tokenizer_model(metadata[f"{TOKENIZER}model"])
    writer.add_tokenizer_pre(metadata[f"{TOKENIZER}pre"])
    writer.add_token_list(metadata[f"{TOKENIZER}tokens"])
    writer.add_token_types(metadata[f"{TOKENIZER}token_type"])
    writer.add_token_merges(metadata[f"{TOKENIZER}merges"])
    for key, index in special_ids(metadata).items():
        writer.add_uint32(key, index)
    ends = metadata.get(f"{TOKENIZER}eos_token_ids", [])
    if len(ends) > 1:  # a key of the engine's own: a GGUF's has one id
        writer.add_array(f"{TOKENIZER}eos_token_ids", ends)
    writer.add_add_bos_token(False)
    found = {name: metadata[key] for name, key in TEMPLATES.items() if key in metadata}
    writer.add_chat_template([{"name": name, "template": text} for name, text in found.items()])


def special_ids(metadata: Mapping[str, Any]) -> dict[str, int]:
    """The ids of special tokens by key; a file that names no end has the first of its ends."""
    keys = [f"{TOKENIZER}{name}_token_id" for name in IDS]
    ids = {key: metadata[key] for key in keys if key in metadata}
    ends = metadata.get(f"{TOKENIZER}eos_token_ids")
    return {f"{TOKENIZER}eos_token_id": ends[0], **ids} if ends else ids
