"""Text to token ids and back, by the vocabulary and merges that a GGUF carries.

Knows byte-level BPE as Qwen uses it; knows nothing of models or chat templates. It adds no
token of its own (no BOS): a chat template writes the special tokens that it wants. Merging is
the `tokenizers` package's.
"""

import codecs
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from gguf import GGUFReader, TokenType
from tokenizers import AddedToken, Regex, models, pre_tokenizers

from engine.errors import FormatError, PromptError

# `tokenizer.ggml.pre` -> how text is cut before merging (Qwen2's own tokenizer.json).
PRE_TOKENIZERS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

# Every token that may end a turn: the file's own keys, and Qwen's two by their text, because
# a base model's file names only one of them (llama.cpp does the same).
END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
END_TEXTS = frozenset({"<|im_end|>", "<|endoftext|>"})

_PREFIX = "tokenizer.ggml."


class Tokenizer:
    """A GGUF's tokenizer. Attributes: `vocab_size`, `eos_ids`."""

    def __init__(self, tokens: list[str], types: list[int], merges: list[str], pre: str) -> None:
        vocabulary = {token: index for index, token in enumerate(tokens)}
        pairs = [(left, right) for left, _, right in (m.partition(" ") for m in merges)]
        bpe = models.BPE(vocab=vocabulary, merges=pairs)
        control = [t for t, kind in zip(tokens, types, strict=True) if kind == TokenType.CONTROL]
        defined = [
            t for t, kind in zip(tokens, types, strict=True) if kind == TokenType.USER_DEFINED
        ]
        self.vocab_size = len(tokens)
        self.control_ids = frozenset(vocabulary[token] for token in control)
        self.eos_ids = frozenset(vocabulary[token] for token in END_TEXTS.intersection(control))
        self._plain = _pipeline(bpe, pre, defined)
        self._special = _pipeline(bpe, pre, defined + control)
        added = {*control, *defined}
        self._bytes = [t.encode() if t in added else _token_bytes(t) for t in tokens]

    @classmethod
    def from_gguf(cls, path: str | Path) -> "Tokenizer":
        """Read the tokenizer of the GGUF at `path`; `FormatError` if there is none."""
        try:
            fields = GGUFReader(path).fields
            metadata = {k: f.contents() for k, f in fields.items() if k.startswith(_PREFIX)}
        except (OSError, ValueError, IndexError, KeyError, OverflowError, TypeError) as error:
            raise FormatError(f"{path}: found {error}; expected a GGUF file") from error
        return cls.from_metadata(metadata)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "Tokenizer":
        """Build from the `tokenizer.ggml.*` keys of a GGUF."""
        _expect(metadata, "model", ("gpt2",))
        pre = _expect(metadata, "pre", tuple(PRE_TOKENIZERS))
        tokens, types = _list(metadata, "tokens", str), _list(metadata, "token_type", int)
        merges = _list(metadata, "merges", str)
        if len(tokens) != len(types):
            raise FormatError(
                f"metadata key {_PREFIX}token_type: found {len(types)} entries, "
                f"expected {len(tokens)}, one for each token"
            )
        try:
            tokenizer = cls(tokens, types, merges, pre)
        except Exception as error:  # `tokenizers` raises a bare Exception for merges out of place
            raise FormatError(
                f"metadata key {_PREFIX}merges: found {error}, expected merges of its tokens"
            ) from error
        named = (metadata.get(_PREFIX + key) for key in END_KEYS)
        tokenizer.eos_ids |= {index for index in named if index is not None}
        return tokenizer

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of `text`; with `special`, text such as <|im_end|> is that one token."""
        pipeline = self._special if special else self._plain
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise PromptError(
                f"text: found a lone surrogate at character {error.start}, expected valid Unicode"
            ) from error
        return list(pipeline.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD, control tokens show if `special`.

        `decode(encode(text), special=True)` is `text` for all text.
        """
        data = b"".join(self.token_bytes(index, special=special) for index in ids)
        return data.decode("utf-8", errors="replace")

    def token_bytes(self, index: int, *, special: bool = False) -> bytes:
        """The bytes that one token stands for, which need not be whole characters."""
        if not 0 <= index < self.vocab_size:
            raise PromptError(f"token id: found {index}, expected 0 to {self.vocab_size - 1}")
        return b"" if index in self.control_ids and not special else self._bytes[index]

    def stream(self) -> "StreamDecoder":
        """A decoder for ids that come one at a time."""
        return StreamDecoder(self)


class StreamDecoder:
    """Turns ids into text as they come, never half a character; sums up to `decode`'s text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, index: int) -> str:
        """The text that is complete after this token; may be empty."""
        return self._decoder.decode(self._tokenizer.token_bytes(index))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


def byte_level(pre: str) -> pre_tokenizers.PreTokenizer:
    """The pre-tokenizer named `pre`: cut by its pattern, then write bytes as characters."""
    split = pre_tokenizers.Split(Regex(PRE_TOKENIZERS[pre]), "isolated")
    rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([split, rest])


def _pipeline(bpe: models.BPE, pre: str, added: list[str]) -> tokenizers.Tokenizer:
    pipeline = tokenizers.Tokenizer(bpe)
    pipeline.pre_tokenizer = byte_level(pre)
    pipeline.add_tokens([AddedToken(token, normalized=False) for token in added])
    return pipeline


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the rest follow 255."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def _token_bytes(token: str) -> bytes:
    known = all(character in _BYTES for character in token)
    return bytes(_BYTES[character] for character in token) if known else token.encode()


def _expect(metadata: Mapping[str, Any], key: str, expected: tuple[str, ...]) -> str:
    found = metadata.get(_PREFIX + key)
    if found not in expected:
        raise FormatError(
            f"metadata key {_PREFIX}{key}: found {found!r:.60}, expected {' or '.join(expected)}"
        )
    return str(found)


def _list(metadata: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    found = metadata.get(_PREFIX + key)
    if not isinstance(found, list) or not all(isinstance(entry, kind) for entry in found):
        raise FormatError(
            f"metadata key {_PREFIX}{key}: found {type(found).__name__}, "
            f"expected a list of {kind.__name__}"
        )
    return found
