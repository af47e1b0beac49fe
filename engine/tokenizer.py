"""Text to token ids and back, by the vocabulary and merges that a GGUF carries.

Knows byte-level BPE as Qwen uses it; knows nothing of models or chat templates. It adds no
token of its own (no BOS): a chat template writes the special tokens that it wants. Merging is
the `tokenizers` package's.

Types of tokens are llama.cpp's. A normal token is bytes, written in GPT-2's alphabet. Control and
unknown tokens stand for no text unless `special` asks for them; control and user-defined ones are
found in text before it is cut, the one that starts first, then the longest. A byte token <0xNN>
is that byte. An unused one stands for nothing and is never found; so is a filler.
"""

import codecs
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import tokenizers
from gguf import TokenType
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers

from engine.errors import FormatError, PromptError

# `tokenizer.ggml.pre` -> how text is cut before merging (Qwen2's own tokenizer.json).
PRE_TOKENIZERS = {
    "qwen2": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

# Every token that may end a generation: the file's own keys, and Qwen's by their text, because
# a base model's file names only one of them (llama.cpp's list for these vocabularies).
END_KEYS = (
    *("eos_token_id", "eot_token_id", "eom_token_id"),
    *("fim_pad_token_id", "fim_rep_token_id", "fim_sep_token_id"),
)
END_TEXTS = frozenset(
    {"<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"}
)

_PREFIX = "tokenizer.ggml."
_HIDDEN = {TokenType.CONTROL, TokenType.UNKNOWN}


class Tokenizer:
    """A GGUF's tokenizer. Attributes: `vocab_size`, `control_ids`, `eos_ids`."""

    def __init__(
        self,
        tokens: Sequence[str],
        types: Sequence[int],
        merges: Sequence[tuple[str, str]],
        pre: str,
        end_ids: Iterable[int] = (),
    ) -> None:
        kinds = [_kind(*row) for row in zip(range(len(tokens)), tokens, types, strict=True)]
        control = [i for i, kind in enumerate(kinds) if kind in _HIDDEN]
        defined = [i for i, kind in enumerate(kinds) if kind == TokenType.USER_DEFINED]
        self.vocab_size = len(tokens)
        self.control_ids = frozenset(control)
        self.eos_ids = frozenset({i for i in control + defined if tokens[i] in END_TEXTS})
        self.eos_ids |= frozenset(end_ids)
        self._bytes = [_bytes_of(*row) for row in zip(tokens, kinds, strict=True)]
        bpe = models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=list(merges))
        found = {False: [tokens[i] for i in defined], True: [tokens[i] for i in defined + control]}
        self._pipelines = {
            (special, normalize): _pipeline(bpe, pre, added, normalize)
            for special, added in found.items()
            for normalize in (False, True)
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "Tokenizer":
        """Build from the `tokenizer.ggml.*` keys of a GGUF; `FormatError` names a bad one."""
        _expect(metadata, "model", ("gpt2",))
        pre = _expect(metadata, "pre", tuple(PRE_TOKENIZERS))
        tokens = _tokens(metadata)
        types = _types(metadata, len(tokens))
        merges = _distinct(metadata, "merges")
        end_ids = _end_ids(metadata, len(tokens))
        try:
            pairs = [(left, right) for left, _, right in (m.partition(" ") for m in merges)]
            return cls(tokens, types, pairs, pre, end_ids)
        except FormatError:
            raise
        except Exception as error:  # `tokenizers` raises a bare Exception for merges out of place
            raise _unfit("merges", str(error), "pairs of its tokens that make a token") from error

    def encode(self, text: str, *, special: bool = True, normalize: bool = True) -> list[int]:
        """Token ids of `text`; with `special`, text such as <|im_end|> is that one token.

        `normalize` composes characters first (Unicode NFC, between special tokens), as Qwen's
        training did and HF does; without it the text's own code points are kept, as in llama.cpp.
        """
        _require_unicode(text)
        pipeline = self._pipelines[special, normalize]
        return list(pipeline.encode(text, add_special_tokens=False).ids)

    def encode_all(self, texts: Sequence[str], *, special: bool = True) -> list[list[int]]:
        """`encode` of each text, on all cores at once."""
        for text in texts:
            _require_unicode(text)
        encoded = self._pipelines[special, True].encode_batch_fast(texts, add_special_tokens=False)
        return [list(each.ids) for each in encoded]

    def decode(self, ids: Iterable[int], *, special: bool = False) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD, control tokens show if `special`.

        `decode(encode(text, normalize=False), special=True)` is `text` for all text.
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


def _require_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"text: found a lone surrogate at character {error.start}, expected valid Unicode"
        ) from error


def _pipeline(bpe: models.BPE, pre: str, added: list[str], normalize: bool) -> tokenizers.Tokenizer:
    pipeline = tokenizers.Tokenizer(bpe)
    if normalize:
        pipeline.normalizer = normalizers.NFC()
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


def _kind(index: int, token: str, kind: int) -> int:
    """The token's type; a converter's filler is unused, though old files call it user-defined."""
    return TokenType.UNUSED if token == f"[PAD{index}]" else kind


def _bytes_of(token: str, kind: int) -> bytes:
    if kind == TokenType.UNUSED:
        return b""
    if kind == TokenType.BYTE:
        return _named_byte(token)
    spelt = kind == TokenType.NORMAL and all(character in _BYTES for character in token)
    return bytes(_BYTES[character] for character in token) if spelt else token.encode()


def _named_byte(token: str) -> bytes:
    try:
        if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            return bytes.fromhex(token[3:5])
    except ValueError:
        pass
    raise _unfit("tokens", f"byte token {token!r:.40}", "<0x00> to <0xFF>")


def _tokens(metadata: Mapping[str, Any]) -> list[str]:
    tokens = _distinct(metadata, "tokens")
    missing = _BYTES.keys() - set(tokens)
    if missing:  # `tokenizers` would drop such bytes without a word
        byte = min(_BYTES[character] for character in missing)
        raise _unfit("tokens", f"no token for byte {byte:#04x}", "one for each of 256 bytes")
    return tokens


def _types(metadata: Mapping[str, Any], count: int) -> list[int]:
    types = _list(metadata, "token_type", int)
    if len(types) != count:
        raise _unfit("token_type", f"{len(types)} entries", f"{count}, one for each token")
    strange = set(types) - set(TokenType)
    if strange:
        raise _unfit("token_type", f"type {min(strange)}", "1 to 6")
    return types


def _end_ids(metadata: Mapping[str, Any], count: int) -> set[int]:
    """The file's end-of-generation ids; all its ids of special tokens are checked."""
    names = [key for key in metadata if key.startswith(_PREFIX) and key.endswith("_token_id")]
    ids = {key.removeprefix(_PREFIX): metadata[key] for key in names}
    several = _list(metadata, "eos_token_ids", int) if _PREFIX + "eos_token_ids" in metadata else []
    for key, index in [*ids.items(), *(("eos_token_ids", index) for index in several)]:
        if type(index) is not int or not 0 <= index < count:
            raise _unfit(key, f"{index!r:.40}", f"a token id, 0 to {count - 1}")
    return {*several, *(ids[key] for key in END_KEYS if key in ids)}


def _expect(metadata: Mapping[str, Any], key: str, expected: tuple[str, ...]) -> str:
    found = metadata.get(_PREFIX + key)
    if found not in expected:
        raise _unfit(key, f"{found!r:.60}", " or ".join(expected))
    return str(found)


def _distinct(metadata: Mapping[str, Any], key: str) -> list[str]:
    """A list of texts, each of them valid Unicode and there once."""
    texts = _list(metadata, key, str)
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise _unfit(key, "a lone surrogate", "valid Unicode") from error
    text, count = max(Counter(texts).items(), key=itemgetter(1), default=("", 0))
    if count > 1:
        raise _unfit(key, f"{text!r:.40} {count} times", "each one once")
    return texts


def _list(metadata: Mapping[str, Any], key: str, kind: type) -> list[Any]:
    found = metadata.get(_PREFIX + key)
    if not isinstance(found, list):
        raise _unfit(key, type(found).__name__, f"a list of {kind.__name__}")
    others = {type(entry) for entry in found} - {kind}
    if others:
        raise _unfit(key, f"a list with {others.pop().__name__}", f"a list of {kind.__name__}")
    return found


def _unfit(key: str, found: str, expected: str) -> FormatError:
    return FormatError(f"metadata key {_PREFIX}{key}: found {found}, expected {expected}")
