"""Data and teachers are known by their contents, and refused before anything is learned from them.

Oracles: lists of tokens written with `struct`, copies and flipped bits of model files, and the
folder that HF transformers saves.
"""

import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import engine
from engine.distill.data import Shards, Synthetic, open_data
from engine.distill.digest import content_digest
from engine.distill.teachers import open_teacher
from engine.fixture import FixtureShape
from falsifiers.provider_cases import V, pairs, random_shards, refusal, write_shards
from falsifiers.threads import one_thread  # noqa: F401 (a fixture)

T = 12
SMALL = FixtureShape(
    hidden=32, layers=1, heads=2, kv_heads=1, head_dim=16, dense_width=32, mix="F32", context=32
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """One model twice, in float32: a GGUF, and the HF folder that transformers saves."""
    from falsifiers.hf_oracle import hf_model

    folder = tmp_path_factory.mktemp("teachers")
    path = engine.write_fixture(folder / "a.gguf", architecture="qwen3", shape=SMALL)
    hf_model(path).save_pretrained(folder / "saved")
    return path, folder / "saved"


@pytest.mark.falsifies("F-DISTILL-DATA-005")
def test_a_teacher_is_told_by_its_contents(observe, folders, tmp_path):
    path, saved = folders
    copy = Path(shutil.copy(path, tmp_path / "another name.gguf"))
    observe("different_digests_of_one_model", len({digest(path), digest(copy), digest(saved)}) - 1)
    data = bytearray(path.read_bytes())
    others = []
    for place in (-5, -len(data) // 3, -len(data) // 2):  # among the tensors
        flipped = bytearray(data)
        flipped[place] ^= 1
        copy.write_bytes(flipped)
        others.append(digest(copy))
    for name, change in (("norm", {"rms_epsilon": 1e-5}), ("base", {"rope_base": 1e4})):
        shape = replace(SMALL, **change)
        others.append(
            digest(engine.write_fixture(tmp_path / name, architecture="qwen3", shape=shape))
        )
    observe("changes_unnoticed", 1 + len(others) - len({digest(path), *others}))


def digest(path: Path) -> str:
    return content_digest(engine.open_checkpoint(path))


@pytest.mark.falsifies("F-DISTILL-DATA-006")
def test_a_teacher_that_cannot_judge_is_refused_before_the_first_step(observe, tiny, tmp_path):
    known = Synthetic(T, vocabulary_size=512)
    corpus = write_shards(tmp_path / "corpus" / "train", range(40)).parent
    manifest = {"kind": "engine corpus, version 1", "vocabulary": "another"}
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    tries = {
        "512": lambda: open_teacher(tiny, data=Synthetic(513, vocabulary_size=512)),
        "513": lambda: open_teacher(tiny, data=Synthetic(T, vocabulary_size=513)),
        "other tokens": lambda: open_teacher(
            tiny, data=Shards(corpus / "train", T, vocabulary_size=512)
        ),
        "nothing.gguf": lambda: open_teacher(tmp_path / "nothing.gguf", data=known),
        "config.json": lambda: open_teacher(tmp_path, data=known),
        "cuda:9": lambda: open_teacher(tiny, device="cuda:9", route="plain", data=known),
        "warp": lambda: open_teacher(tiny, route="warp", data=known),
    }
    said = {word: refusal(call) for word, call in tries.items()}
    observe("accepted", sum(not text for text in said.values()))
    observe("unclear_refusals", sum(word not in text for word, text in said.items()))
    good = [refusal(lambda s=spec: open_teacher(s, data=known)) for spec in (tiny, "fixture")]
    observe("good_refused", sum(map(bool, good)))


@pytest.mark.falsifies("F-DISTILL-DATA-001")
@pytest.mark.parametrize("held_out", [0.1, 0.5])
def test_what_is_judged_by_is_never_learned_from(observe, tmp_path, held_out):
    folder, tokens = random_shards(tmp_path / "plain", 300, 301)
    corpus = tmp_path / "corpus"
    write_shards(corpus / "train", tokens[:400])
    write_shards(corpus / "heldout", tokens[400:])
    for place in (folder, corpus):
        halves = open_data(place, 7, vocabulary_size=V, held_out=held_out)
        seen, judged = (
            {token for pair in pairs(half.take(range(len(half)))) for token in pair}
            for half in halves
        )
        observe("tokens_in_both", len(seen & judged))
        observe("tokens_in_neither", len(set(tokens) - seen - judged))
        share = len(judged) / len(tokens)
        observe("share_off", abs(share - (held_out if place == folder else 201 / 601)))
        observe("shuffled_judges", int(halves[1].batch(0, 3).windows != (0, 1, 2)))
    synthetic = [
        Synthetic(9, vocabulary_size=V, windows=30, held_out=each) for each in (False, True)
    ]
    seen, judged = ({tuple(w) for w in each.take(range(30)).inputs.tolist()} for each in synthetic)
    observe("tokens_in_both", len(seen & judged))


@pytest.mark.falsifies("F-DISTILL-DATA-002")
def test_bad_data_is_refused_before_training(observe, tmp_path):
    good, _ = random_shards(tmp_path / "good", 30, 30)

    def shards(folder: str, seq_len: int = 4, **options) -> Shards:
        return Shards(tmp_path / folder, seq_len, **{"vocabulary_size": V, **options})

    odd = write_shards(tmp_path / "odd", [1] * 40, [2] * 40)
    (odd / "01.bin").write_bytes(b"\1\0\0\0" * 30 + b"\2\0")
    write_shards(tmp_path / "beyond", [1] * 40, [*range(33), V, V + 7, 1])
    write_shards(tmp_path / "short", [1, 2], [3, 4])
    (tmp_path / "empty").mkdir()
    tries = {
        ("01.bin", "122"): lambda: shards("odd"),
        ("01.bin", str(V), "position 33", str(V - 1)): lambda: shards("beyond"),
        ("short", "4 tokens", "5"): lambda: shards("short"),
        ("empty", "*.bin"): lambda: shards("empty"),
        ("nothing", "*.bin"): lambda: shards("nothing"),
        ("good", "60 tokens", "61"): lambda: shards("good", 60),
        ("part", "6 tokens", "11"): lambda: open_data(good, 10, vocabulary_size=V, held_out=0.1),
        ("seq_len", "0"): lambda: shards("good", 0),
        ("held_out", "1.5"): lambda: open_data(good, 4, vocabulary_size=V, held_out=1.5),
        ("window", "15"): lambda: shards("good").take([15]),
    }
    said = {words: refusal(call) for words, call in tries.items()}
    observe("accepted", sum(not text for text in said.values()))
    observe("unclear_refusals", sum(word not in said[words] for words in said for word in words))
    observe("good_refused", sum(bool(refusal(lambda n=n: shards("good", n))) for n in (1, 4, 59)))


@pytest.mark.falsifies("F-DISTILL-DATA-003")
def test_data_is_told_by_its_contents(observe, tmp_path):
    _, tokens = random_shards(tmp_path / "a", 40, 60)
    write_shards(tmp_path / "cut elsewhere", tokens[:7], tokens[7:])
    write_shards(tmp_path / "other", [*tokens[:-1], 0 if tokens[-1] else 1])
    same = [tmp_path / "a", tmp_path / "cut elsewhere"]
    digests = {Shards(each, 5, vocabulary_size=V, seed=s).digest for s, each in enumerate(same)}
    observe("different_digests_of_one_source", len(digests) - 1)
    halves = open_data(tmp_path / "a", 5, vocabulary_size=V, held_out=0.5)
    others = [Shards(tmp_path / "other", 5, vocabulary_size=V), *halves]
    others.append(Shards(tmp_path / "a", 6, vocabulary_size=V))
    found = {each.digest for each in others} | digests
    observe("changes_unnoticed", len(others) + 1 - len(found))


@pytest.mark.falsifies("F-DISTILL-DATA-004")
def test_the_synthetic_language_can_be_learned_and_not_too_well(observe):
    learned, judged = (
        Counter(
            pairs(Synthetic(63, vocabulary_size=64, windows=200, held_out=each).take(range(200)))
        )
        for each in (False, True)
    )
    followers = Counter(first for first, _ in learned)
    seen = Counter(first for first, _ in learned.elements())
    observe("followers_too_many", sum(count > 4 for count in followers.values()))
    heard = Counter({pair: count for pair, count in judged.items() if pair in learned})
    observe("heard_of", heard.total() / judged.total())
    losses = {pair: -math.log(learned[pair] / seen[pair[0]]) for pair in heard}
    loss = sum(losses[pair] * count for pair, count in heard.items()) / max(1, heard.total())
    observe("loss_of_who_knows_it", loss)
