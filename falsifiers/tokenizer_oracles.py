"""Other people's tokenizers on the vocabulary of a GGUF: HF transformers' and llama.cpp's.

Knows no engine.
"""

from collections.abc import Mapping
from ctypes import create_string_buffer
from pathlib import Path
from typing import Any

CONTROL, USER_DEFINED = (2, 3), 4


class HuggingFace:
    """transformers' Qwen2 tokenizer: its own normaliser, pre-tokenizer and special tokens."""

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        from transformers import AddedToken, Qwen2Tokenizer

        tokens, types = (metadata[f"tokenizer.ggml.{key}"] for key in ("tokens", "token_type"))
        kinds = dict(zip(tokens, types, strict=True))
        ids = {token: i for i, token in enumerate(tokens) if not token.startswith("[PAD")}
        merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
        self.tokenizer = Qwen2Tokenizer(vocab=ids, merges=merges, eos_token="<|im_end|>")
        control = [token for token in ids if kinds[token] in CONTROL]
        defined = [token for token in ids if kinds[token] == USER_DEFINED]
        self.tokenizer.add_tokens(control, special_tokens=True)
        self.tokenizer.add_tokens([AddedToken(token, normalized=False) for token in defined])
        assert len(self.tokenizer) == len(ids), "an added token did not get its own id"

    def encode(self, text: str, special: bool) -> list[int]:
        return self.tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=not special
        )

    def decode(self, ids: list[int], special: bool) -> str:
        return self.tokenizer.decode(
            ids, skip_special_tokens=not special, clean_up_tokenization_spaces=False
        )


class LlamaCpp:
    """llama.cpp on the file itself: its own reader, splitter and merging in C++."""

    def __init__(self, path: Path) -> None:
        from falsifiers.llama_oracle import llama_cpp

        self._library = llama_cpp
        self._model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model.model)
        self._buffer = create_string_buffer(1024)

    def encode(self, text: str) -> list[int]:
        return self._model.tokenize(text.encode(), add_bos=False, special=True)

    def token_bytes(self, index: int, special: bool) -> bytes:
        size = self._library.llama_token_to_piece(
            self._vocab, index, self._buffer, len(self._buffer), 0, special
        )
        return self._buffer.raw[:size]

    def ends(self, index: int) -> bool:
        return self._library.llama_vocab_is_eog(self._vocab, index)
