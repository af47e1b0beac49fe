"""A Hugging Face folder's tokenizer, told in the keys of a GGUF, so that one code path serves both.

Knows `tokenizer.json` and the small files beside it; knows nothing of how text is encoded. Only
byte-level BPE as Qwen2's is accepted: the keys of a GGUF cannot say anything else. They cannot
say that an added token is looked for in composed text (`normalized`) either; it is then looked
for in the text as it stands.
Format: https://huggingface.co/docs/tokenizers
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import FormatError

# The types of tokens in `tokenizer.ggml.token_type`.
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What must be as in Qwen2, by its path in tokenizer.json; what is not there is None.
QWEN2 = {
    "model.type": ("BPE",),
    "model.dropout": (None,),
    "model.unk_token": (None,),
    "model.continuing_subword_prefix": (None, ""),
    "model.end_of_word_suffix": (None, ""),
    "model.byte_fallback": (None, False),
    "model.ignore_merges": (None, False),
    "normalizer.type": ("NFC",),
    "pre_tokenizer.type": ("Sequence",),
    "pre_tokenizer.pretokenizers.0.type": ("Split",),
    "pre_tokenizer.pretokenizers.0.pattern.Regex": (QWEN2_SPLIT,),
    "pre_tokenizer.pretokenizers.0.behavior": ("Isolated",),
    "pre_tokenizer.pretokenizers.0.invert": (None, False),
    "pre_tokenizer.pretokenizers.1.type": ("ByteLevel",),
    "pre_tokenizer.pretokenizers.1.add_prefix_space": (False,),
    "pre_tokenizer.pretokenizers.1.use_regex": (False,),
    "pre_tokenizer.pretokenizers.2": (None,),
}
MOST_FILLERS = 65536  # Qwen pads by a few hundred
PLAIN_ADDED = ("lstrip", "rstrip", "single_word")
IDS = {"bos": "bos_token", "eos": "eos_token", "padding": "pad_token", "unknown": "unk_token"}


def read_tokenizer_folder(folder: Path) -> dict[str, Any]:
    """The `tokenizer.ggml.*` keys and the chat templates of a HF folder like Qwen2's.

    `tokenizer.ggml.eos_token_ids` holds all ids that generation_config.json or config.json ends at.
    The vocabulary is as long as config.json's `vocab_size`, if that is more than its tokens.
    `FormatError` names the file and the place where it is not as in Qwen2.
    """
    path = folder / "tokenizer.json"
    tokenizer = _read(path, required=True)
    _check_qwen2(path, tokenizer)
    config = _read(folder / "tokenizer_config.json")
    model = _read(folder / "config.json")
    tokens, types = _vocabulary(path, tokenizer, model.get("vocab_size", 0))
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": list(_merges(path, tokenizer)),
        "tokenizer.ggml.eos_token_ids": _end_ids(folder, model),
        **_special_ids(folder, config, tokens),
        **_templates(folder, config),
    }


def _vocabulary(path: Path, tokenizer: dict[str, Any], size: Any) -> tuple[list[str], list[int]]:
    """Tokens and types by id; an id that has no token gets a converter's filler."""
    vocabulary, added = _at(tokenizer, "model.vocab"), _added(path, tokenizer)
    if not isinstance(vocabulary, dict) or not all(type(i) is int for i in vocabulary.values()):
        raise FormatError(f"{path}: model.vocab: found no ids by token, expected them")
    rows = {index: (token, NORMAL) for token, index in vocabulary.items()} | added
    first, last = min(rows, default=0), max(rows, default=0)
    count = max(last + 1, size if type(size) is int else 0)
    if first < 0 or count > len(rows) + MOST_FILLERS:
        raise FormatError(
            f"{path}: found {len(rows)} tokens with ids {first} to {last} and vocab_size {size!r}, "
            f"expected ids from 0 on and at most {MOST_FILLERS} of them without a token"
        )
    filled = [rows.get(index, (f"[PAD{index}]", UNUSED)) for index in range(count)]
    return [token for token, _ in filled], [kind for _, kind in filled]


def _added(path: Path, tokenizer: dict[str, Any]) -> dict[int, tuple[str, int]]:
    added = {}
    listed = tokenizer.get("added_tokens") or []
    for token in listed if isinstance(listed, list) else [listed]:
        text, index = _at(token, "content"), _at(token, "id")
        if not isinstance(text, str) or type(index) is not int:
            raise FormatError(f"{path}: added_tokens: found {token!r:.80}, expected id and content")
        strips = [name for name in PLAIN_ADDED if token.get(name)]
        if strips:
            raise FormatError(
                f"{path}: added token {text!r:.40}: found {strips[0]}, "
                "expected a token that takes no other text with it"
            )
        added[index] = (text, CONTROL if token.get("special") else USER_DEFINED)
    return added


def _merges(path: Path, tokenizer: dict[str, Any]) -> Iterator[str]:
    """Each merge as "left right"; newer files write [left, right]."""
    merges = _at(tokenizer, "model.merges")
    for merge in merges if isinstance(merges, list) else [merges]:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(pair, list) and list(map(type, pair)) == [str, str]):
            raise FormatError(f"{path}: model.merges: found {merge!r:.60}, expected two tokens")
        yield " ".join(pair)


def _check_qwen2(path: Path, tokenizer: dict[str, Any]) -> None:
    for place, expected in QWEN2.items():
        found = _at(tokenizer, place)
        if found not in expected:
            raise FormatError(
                f"{path}: {place}: found {found!r:.80}, "
                f"expected {expected[-1]!r} as in Qwen2's byte-level BPE"
            )


def _special_ids(folder: Path, config: dict[str, Any], tokens: list[str]) -> dict[str, int]:
    """`tokenizer.ggml.bos_token_id` and so on, where the folder names such a token."""
    older = _read(folder / "special_tokens_map.json")
    ids = {}
    for name, key in IDS.items():
        named = config.get(key, older.get(key))
        text = _at(named, "content") if isinstance(named, dict) else named
        if text is not None and text not in tokens:
            raise FormatError(f"{folder}: {key}: found {text!r:.40}, expected one of its tokens")
        if text is not None:
            ids[f"tokenizer.ggml.{name}_token_id"] = tokens.index(text)
    return ids


def _end_ids(folder: Path, model: dict[str, Any]) -> list[Any]:
    found = _read(folder / "generation_config.json").get("eos_token_id", model.get("eos_token_id"))
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def _templates(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The default chat template and `tool_use`: files of their own win over tokenizer_config.json.

    Its `chat_template` is a text, or in older folders a list of names with texts.
    """
    found = config.get("chat_template")
    listed = found if isinstance(found, list) else [{"name": "default", "template": found}]
    templates = {str(_at(each, "name")): _at(each, "template") for each in listed}
    files = {"default": folder / "chat_template.jinja"}
    files |= {path.stem: path for path in (folder / "additional_chat_templates").glob("*.jinja")}
    templates |= {name: _text(path) for name, path in files.items() if path.is_file()}
    keys = {"default": "tokenizer.chat_template", "tool_use": "tokenizer.chat_template.tool_use"}
    return {key: templates[name] for name, key in keys.items() if templates.get(name)}


def _at(value: Any, place: str) -> Any:
    """What lies at a dotted path; None where there is nothing."""
    for name in place.split("."):
        if isinstance(value, list):
            value = {str(index): each for index, each in enumerate(value)}
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _read(path: Path, required: bool = False) -> dict[str, Any]:
    """A JSON object; an empty one where there is no such file and none is needed."""
    if not required and not path.exists():
        return {}
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: found {error}, expected JSON") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path}: found {type(found).__name__}, expected a JSON object")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: found {error}, expected UTF-8 text") from error
