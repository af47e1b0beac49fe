"""Folders of texts to make a corpus of, and what must come of them; knows no engine."""

import hashlib
import struct
import unicodedata
from pathlib import Path

WORDS = "the claim would be refuted if a test found def return import for in range class self None"
GOOD = {
    "a.py": "def f(x):\r\n\treturn x  # <|im_end|> is text here, and <|endoftext|> too\n",
    "b/c.txt": "Cafe\u0301, naïve, 世界, 👩\u200d🔬, \u1e9b\u0323 — and no line end",
    "b/d e.md": "    four spaces\n\n\n\n\tand a tab\n" * 3,
    "z.py": " ",  # empty, so left out
}
# Left out: name -> bytes, and the reason.
BAD = {
    ".hidden.py": (b"x = 1\n", "hidden"),
    ".git/config.py": (b"y = 2\n", "hidden"),
    "image.py": (b"\0\1\2\3", "binary"),
    "latin.py": ("# caf\xe9\n".encode("latin-1"), "not UTF-8"),
    "nothing.py": (b"", "empty"),
    "tests/test_a.py": (b"assert True\n", "excluded"),
    "data.json": (b"{}\n", "not included"),
    "y copy.py": (GOOD["a.py"].encode(), "copies"),
}


def write_texts(folder: Path, files: int = 20, seed: int = 0) -> dict[str, str]:
    """The good texts and some of random words below `folder`; all that must be taken, by name."""
    texts = {**GOOD, **{f"n/{place:02d}.py": words(place + 100 * seed) for place in range(files)}}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return {name: text for name, text in sorted(texts.items()) if text.strip()}


def words(seed: int) -> str:
    """Fifty words or more in an order of their own."""
    choices, found = WORDS.split(), []
    for place in range(50 + seed % 7):
        digest = hashlib.sha256(f"{seed} {place}".encode()).digest()
        found.append(choices[digest[0] % len(choices)])
    return " ".join(found) + f" {seed}\n"


def write_bad(folder: Path) -> None:
    """What must be left out, a link among it."""
    for name, (data, _) in BAD.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / "link.py").symlink_to(folder / "a.py")
    (folder / "loop").symlink_to(folder, target_is_directory=True)


def composed(text: str) -> str:
    """The text as Qwen's tokenizer sees it."""
    return unicodedata.normalize("NFC", text)


def stream(folder: Path) -> list[int]:
    """All tokens in the shards of a folder, in the order of their names."""
    data = b"".join(path.read_bytes() for path in sorted(folder.glob("*.bin")))
    return list(struct.unpack(f"<{len(data) // 4}I", data))


def documents(ids: list[int], end: int) -> list[list[int]]:
    """The tokens of each text, which ends with `end`; what follows the last end too."""
    found: list[list[int]] = [[]]
    for each in ids:
        if each == end:
            found.append([])
        else:
            found[-1].append(each)
    return found[:-1] if not found[-1] else found
