"""Trains a byte-level BPE, cut into words as Qwen's is.

Knows how merges are learned (the `tokenizers` package's way) and how a GGUF tells a tokenizer;
knows nothing of files. The same text gives the same merges.
"""

import json
from collections.abc import Iterable
from typing import Any

from gguf import TokenType
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from engine.chat import CHATML
from engine.errors import EngineError
from engine.tokenizer import byte_level

END_OF_TEXT, START, END = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LEAST = 256 + len(SPECIAL)  # tokens: every byte, and the special ones


def train_bpe(
    texts: Iterable[str], size: int, *, normalize: bool = False
) -> tuple[list[str], list[str]]:
    """Tokens, at most `size`, and merges; the special tokens come last. `normalize` is NFC."""
    if size < LEAST:
        raise EngineError(f"vocabulary: found {size} tokens, expected at least {LEAST}")
    pipeline = Tokenizer(models.BPE())
    if normalize:
        pipeline.normalizer = normalizers.NFC()
    pipeline.pre_tokenizer = byte_level("qwen2")
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL),
        min_frequency=2,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    pipeline.train_from_iterator(texts, trainer)
    model = json.loads(pipeline.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return [*tokens, *SPECIAL], [f"{left} {right}" for left, right in model["merges"]]


def bpe_metadata(tokens: list[str], merges: list[str]) -> dict[str, Any]:
    """The keys of a GGUF for what `train_bpe` gave; messages are written in ChatML."""
    kinds = [TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in tokens]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(kind) for kind in kinds],
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": tokens.index(END_OF_TEXT),
        "tokenizer.ggml.eos_token_id": tokens.index(END),
        "tokenizer.ggml.padding_token_id": tokens.index(END_OF_TEXT),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHATML,
    }
