"""A vocabulary of a few hundred tokens with every type of token, as a GGUF's metadata.

Knows no engine. Its merges come in an order that is neither that of the words nor of the alphabet.
"""

from random import Random
from typing import Any

from falsifiers.plain_bpe import ALPHABET, spelt

WORDS = (
    *(
        "the",
        " the",
        " then",
        "there",
        " answer",
        "return",
        " return",
        "def",
        "    ",
        "\n\n",
        " \n",
    ),
    *(
        "été",
        " naïve",
        "Grüße",
        "世界",
        "你好",
        "मस्ते",
        "سلام",
        "שלום",
        "Привет",
        "안녕",
        "カタ",
        "👩\u200d🔬",
    ),
    *("==", " ==", "():", "...", "'s", "'ll", "\t\t", "\r\n", "12", "aaa", "ab", "ba"),
)
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
ADDED = {
    "<|endoftext|>": CONTROL,
    "<|im_start|>": CONTROL,
    "<|im_end|>": CONTROL,
    "<unk>": UNKNOWN,
    "<think>": USER_DEFINED,
    "<think>\n": USER_DEFINED,
    "</think>": USER_DEFINED,
    " é": USER_DEFINED,
    "<unused>": UNUSED,
    "<0xE4>": BYTE,
}


def small_vocabulary(seed: int = 0, **changes: Any) -> dict[str, Any]:
    """`tokenizer.ggml.*` keys; `changes` replace them, and a value None takes one away."""
    merges = _merges(seed)
    normal = [*ALPHABET.values(), *dict.fromkeys(left + right for left, right in merges)]
    filler = f"[PAD{len(normal) + len(ADDED)}]"
    added = {**ADDED, filler: USER_DEFINED}
    tokens = [*normal, *added]
    keys = {
        "model": "gpt2",
        "pre": "qwen2",
        "tokens": tokens,
        "token_type": [NORMAL] * len(normal) + list(added.values()),
        "merges": [f"{left} {right}" for left, right in merges],
        "bos_token_id": tokens.index("<|endoftext|>"),
        "eos_token_id": tokens.index("<|im_end|>"),
    }
    keys |= changes
    return {f"tokenizer.ggml.{key}": value for key, value in keys.items() if value is not None}


def _merges(seed: int) -> list[tuple[str, str]]:
    """Each word grows from its first byte; the order of all merges is the seed's."""
    words = [spelt(word.encode()) for word in WORDS]
    merges = {(word[:size], word[size]): None for word in words for size in range(1, len(word))}
    shuffled = list(merges)
    Random(seed).shuffle(shuffled)
    return shuffled
