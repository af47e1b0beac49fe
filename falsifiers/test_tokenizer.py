"""Tries to refute the tokenizer: against HF transformers, llama.cpp and a BPE in plain Python.

The real vocabulary is the one at QWEN2_VOCAB_GGUF_PATH; the small one has every type of token.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import strategies as st

import engine
from engine.tokenizer_json import read_tokenizer_folder
from falsifiers import plain_bpe
from falsifiers.bad_vocabularies import BAD_METADATA
from falsifiers.plain_gguf import read_metadata
from falsifiers.small_vocabulary import small_vocabulary
from falsifiers.texts import CHARACTERS, OLD_CHARACTERS, TEXTS, examples, mixed
from falsifiers.tokenizer_folders import BAD_FOLDERS, FOLDERS, Change, changed
from falsifiers.tokenizer_oracles import HuggingFace, LlamaCpp

SMALL = small_vocabulary()
TOKENS: list[str] = SMALL["tokenizer.ggml.tokens"]
FOUND_IN_TEXT = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>")
FOUND_ALWAYS = ("<think>", "<think>\n", "</think>", " é")
NEVER_FOUND = ("<unused>", "<0xE4>", TOKENS[-1])


@pytest.fixture(scope="module")
def real_path() -> Path:
    return Path(os.environ["QWEN2_VOCAB_GGUF_PATH"])


@pytest.fixture(scope="module")
def metadata(real_path) -> dict[str, Any]:
    return read_metadata(real_path)


@pytest.fixture(scope="module")
def real(metadata) -> engine.Tokenizer:
    return engine.Tokenizer.from_metadata(metadata)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [*TEXTS, *examples(mixed(CHARACTERS), 300)]


@pytest.fixture(scope="module")
def small() -> engine.Tokenizer:
    return engine.Tokenizer.from_metadata(SMALL)


def differing(texts: Iterable[str], differs: Callable[[str], bool]) -> tuple[int, int]:
    """How many of the texts differ, of how many; the first of them are printed."""
    texts = list(texts)
    found = [text for text in texts if differs(text)]
    print("\n".join(map(ascii, found[:10])))
    return len(found), len(texts)


@pytest.mark.falsifies("FALSIFY-TOKENIZER-001")
@pytest.mark.parametrize("special", [True, False])
def test_ids_and_text_are_those_of_hf_transformers(observe, real, metadata, texts, special):
    oracle = HuggingFace(metadata)
    ids = {text: oracle.encode(text, special) for text in texts}
    differ, compared = differing(
        texts, lambda text: real.encode(text, special=special) != ids[text]
    )
    observe("texts_with_other_ids", differ)
    observe("texts_compared", compared)
    differ, _ = differing(
        texts,
        lambda text: real.decode(ids[text], special=special) != oracle.decode(ids[text], special),
    )
    observe("ids_with_another_text", differ)


@pytest.mark.falsifies("FALSIFY-TOKENIZER-002")
def test_ids_bytes_and_ends_are_those_of_llama_cpp(observe, real, real_path, metadata, texts):
    oracle = LlamaCpp(real_path)
    tokens = metadata["tokenizer.ggml.tokens"]
    texts = [text for text in texts if "[PAD" not in text]
    differ, compared = differing(
        texts, lambda text: real.encode(text, normalize=False) != oracle.encode(text)
    )
    observe("texts_with_other_ids", differ)
    observe("texts_compared", compared)
    known = [i for i, token in enumerate(tokens) if not token.startswith("[PAD")]
    ids = [i for i in known if tokens[i] != "</s>"]  # Qwen's plain text, llama.cpp's control token
    other = [i for i in ids if real.token_bytes(i) != oracle.token_bytes(i, False)]
    other += [
        i for i in real.control_ids if real.token_bytes(i, special=True) != tokens[i].encode()
    ]
    observe("tokens_with_other_bytes", len(other))
    observe("tokens_compared", len(ids))
    ends = {i for i in ids if oracle.ends(i)}
    observe("end_ids_that_differ", len(ends ^ real.eos_ids))


@pytest.mark.falsifies("FALSIFY-TOKENIZER-003")
@pytest.mark.parametrize("seed", [0, 1])
def test_ids_are_those_of_a_plain_bpe(observe, seed):
    vocabulary = small_vocabulary(seed)
    tokenizer = engine.Tokenizer.from_metadata(vocabulary)
    ids = {token: i for i, token in enumerate(vocabulary["tokenizer.ggml.tokens"])}
    merges = vocabulary["tokenizer.ggml.merges"]
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    texts = [*TEXTS, *examples(mixed(OLD_CHARACTERS), 150)]
    for special, found in ((True, FOUND_IN_TEXT + FOUND_ALWAYS), (False, FOUND_ALWAYS)):
        differ, compared = differing(
            texts,
            lambda text, special=special, found=found: (
                tokenizer.encode(text, special=special)
                != plain_bpe.encode(text, ids, ranks, list(found))
            ),
        )
        observe("texts_with_other_ids", differ)
        observe("texts_compared", compared)


@pytest.mark.falsifies("FALSIFY-TOKENIZER-004")
def test_text_comes_back_as_it_was(observe, small, texts):
    def back(text: str, **options: bool) -> str:
        return small.decode(small.encode(text, **options), special=True)

    changed = [
        differing(texts, lambda text: back(text, normalize=False) != text),
        differing(texts, lambda text: back(text, normalize=False, special=False) != text),
        differing(texts, lambda text: back(text, special=False) != in_nfc(text, FOUND_ALWAYS)),
        differing(texts, lambda text: back(text) != in_nfc(text, FOUND_IN_TEXT + FOUND_ALWAYS)),
    ]
    observe("texts_changed", sum(differ for differ, _ in changed))
    observe("texts_compared", len(texts))


def in_nfc(text: str, special: Iterable[str]) -> str:
    """Composed, but never across the border of a special token."""
    pieces = plain_bpe.split(text, list(special))
    return "".join(piece if piece in special else normalize("NFC", piece) for piece in pieces)


@pytest.mark.falsifies("FALSIFY-TOKENIZER-005")
def test_a_stream_never_splits_a_character(observe, small, texts):
    texts = [text for text in texts if "\ufffd" not in text]
    whole = [small.encode(text, special=False, normalize=False) for text in texts]
    split = [ids for ids in whole if any("\ufffd" in piece for piece in streamed(small, ids))]
    observe("texts_with_a_split_character", len(split))
    streams = [*whole, *examples(st.lists(st.integers(0, len(TOKENS) - 1), max_size=30), 300)]
    other = [ids for ids in streams if "".join(streamed(small, ids)) != small.decode(ids)]
    observe("streams_that_are_not_the_decoded_text", len(other))
    late = [ids for ids in whole if early(streamed(small, ids)) != small.decode(ids)]
    observe("texts_held_back_to_the_end", len(late))
    observe("streams_compared", len(streams))


def streamed(tokenizer: engine.Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*map(stream.feed, ids), stream.flush()]


def early(pieces: list[str]) -> str:
    """What had come before the stream was flushed."""
    return "".join(pieces[:-1])


@pytest.mark.falsifies("FALSIFY-TOKENIZER-006")
def test_each_type_of_token_is_found_and_shown_as_it_should_be(observe, small):
    observe("wrongly_found", len([case for case in FOUND if not finds(small, *case)]))
    observe("wrongly_shown", len([case for case in SHOWN if not shows(small, *case)]))
    observe("cases", len(FOUND) + len(SHOWN))


# Text, whether control tokens are looked for, and the tokens from the added ones that are found.
FOUND = [
    *((f"a{token}b", True, [token]) for token in FOUND_IN_TEXT + FOUND_ALWAYS),
    *((f"a{token}b", False, []) for token in FOUND_IN_TEXT),
    *((f"a{token}b", False, [token]) for token in FOUND_ALWAYS),
    *((f"a{token}b", special, []) for token in NEVER_FOUND for special in (True, False)),
    ("<think><think>\n\n", True, ["<think>", "<think>\n"]),
    ("<|im_end|><|im_end|>", True, ["<|im_end|>", "<|im_end|>"]),
    (" <|im_end|> ", True, ["<|im_end|>"]),
    ("<<|im_end|>>", True, ["<|im_end|>"]),
    ("<|im_end|>\u0338", True, ["<|im_end|>"]),
    ("<|IM_END|>", True, []),
    ("<|im_end |>", True, []),
]
# Token, its text, its text with `special`.
SHOWN = [
    *((token, "", token) for token in FOUND_IN_TEXT),
    *((token, token, token) for token in FOUND_ALWAYS),
    ("<unused>", "", ""),
    (TOKENS[-1], "", ""),
    ("<0xE4>", "\ufffd", "\ufffd"),
    ("Ġthe", " the", " the"),
    ("Ċ", "\n", "\n"),
]


def finds(tokenizer: engine.Tokenizer, text: str, special: bool, expected: list[str]) -> bool:
    found = [TOKENS[i] for i in tokenizer.encode(text, special=special)]
    added = (*FOUND_IN_TEXT, *FOUND_ALWAYS, *NEVER_FOUND)
    return [token for token in found if token in added] == expected


def shows(tokenizer: engine.Tokenizer, token: str, plain: str, special: str) -> bool:
    ids = [TOKENS.index(token)]
    return (tokenizer.decode(ids), tokenizer.decode(ids, special=True)) == (plain, special)


@pytest.mark.falsifies("FALSIFY-TOKENIZER-007")
def test_all_of_the_files_end_ids_end_a_generation(observe):
    texts = {TOKENS.index(token) for token in ("<|im_end|>", "<|endoftext|>")}
    wrong = []
    for key, value, expected in ENDS:
        tokenizer = open_small(**{key: value})
        wrong += [(key, value)] * (tokenizer.eos_ids != texts | expected)
    observe("wrong_end_ids", len(wrong))
    observe("files", len(ENDS))


ENDS: list[tuple[str, Any, set[int]]] = [
    ("eos_token_id", None, set()),
    *(
        (f"{name}_token_id", 7, {7})
        for name in ("eos", "eot", "eom", "fim_pad", "fim_rep", "fim_sep")
    ),
    *((f"{name}_token_id", 7, set()) for name in ("bos", "padding", "unknown", "fim_pre")),
    ("eos_token_ids", [7, 9], {7, 9}),
    ("eos_token_ids", [], set()),
    ("eos_token_id", 0, {0}),
]


def error_of(action: Callable[[], object]) -> Exception | None:
    try:
        action()
    except Exception as error:
        return error
    return None


def is_clear(error: Exception | None, place: str) -> bool:
    said = str(error)
    named = place in said and "found" in said and "expected" in said
    return isinstance(error, engine.FormatError) and named


def open_small(**changes: Any) -> engine.Tokenizer:
    return engine.Tokenizer.from_metadata(small_vocabulary(**changes))


@pytest.mark.falsifies("FALSIFY-TOKENIZER-008")
def test_bad_metadata_is_refused_by_key(observe):
    said = {
        name: error_of(lambda changes=changes: open_small(**changes))
        for name, (_, changes) in BAD_METADATA.items()
    }
    unclear = [
        name
        for name, (key, _) in BAD_METADATA.items()
        if not is_clear(said[name], f"tokenizer.ggml.{key}:")
    ]
    print([(name, said[name]) for name in unclear])
    observe("accepted", sum(error is None for error in said.values()))
    observe("unclear_errors", len(unclear))
    observe("files", len(said))


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory) -> Path:
    """What transformers saves of the small vocabulary, with two chat templates."""
    oracle = HuggingFace(SMALL)
    oracle.tokenizer.chat_template = {"default": "{{ 1 }}", "tool_use": "{{ 2 }}"}
    folder = tmp_path_factory.mktemp("hf")
    oracle.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.falsifies("FALSIFY-TOKENIZER-009")
def test_a_folder_says_the_same_as_a_gguf(observe, hf_folder, texts, tmp_path):
    from transformers import AutoTokenizer

    oracle = AutoTokenizer.from_pretrained(hf_folder)
    found = read_tokenizer_folder(hf_folder)
    tokenizer = engine.Tokenizer.from_metadata(found)
    for special in (True, False):
        differ, compared = differing(
            texts,
            lambda text, special=special: (
                tokenizer.encode(text, special=special)
                != oracle.encode(text, split_special_tokens=not special)
            ),
        )
        observe("texts_with_other_ids", differ)
        observe("texts_compared", compared)
    wrong = [name for name, case in FOLDERS.items() if not tells(hf_folder, tmp_path / name, *case)]
    print(wrong)
    observe("folders_told_wrongly", len(wrong))
    observe("folders", len(FOLDERS))


def tells(saved: Path, folder: Path, change: Change, expected: dict[str, Any]) -> bool:
    found = read_tokenizer_folder(changed(saved, folder, change))
    return {key: found.get(f"tokenizer.{key}") for key in expected} == expected


@pytest.mark.falsifies("FALSIFY-TOKENIZER-010")
def test_a_folder_that_is_not_like_qwen2s_is_refused(observe, hf_folder, tmp_path):
    said = {}
    for name, (_, change) in BAD_FOLDERS.items():
        folder = changed(hf_folder, tmp_path / name, change)
        said[name] = error_of(lambda folder=folder: read_tokenizer_folder(folder))
    unclear = [name for name, (place, _) in BAD_FOLDERS.items() if not is_clear(said[name], place)]
    print([(name, said[name]) for name in unclear])
    observe("accepted", sum(error is None for error in said.values()))
    observe("unclear_errors", len(unclear))
    observe("folders", len(said))
