"""Texts that tell tokenizers apart: fixed ones, and strategies that mix their parts at random."""

from typing import Any
from unicodedata import ucd_3_2_0

from hypothesis import given, settings
from hypothesis import strategies as st

from falsifiers.thorough import THOROUGH

PARTS = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_end", "|>", "<think>", "<think>\n"),
    *("</think>", "<unk>", "<unused>", "<0xE4>", "[PAD151700]", "[PAD400]"),
    *(" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f", "\x85", "\xa0", "\u2028"),
    *("\u3000", "\u200b", "\ufeff", "\x00", "\x1c", "\x7f"),
    *("'s", "'S", "'ll", "'RE", "'\u017f", "'", "0", "12", "2026", "²", "½", "٣", "१", "Ⅷ"),
    *("e\u0301", "\u0301", "\u0338", "\u0323\u0307", "\u0307\u0323", "\u212b", "\uf900", "ﬁ"),
    *("\u1112\u1161\u11ab", "\u0915\u093c", "\u0958", "naïve", "Grüße", "İi", "ß"),
    *("the answer", "def f(x):\n    return x", "!=\n", '{"a": [1]}', "مرحبا بالعالم"),
    *"== -> () https://x.y/?z=1 世界 你好，世界。 日本語テキスト カタ 안녕하세요 سَلَام שָׁלוֹם".split(),
    *"Привет हिन्दी ไทย 𝒳 👍🏽 🇫🇷 ❤\ufe0f 👩\u200d🔬 👨\u200d👩\u200d👧".split(),
    *("\U0001f9ff", "\U00020000", "\U000e0041"),
)
TEXTS = (
    "",
    *PARTS,
    *(left + right for left, right in zip(PARTS, PARTS[1:], strict=False)),
    *(f"a{part}{part}b {part}\n" for part in PARTS),
    "<|im_start|>user\nWrite 12345 in words.<|im_end|>\n<|im_start|>assistant\n",
    "def fibonacci(n: int) -> int:\n\tif n <= 1:\r\n        return n  \n\n\n    # done   \n",
    "  leading, trailing   \n \n\t \r\n  \n",
    "<|im_end|>\u0338 e<|im_end|>\u0301 <think>\u0338",
    "1234567890 3.14159 0xDEADBEEF 1e-5 ١٢٣ १२३",
    "a" * 50 + " " * 50 + "\n" * 50 + "é" * 50 + "=" * 50,
)

CHARACTERS = st.characters(exclude_categories=["Cs"])
# Assigned long ago, so that all tables of Unicode agree on what they are.
OLD_CHARACTERS = CHARACTERS.filter(lambda each: ucd_3_2_0.category(each) != "Cn")


def mixed(characters: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Known parts and runs of these characters, in any order."""
    parts = st.sampled_from(PARTS) | st.text(characters, max_size=6)
    return st.lists(parts, max_size=12).map("".join)


def examples(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """What hypothesis thinks of, the same at every run."""
    made: list[Any] = []
    settings(THOROUGH, max_examples=count)(given(strategy)(lambda each: made.append(each)))()
    return made
