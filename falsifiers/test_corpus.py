"""`engine corpus`: what is in the shards, what is held out, what is left out, and for whom.

Oracles: the texts themselves, HF's `tokenizers` and `transformers` on the files that are written,
`struct` and `hashlib`.
"""

import json
import shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
import tokenizers

import engine
from engine import corpus as making
from engine.bpe import SPECIAL, train_bpe
from engine.corpus import write_corpus
from engine.distill.data import open_data
from engine.texts import find_texts
from engine.tokenizer_json import read_tokenizer_folder
from falsifiers.corpus_cases import BAD, composed, documents, stream, words, write_bad, write_texts
from falsifiers.differences import differing
from falsifiers.in_process import Command
from falsifiers.provider_cases import contents, refusal
from falsifiers.small_vocabulary import small_vocabulary

TRAINED = 300  # tokens
KEYS = ("tokens", "token_type", "merges", "bos_token_id", "eos_token_id", "padding_token_id")


@pytest.fixture
def command(capsys, monkeypatch) -> Command:
    return Command(capsys, monkeypatch)


def made(tmp_path: Path, vocabulary=TRAINED, **options) -> tuple[Path, dict, dict[str, str]]:
    """A corpus of the good texts: its folder, its manifest, and the texts by name."""
    texts = write_texts(tmp_path / "texts")
    options = {"held_out": 0.3, **options}
    found = find_texts(tmp_path / "texts")
    told = write_corpus(found, tmp_path / "corpus", vocabulary=vocabulary, **options)
    return tmp_path / "corpus", told, texts


def halves(told: dict, texts: dict[str, str]) -> dict[str, list[str]]:
    """The names of the texts in each half, in their order."""
    held = set(told["held_out_files"])
    return {
        "train": [n for n in texts if n not in held],
        "heldout": [n for n in texts if n in held],
    }


@pytest.mark.falsifies("F-CORPUS-001")
@pytest.mark.parametrize("kind", ["trained", "given"])
def test_the_shards_hold_the_texts(observe, tmp_path, kind):
    vocabulary = TRAINED if kind == "trained" else small_vocabulary()
    folder, told, texts = made(tmp_path, vocabulary, shard_tokens=500)
    hf = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for half, names in halves(told, texts).items():
        ids = stream(folder / half)
        parts = documents(ids, told["end_of_text"])
        found = [hf.decode(each, skip_special_tokens=False) for each in parts]
        observe("differing_texts", differing(found, [composed(texts[name]) for name in names]))
        plain = [name for name in names if "<|" not in texts[name]]  # where HF finds no token
        expected = [hf.encode(texts[name], add_special_tokens=False).ids for name in plain]
        kept = [part for part, name in zip(parts, names, strict=False) if name in plain]
        observe("differing_ids", differing(kept, expected))
        observe("tokens_miscounted", abs(told[half]["tokens"] - len(ids)))
        size = sum(len(texts[name].encode()) for name in names)
        observe("bytes_miscounted", abs(told[half]["bytes"] - size))
        rows = {each["file"]: each for each in told[half]["shards"]}
        observe("wrong_digests", sum(
            rows[path.name]["sha256"] != sha256(path.read_bytes()).hexdigest()
            for path in (folder / half).iterdir()
        ))  # fmt: skip
    sizes = [each["tokens"] for each in told["train"]["shards"]]
    observe("shards_of_another_size", sum(size != 500 for size in sizes[:-1]) + (sizes[-1] > 500))
    observe("shards", len(sizes))


@pytest.mark.falsifies("F-CORPUS-002")
def test_whole_files_are_held_out(observe, tmp_path):
    folder, told, texts = made(tmp_path)
    parts = halves(told, texts)
    counted = [told[half]["files"] for half in parts]
    observe("files_miscounted", differing(counted, [len(names) for names in parts.values()]))
    observe("held_out_unknown", len(set(told["held_out_files"]) - set(texts)))
    sizes = {name: len(text.encode()) for name, text in texts.items()}
    share = sum(sizes[name] for name in parts["heldout"]) / sum(sizes.values())
    observe("share", share)
    again = write_texts(tmp_path / "renamed")
    for name in again:
        (tmp_path / "renamed" / name).rename(
            tmp_path / "renamed" / f"{sha256(name.encode()).hexdigest()}.py"
        )
    for name in ("x.py", "y.py"):  # a copy of each half's first text
        text = texts[parts["train" if name == "x.py" else "heldout"][0]]
        (tmp_path / "renamed" / name).write_bytes(text.encode())
    renamed = find_texts(tmp_path / "renamed")
    other = write_corpus(renamed, tmp_path / "other", vocabulary=TRAINED, held_out=0.3)
    observe("names_that_matter", abs(other["heldout"]["bytes"] - told["heldout"]["bytes"]))
    both = {each.digest for each in renamed.files if each.name in other["held_out_files"]}
    held = {sha256(texts[name].encode()).hexdigest() for name in parts["heldout"]}
    observe("names_that_matter", len(both ^ held))
    seeds = [made(tmp_path / str(seed), seed=seed)[1]["held_out_files"] for seed in (1, 2, 3)]
    observe("choices_by_seed", len(set(map(tuple, seeds))))
    observe(
        "copies_learned", int(other["train"]["files"] + other["heldout"]["files"] != len(texts))
    )


@pytest.mark.falsifies("F-CORPUS-003")
def test_a_vocabulary_is_learned_from_what_is_learned_from(observe, tmp_path):
    folder, told, texts = made(tmp_path)
    learned = [composed(texts[name]) for name in halves(told, texts)["train"]]
    tokens, merges = train_bpe(learned, TRAINED)
    keys = read_tokenizer_folder(folder)
    observe("differing_tokens", differing(keys["tokenizer.ggml.tokens"], tokens))
    observe("differing_merges", differing(keys["tokenizer.ggml.merges"], merges))
    everything, _ = train_bpe([composed(text) for text in texts.values()], TRAINED)
    observe("tokens_that_all_would_give", differing(tokens, everything))
    observe("size", told["vocabulary_size"])


@pytest.mark.falsifies("F-CORPUS-004")
@pytest.mark.parametrize("kind", ["trained", "given", "fixture"])
def test_its_tokenizer_is_hugging_faces_and_ours(observe, tmp_path, tiny, kind):
    from transformers import AutoTokenizer

    given = {
        "trained": TRAINED,
        "given": small_vocabulary(eos_token_id=259),
        "fixture": engine.open_checkpoint(tiny).metadata,
    }[kind]
    folder, told, texts = made(tmp_path, given)
    ours = engine.load_tokenizer(tiny) if kind == "fixture" else _tokenizer(folder)
    hf = AutoTokenizer.from_pretrained(folder)
    samples = [*texts.values(), "<|im_start|>user\nHi<|im_end|>\n", "e\u0301<|endoftext|>"]
    wrong = [text for text in samples if hf.encode(text) != ours.encode(text)]
    observe("differing_texts", len(wrong))
    if isinstance(given, int):
        message = [{"role": "user", "content": "Hi"}]
        told_so = hf.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        observe(
            "template_off",
            int(told_so != "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"),
        )
        observe(
            "special_tokens_off", differing([hf.bos_token, hf.eos_token], [SPECIAL[0], SPECIAL[2]])
        )
    else:
        keys = read_tokenizer_folder(folder)
        lost = [key for key in KEYS if not _kept(f"tokenizer.ggml.{key}", given, keys)]
        observe(
            "template_off",
            int(keys.get("tokenizer.chat_template") != given.get("tokenizer.chat_template")),
        )
        observe("special_tokens_off", len(lost))


def _tokenizer(folder: Path) -> engine.Tokenizer:
    return engine.Tokenizer.from_metadata(read_tokenizer_folder(folder))


def _kept(key: str, given: dict, found: dict) -> bool:
    """Whether a key came through; Hugging Face knows no fillers, and three types of tokens."""
    expected, size = given.get(key), len(found["tokenizer.ggml.tokens"])
    if key.endswith("token_type"):
        expected = [{2: 3, 5: 1, 6: 1}.get(kind, kind) for kind in given[key][:size]]
    if key.endswith("tokens"):
        expected = given[key][:size]
    return found.get(key) == expected


@pytest.mark.falsifies("F-CORPUS-005")
def test_what_is_left_out_is_counted_out_loud(observe, tmp_path, command):
    texts = write_texts(tmp_path / "texts")
    write_bad(tmp_path / "texts")
    expected = Counter(reason for _, reason in BAD.values()) + Counter({"links": 2, "empty": 1})
    expected["hidden"] = 2  # a file, and a folder that is not entered
    expected["excluded"] = 1
    out = tmp_path / "corpus"
    filters = [
        *("--include", "*.py", "--include", "*.txt", "--include", "*.md"),
        "--exclude",
        "tests",
    ]
    ran = command(
        "corpus", tmp_path / "texts", "--out", out, *filters, "--train-vocabulary", TRAINED
    )
    told = json.loads((out / "manifest.json").read_text())
    observe(
        "miscounted",
        sum(
            (
                (expected - Counter(told["left_out"])) + (Counter(told["left_out"]) - expected)
            ).values()
        ),
    )
    observe("reasons_unsaid", sum(f"{n} {reason}" not in ran.out for reason, n in expected.items()))
    taken = told["train"]["files"] + told["heldout"]["files"]
    observe("texts_missed", abs(len(texts) - taken))
    observe("wrong_exit_codes", abs(ran.code))


@pytest.mark.falsifies("F-CORPUS-006")
def test_the_same_texts_give_the_same_bytes(observe, tmp_path):
    one, _, _ = made(tmp_path / "here")
    other, _, _ = made(tmp_path / "there" / "and" / "elsewhere")
    found = [sorted(contents(folder).items()) for folder in (one, other)]
    observe("differing_files", differing(*found))
    observe("files", len(found[0]))


@pytest.mark.falsifies("F-CORPUS-007")
def test_a_corpus_is_whole_or_not_there(observe, monkeypatch, tmp_path):
    write_texts(tmp_path / "texts")
    good = find_texts(tmp_path / "texts")
    (tmp_path / "single").mkdir()
    (tmp_path / "single" / "a.txt").write_text("one")
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    endless = {**small_vocabulary(eos_token_id=None)}
    endless["tokenizer.ggml.tokens"] = [
        token.replace("<|endoftext|>", "<|other|>") for token in endless["tokenizer.ggml.tokens"]
    ]
    before = set(tmp_path.iterdir())

    def write(texts=good, out="new", vocabulary=TRAINED, **options):
        return write_corpus(texts, tmp_path / out, vocabulary=vocabulary, **options)

    tries = {
        "full": lambda: write(out="full"),
        "1 file": lambda: write(find_texts(tmp_path / "single")),
        "no text": lambda: find_texts(tmp_path / "empty"),
        "no folder": lambda: find_texts(tmp_path / "nowhere"),
        "held-out": lambda: write(held_out=1.5),
        "at least 259": lambda: write(vocabulary=200),
        "<|endoftext|>": lambda: write(vocabulary=endless),
        "room": lambda: _crowded(monkeypatch, write),
        "a moment ago": lambda: write(_changed(tmp_path)),
    }
    said = {word: refusal(call) for word, call in tries.items()}
    observe("accepted", sum(not text for text in said.values()))
    observe("unclear_refusals", sum(word not in text for word, text in said.items()))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(making, "vocabulary_digest", _interrupt)
        write()
    left = set(tmp_path.iterdir()) - before - {tmp_path / "changed"}
    observe("left_behind", len(left) + int((tmp_path / "full" / "mine.txt").read_text() != "mine"))


def _interrupt(*_):
    raise KeyboardInterrupt


def _crowded(monkeypatch, write):
    usage = shutil.disk_usage("/")._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda folder: usage)
        return write()


def _changed(tmp_path: Path):
    """Texts one of which has changed since it was found."""
    write_texts(tmp_path / "changed")
    found = find_texts(tmp_path / "changed")
    (tmp_path / "changed" / "n" / "03.py").write_text(words(999))
    return found


@pytest.mark.falsifies("F-CORPUS-008")
def test_the_command_makes_what_a_run_learns_from(observe, tmp_path, tiny, command):
    out = tmp_path / "corpus"
    options = ("--out", out, "--include", "[a-c]*.py", "--exclude", "[!ac]*", "--tokenizer", tiny)
    ran = command("corpus", "--stdlib", *options, "--json", "-")
    told = json.loads(ran.out)
    train, judge = open_data(out, 32, vocabulary_size=engine.load_tokenizer(tiny).vocab_size)
    seen = [each.seq_len * len(each) + 1 for each in (train, judge)]
    whole = [told[half]["tokens"] for half in ("train", "heldout")]
    observe("tokens_unseen", max(0, *(all_ - each for all_, each in zip(whole, seen, strict=True))))
    observe("tests_of_the_library", sum("test" in name for name in told["held_out_files"]))
    observe("files", told["train"]["files"] + told["heldout"]["files"])
    bad = [
        command("corpus", "--out", tmp_path / "a"),
        command("corpus", tmp_path, "--stdlib", "--out", tmp_path / "a"),
        command("corpus", tmp_path, "--out", tmp_path / "a", "--tokenizer", out / "train"),
        command("corpus", tmp_path, *options[:2], "--tokenizer", tiny, "--train-vocabulary", 300),
    ]
    observe("wrong_exit_codes", abs(ran.code) + sum(each.code != 2 for each in bad))
    observe("lines_on_error", max(len(each.err.splitlines()) for each in bad))
