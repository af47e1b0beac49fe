"""Writes a tokenizer's files as Hugging Face has them, from the keys of a GGUF.

Knows `tokenizer.json` and `tokenizer_config.json`; knows nothing of how text is encoded. What it
writes is what `engine.tokenizer_json` reads. Fillers at the end are left out: config.json's
`vocab_size` says how many there are. Types that Hugging Face does not have (unused, byte) become
plain tokens, and an unknown token becomes a special one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from gguf import TokenType
from tokenizers import AddedToken, decoders, models, normalizers

from engine.chat import SPECIAL_TOKENS
from engine.tokenizer import byte_level

SPECIAL = (TokenType.CONTROL, TokenType.UNKNOWN)


def write_tokenizer(folder: Path, metadata: Mapping[str, Any]) -> None:
    """Write the tokenizer of `metadata`, which `Tokenizer.from_metadata` has taken."""
    (folder / "tokenizer.json").write_text(_pipeline(metadata).to_str(pretty=True), "utf-8")
    config = json.dumps(_config(metadata), ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(config + "\n", "utf-8")


def _pipeline(metadata: Mapping[str, Any]) -> tokenizers.Tokenizer:
    tokens, types = _without_fillers(metadata)
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    pipeline = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    pipeline.normalizer = normalizers.NFC()
    pipeline.pre_tokenizer = byte_level(metadata["tokenizer.ggml.pre"])
    pipeline.decoder = decoders.ByteLevel()
    for token, kind in zip(tokens, types, strict=True):
        added = AddedToken(token, normalized=False, special=kind in SPECIAL)
        if kind in SPECIAL:
            pipeline.add_special_tokens([added])
        elif kind == TokenType.USER_DEFINED:
            pipeline.add_tokens([added])
    return pipeline


def _without_fillers(metadata: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    tokens = list(metadata["tokenizer.ggml.tokens"])
    while tokens[-1] == f"[PAD{len(tokens) - 1}]":
        tokens.pop()
    return tokens, metadata["tokenizer.ggml.token_type"][: len(tokens)]


def _config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131072,
        "split_special_tokens": False,
    }
    tokens = metadata["tokenizer.ggml.tokens"]
    for name, key in SPECIAL_TOKENS.items():
        config[name] = tokens[metadata[key]] if key in metadata else None
    if "tokenizer.chat_template" in metadata:
        config["chat_template"] = metadata["tokenizer.chat_template"]
    return config
