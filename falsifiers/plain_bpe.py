"""Byte-level BPE as Qwen2's, in plain Python: an oracle that shares no code with `tokenizers`.

Text is cut by the classes that `unicodedata` gives its characters, and merged pair by pair. Slow.
"""

import re
from unicodedata import category, normalize

CONTRACTION = re.compile(r"'(?:[stmd]|re|ve|ll)", re.I)
# The pattern of Qwen2's tokenizer.json on a text's classes: Letter, Number, Return, Space,
# Other white space, Mark or whatever else.
CUT = re.compile(r"[SOM]?L+|N|S?M+R*|[SOR]*R+|[SOR]+(?![LNM])|[SOR]+")
RETURN, OTHER_SPACE = "\r\n", "\t\v\f\x85\xa0"
# GPT-2's alphabet: bytes that print stand for themselves, the others follow U+00FF in order.
PRINTS = "".join(map(chr, [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]))
HIDES = [byte for byte in range(256) if chr(byte) not in PRINTS]
ALPHABET = {ord(each): each for each in PRINTS} | {b: chr(256 + i) for i, b in enumerate(HIDES)}


def spelt(data: bytes) -> str:
    return "".join(ALPHABET[byte] for byte in data)


def encode(
    text: str, ids: dict[str, int], ranks: dict[tuple[str, str], int], special: list[str]
) -> list[int]:
    """Ids of `text`, in which the `special` tokens are found first, the longest at each place."""
    made: list[int] = []
    for piece in split(text, special):
        made += [ids[piece]] if piece in special else _ids(piece, ids, ranks)
    return made


def split(text: str, special: list[str]) -> list[str]:
    """`text` in pieces, each `special` token one of its own, the longest at each place."""
    longest_first = sorted(special, key=len, reverse=True)
    return re.split(f"({'|'.join(map(re.escape, longest_first))})", text)


def _ids(text: str, ids: dict[str, int], ranks: dict[tuple[str, str], int]) -> list[int]:
    return [
        ids[token]
        for word in words(normalize("NFC", text))
        for token in merged(spelt(word.encode()), ranks)
    ]


def words(text: str) -> list[str]:
    classes = "".join(map(character_class, text))
    found, place = [], 0
    while place < len(text):
        match = CONTRACTION.match(text, place) or CUT.match(classes, place)
        found.append(text[place : match.end()])
        place = match.end()
    return found


def character_class(character: str) -> str:
    if character in RETURN:
        return "R"
    if character == " ":
        return "S"
    kind = category(character)
    if character in OTHER_SPACE or kind[0] == "Z":
        return "O"
    return kind[0] if kind[0] in "LN" else "M"


def merged(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Merge the pair of lowest rank, the leftmost first, until none is left."""
    parts = list(word)
    while True:
        pairs = [
            (ranks[p], i) for i, p in enumerate(zip(parts, parts[1:], strict=False)) if p in ranks
        ]
        if not pairs:
            return parts
        _, i = min(pairs)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
