"""Hugging Face folders of the small vocabulary, each with one thing changed: good ones and bad.

Knows no engine. A folder is its files by name: JSON, bytes or text.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from falsifiers.small_vocabulary import ADDED, small_vocabulary

Folder = dict[str, Any]
Change = Callable[[Folder], object]

SMALL = small_vocabulary()
MERGES = SMALL["tokenizer.ggml.merges"]
TOKENS = SMALL["tokenizer.ggml.tokens"][:-1]  # transformers has no fillers
END, START = TOKENS.index("<|im_end|>"), TOKENS.index("<|im_start|>")
# transformers has no types of unused and byte tokens, and an unknown token is special.
HF_TYPES = {2: 3, 5: 1, 6: 1}
TYPES = [1] * (len(TOKENS) - len(ADDED)) + [HF_TYPES.get(kind, kind) for kind in ADDED.values()]


def changed(saved: Path, folder: Path, change: Change) -> Path:
    """A copy of the `saved` folder with this change."""
    files: Folder = {path.name: path.read_bytes() for path in saved.glob("*.*")}
    files = {
        name: json.loads(data) if name.endswith("json") else data for name, data in files.items()
    }
    files |= {
        f"additional_chat_templates/{path.name}": path.read_bytes()
        for path in saved.glob("additional_chat_templates/*")
    }
    change(files)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def _set(file: str, place: str, value: Any) -> Callable[[Folder], None]:
    """Set the value at a dotted path of a JSON file, which may be new."""

    def change(folder: Folder) -> None:
        *parents, last = place.split(".")
        inner = folder.setdefault(file, {})
        for name in parents:
            inner = inner[int(name) if name.isdigit() else name]
        inner[int(last) if last.isdigit() else last] = value

    return change


def _put(file: str, content: Any) -> Callable[[Folder], None]:
    return lambda folder: folder.update({file: content})


JSON = "tokenizer.json"
SPLIT = "pre_tokenizer.pretokenizers.0"
# What is wrong -> what the error names, and the change to the folder's files (bytes, or JSON).
BAD_FOLDERS: dict[str, tuple[str, Callable[[Folder], None]]] = {
    "no tokenizer.json": (JSON, lambda folder: folder.pop(JSON)),
    "not JSON": (JSON, _put(JSON, b"{")),
    "not UTF-8": (JSON, _put(JSON, b'{"a": "\xff"}')),
    "deep JSON": (JSON, _put(JSON, b"[" * 200_000)),
    "a list": (JSON, _put(JSON, [])),
    "an empty object": ("model.type", _put(JSON, {})),
    "a model that is a list": ("model.type", _set(JSON, "model", ["BPE"])),
    "unigram": ("model.type", _set(JSON, "model.type", "Unigram")),
    "byte fallback": ("model.byte_fallback", _set(JSON, "model.byte_fallback", True)),
    "whole words first": ("model.ignore_merges", _set(JSON, "model.ignore_merges", True)),
    "dropout": ("model.dropout", _set(JSON, "model.dropout", 0.1)),
    "no normaliser": ("normalizer.type", _set(JSON, "normalizer", None)),
    "another normaliser": ("normalizer.type", _set(JSON, "normalizer.type", "NFKC")),
    "another pattern": (
        f"{SPLIT}.pattern.Regex",
        _set(JSON, f"{SPLIT}.pattern.Regex", r"\p{N}{3}"),
    ),
    "another behaviour": (f"{SPLIT}.behavior", _set(JSON, f"{SPLIT}.behavior", "Removed")),
    "no pre-tokenizer": ("pre_tokenizer.type", _set(JSON, "pre_tokenizer", None)),
    "a space put before": (
        "add_prefix_space",
        _set(JSON, "pre_tokenizer.pretokenizers.1.add_prefix_space", True),
    ),
    "a vocabulary that is a list": ("model.vocab", _set(JSON, "model.vocab", ["a"])),
    "an id that is a text": ("model.vocab", _set(JSON, "model.vocab.a", "1")),
    "an id far away": ("ids", _set(JSON, "model.vocab.a", 2**40)),
    "a negative id": ("ids", _set(JSON, "model.vocab.a", -1)),
    "an absurd vocab_size": ("vocab_size", _set("config.json", "vocab_size", 2**40)),
    "merges that are a number": ("model.merges", _set(JSON, "model.merges", 3)),
    "a merge of three": ("model.merges", _set(JSON, "model.merges.0", ["a", "b", "c"])),
    "a merge of numbers": ("model.merges", _set(JSON, "model.merges.0", [1, 2])),
    "added tokens that are a number": ("added_tokens", _set(JSON, "added_tokens", 3)),
    "an added token without an id": ("added_tokens", _set(JSON, "added_tokens.0.id", None)),
    "an added token that strips": ("lstrip", _set(JSON, "added_tokens.0.lstrip", True)),
    "an added token that is a word": (
        "single_word",
        _set(JSON, "added_tokens.0.single_word", True),
    ),
    "an end that is no token": ("eos_token", _set("tokenizer_config.json", "eos_token", "<end>")),
    "a config that is a list": ("tokenizer_config.json", _put("tokenizer_config.json", [])),
    "a template that is not UTF-8": ("chat_template.jinja", _put("chat_template.jinja", b"\xff")),
}

CONFIG = "tokenizer_config.json"


def _all(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def _without_templates(folder: Folder) -> None:
    for name in [name for name in folder if name.endswith(".jinja")]:
        del folder[name]


# What is changed, and the keys that the folder must then give (after "tokenizer.").
FOLDERS: dict[str, tuple[Change, dict[str, Any]]] = {
    "as saved": (
        lambda folder: None,
        {
            "ggml.model": "gpt2",
            "ggml.pre": "qwen2",
            "ggml.tokens": TOKENS,
            "ggml.token_type": TYPES,
            "ggml.merges": MERGES,
            "ggml.eos_token_id": END,
            "ggml.eos_token_ids": [],
            "ggml.bos_token_id": None,
            "chat_template": "{{ 1 }}",
            "chat_template.tool_use": "{{ 2 }}",
        },
    ),
    "merges as texts": (_set(JSON, "model.merges", MERGES), {"ggml.merges": MERGES}),
    "a padded vocabulary": (
        _set("config.json", "vocab_size", len(TOKENS) + 2),
        {
            "ggml.tokens": [*TOKENS, f"[PAD{len(TOKENS)}]", f"[PAD{len(TOKENS) + 1}]"],
            "ggml.token_type": [*TYPES, 5, 5],
        },
    ),
    "a vocabulary longer than the model's": (
        _set("config.json", "vocab_size", 10),
        {"ggml.tokens": TOKENS},
    ),
    "several ends": (
        _set("generation_config.json", "eos_token_id", [END, START]),
        {"ggml.eos_token_ids": [END, START]},
    ),
    "one end": (
        _set("generation_config.json", "eos_token_id", START),
        {"ggml.eos_token_ids": [START]},
    ),
    "an end in the model's config": (
        _set("config.json", "eos_token_id", START),
        {"ggml.eos_token_ids": [START]},
    ),
    "a special token with properties": (
        _set(CONFIG, "bos_token", {"content": "<|im_start|>", "lstrip": False}),
        {"ggml.bos_token_id": START},
    ),
    "a special token in the older file": (
        _set("special_tokens_map.json", "bos_token", "<unk>"),
        {"ggml.bos_token_id": None},
    ),
    "special tokens in the older file alone": (
        _all(_put(CONFIG, {}), _set("special_tokens_map.json", "bos_token", "<unk>")),
        {"ggml.bos_token_id": TOKENS.index("<unk>"), "ggml.eos_token_id": None},
    ),
    "a template in the config": (
        _all(_without_templates, _set(CONFIG, "chat_template", "{{ 3 }}")),
        {"chat_template": "{{ 3 }}", "chat_template.tool_use": None},
    ),
    "several templates in the config": (
        _all(
            _without_templates,
            _set(
                CONFIG,
                "chat_template",
                [{"name": "tool_use", "template": "4"}, {"name": "default", "template": "5"}],
            ),
        ),
        {"chat_template": "5", "chat_template.tool_use": "4"},
    ),
    "a template in both": (
        _set(CONFIG, "chat_template", "{{ 3 }}"),
        {"chat_template": "{{ 1 }}"},
    ),
    "no template": (_without_templates, {"chat_template": None}),
}
