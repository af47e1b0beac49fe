"""Publishing: a checkpoint as safetensors and GGUF says the same to everybody who loads it.

Oracles: llama.cpp's quantiser, HF transformers on the folder, llama.cpp on the GGUF, the `gguf`
package's reader, hashlib and the Hub's reader of cards.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gguf import GGUFReader, Keys
from torch import Tensor

import engine
from engine import quant_search
from engine.publish import MANIFEST, Order, Published, publish
from engine.publish_gguf import plan_gguf
from engine.quant import quantise
from engine.quant_search import encode
from falsifiers.checkpoints import CHECKPOINTS, SMALL, STATE, saved_model, write_checkpoint
from falsifiers.forward_cases import prompts
from falsifiers.in_process import Command
from falsifiers.publish_cases import (
    BAD_CHECKPOINTS,
    FIGURES,
    Refusals,
    awkward,
    files_at_most,
    files_in,
    interrupt,
    rms,
    said_by_converter,
    weights,
    write_evidence,
)
from falsifiers.texts import TEXTS
from falsifiers.threads import threads

SEARCHED = ("Q4_K", "Q5_K", "Q6_K")
FLOATS = ("F32", "F16", "BF16")
QUANTISED = ("Q8_0", "Q4_K_M")
POSITIONS = 40
CHAT = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Que\u0301 es 漢字? <b> 12345"},
]
LEAST = 1e-8  # an error that is small beside any weight's


@pytest.fixture(scope="module", params=CHECKPOINTS)
def checkpoint(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("publish")
    return write_checkpoint(folder, request.param, CHECKPOINTS[request.param])


@pytest.fixture(scope="module")
def published(checkpoint, tmp_path_factory):
    """The folder and the GGUF of the checkpoint in a mix, made once."""

    @cache
    def make(mix: str) -> tuple[Path, Path]:
        made = publish(Order(checkpoint, tmp_path_factory.mktemp("mix") / mix, mix))
        return made.folder, made.folder / made.gguf

    return make


@pytest.fixture(scope="module")
def expected(checkpoint) -> tuple[list[int], Tensor]:
    """A prompt, and HF's logits of the checkpoint [T, V]."""
    from falsifiers.hf_oracle import hf_logits

    model = saved_model(checkpoint)
    ids = prompts(model.config.vocab_size)[-1][:POSITIONS]
    return ids, hf_logits(model, ids)


@pytest.mark.falsifies("FALSIFY-PUBLISH-001")
@pytest.mark.parametrize("kind", SEARCHED)
def test_searches_lose_no_more_than_llama_cpps(observe, kind):
    from falsifiers.ggml_oracle import ggml_quantize

    ratios = []
    for name, rows in weights().items():
        ours = rms(encode(torch.from_numpy(rows), kind).numpy(), kind, rows)
        ratios.append(ours / rms(ggml_quantize(rows, kind), kind, rows))
        print(kind, name, ratios[-1])
    observe("error_ratio", max(ratios))
    observe("tensors", len(ratios))


@pytest.mark.falsifies("FALSIFY-PUBLISH-002")
@pytest.mark.parametrize("kind", SEARCHED)
def test_a_block_is_encoded_by_its_numbers_alone(observe, monkeypatch, kind):
    rows = np.concatenate([awkward(), *weights().values()][:1] + [weights()["normal"][:, :512]])
    x = torch.from_numpy(rows)
    whole = encode(x, kind)
    with threads(2):
        differing = int((encode(x, kind) != whole).sum())
    monkeypatch.setattr(quant_search, "PIECE", 256)
    differing += int((encode(x, kind) != whole).sum())
    differing += int((encode(x.flip(0), kind).flip(0) != whole).sum())
    observe("differing_bytes", differing)
    observe("bytes", 3 * whole.numel())
    plain = quantise(x, kind).numpy()
    lost = [
        (rms(ours, kind, row), rms(theirs, kind, row))
        for ours, theirs, row in zip(whole.numpy(), plain, rows, strict=True)
    ]
    observe("worse_than_plain", max(ours / max(theirs, LEAST) for ours, theirs in lost))


def cosines(found: Tensor, expected: Tensor) -> Tensor:
    return torch.cosine_similarity(found, expected, dim=-1)


@pytest.mark.falsifies("FALSIFY-PUBLISH-003")
def test_folder_and_gguf_say_in_the_engine_what_the_checkpoint_says_in_hf(
    observe, published, expected
):
    from falsifiers.hf_oracle import hf_logits

    ids, logits = expected
    for mix in FLOATS:
        folder, gguf = published(mix)
        found = engine.load(gguf).logits(ids)
        observe("cosine", cosines(found, logits).min())
        observe("positions", len(found))
        if mix == "F32":
            three = (found, engine.load(folder).logits(ids), hf_logits(saved_model(folder), ids))
            observe("max_error", max((each - logits).abs().max() for each in three))


@pytest.mark.falsifies("FALSIFY-PUBLISH-004")
def test_the_gguf_says_in_llama_cpp_what_the_checkpoint_says_in_hf(observe, published, expected):
    from falsifiers.llama_oracle import llama_logits, opened

    ids, logits = expected
    for mix in FLOATS:
        with opened(published(mix)[1]) as llama:
            cosine = cosines(llama_logits(llama, ids), logits)
        observe("f32_cosine" if mix == "F32" else "half_cosine", cosine.min())
        observe("positions", len(cosine))


@pytest.mark.falsifies("FALSIFY-PUBLISH-005")
def test_a_quantised_gguf_says_the_same_in_both_engines(observe, published, expected):
    from falsifiers.llama_oracle import llama_logits, opened

    ids, logits = expected
    for mix in QUANTISED:
        gguf = published(mix)[1]
        found = engine.load(gguf).logits(ids)
        with opened(gguf) as llama:
            cosine = cosines(llama_logits(llama, ids), found)
        observe("lowest_cosine", cosine.min())
        observe("median_cosine", cosine.median())
        observe("median_of_the_checkpoint", cosines(found, logits).median())
        observe("positions", len(cosine))


# Sizes where the rule for types takes another turn -> architecture and shape.
TURNS = {
    "ten layers": ("qwen3", replace(SMALL, layers=10)),
    "eight experts": ("qwen3moe", replace(SMALL, experts=8)),
    "tied": ("qwen2", replace(SMALL, tied=True)),
    "rows of 288 and 160": ("qwen3", replace(SMALL, hidden=288, dense_width=160, tied=True)),
    "rows of 80 and 200": ("qwen3", replace(SMALL, hidden=80, dense_width=200, head_dim=48)),
}
WIDER = {"Q5_0": "Q8_0", "Q5_1": "Q8_0"}  # llama.cpp's fall-back, and ours that the engine reads


@pytest.mark.falsifies("FALSIFY-PUBLISH-006")
@pytest.mark.parametrize("turn", TURNS)
def test_types_are_those_of_llama_cpps_own_quantiser(observe, tmp_path, turn):
    from falsifiers.ggml_oracle import llama_types

    checkpoint = write_checkpoint(tmp_path, *TURNS[turn])
    made = publish(Order(checkpoint, tmp_path / "F32", "F32"))
    differing = compared = 0
    for mix in ("Q5_K_M", "Q4_K_M"):
        planned = plan_gguf(engine.open_checkpoint(checkpoint), mix).tensors
        found = {tensor.name: tensor.type for tensor in planned}
        expected = llama_types(made.folder / made.gguf, mix, tmp_path / f"{mix}.gguf")
        for name in found.keys() | expected.keys():
            compared += 1
            wanted = expected.get(name, "")
            if found.get(name) != WIDER.get(wanted, wanted):
                differing += 1
                print(mix, name, found.get(name), wanted)
    observe("differing_types", differing)
    observe("tensors", compared)


@pytest.mark.falsifies("FALSIFY-PUBLISH-007")
def test_ids_and_prompts_are_the_same_for_all_three(observe, checkpoint, published):
    from transformers import AutoTokenizer

    from falsifiers.tokenizer_oracles import LlamaCpp

    folder, gguf = published("F16")
    ours, hf, llama = (
        engine.load_tokenizer(gguf),
        AutoTokenizer.from_pretrained(folder),
        LlamaCpp(gguf),
    )
    texts = [text for text in TEXTS if "[PAD" not in text]  # a filler is text to HF and llama.cpp
    wrong = [
        text
        for text in texts
        if ours.encode(text) != hf.encode(text, add_special_tokens=False)
        or ours.encode(text, normalize=False) != llama.encode(text)
    ]
    print(wrong)
    observe("texts_with_other_ids", len(wrong))
    observe("texts", len(texts))
    observe("end_ids_that_differ", len({i for i in range(len(hf)) if llama.ends(i)} ^ ours.eos_ids))
    expected = hf.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    given = [engine.render_chat(path, CHAT) for path in (gguf, folder)]
    observe("other_prompts", sum(prompt != expected for prompt in given))
    observe("other_templates", int(llama_template(llama) != hf.chat_template))


def llama_template(llama) -> str:
    return llama._model.metadata["tokenizer.chat_template"]


@pytest.mark.falsifies("FALSIFY-PUBLISH-008")
def test_keys_are_those_of_llama_cpps_converter(observe, checkpoint, published):
    folder, gguf = published("F16")
    reader = GGUFReader(gguf)
    found = {key: each.contents() for key, each in reader.fields.items()}
    expected = said_by_converter(json.loads((checkpoint / "config.json").read_text()), "F16", "F16")
    wrong = [key for key, value in expected.items() if not is_near(found.get(key), value)]
    observe("wrong_values", len(wrong))
    known = expected.keys() | {
        value for key, value in vars(Keys.Tokenizer).items() if key.isupper()
    }
    others = [key for key in found if key not in known and not key.startswith("GGUF.")]
    print(wrong, others)
    observe("keys_of_nobody_else", len(others))
    observe("keys", len(expected))
    vectors = {t.tensor_type.name for t in reader.tensors if len(t.shape) == 1 or "inp" in t.name}
    matrices = {
        t.tensor_type.name for t in reader.tensors if len(t.shape) > 1 and "inp" not in t.name
    }
    observe("types_astray", len(vectors ^ {"F32"}) + len(matrices ^ {"F16"}))


def is_near(found: object, expected: object) -> bool:
    """Equal, but for the rounding of a float32."""
    if isinstance(expected, float):
        return isinstance(found, float) and abs(found - expected) <= 1e-6 * abs(expected)
    return found == expected


@pytest.mark.falsifies("FALSIFY-PUBLISH-009")
def test_the_folder_is_whole_and_says_what_is_in_it(observe, checkpoint, tmp_path):
    from huggingface_hub import ModelCard

    steps: list[tuple[int, int]] = []
    evidence = tuple(write_evidence(tmp_path / "run"))
    order = Order(checkpoint, tmp_path / "out", "Q4_K_M", "student", "mit", ("a/b",), evidence)
    made = publish(order, lambda *step: steps.append(step))
    files = {path.relative_to(made.folder).as_posix(): path for path in files_in(made.folder)}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    listed = dict(
        line.split("  ")[::-1] for line in (made.folder / MANIFEST).read_text().splitlines()
    )
    del digests[MANIFEST]
    observe("wrong_digests", len(listed.items() ^ digests.items()))
    observe("digests", len(listed))
    observe("wrong_reports", len({(f.path, f.sha256) for f in made.files} ^ listed.items()))
    same = {path.name for path in files_in(checkpoint)} - STATE.keys()
    changed = [n for n in same if not is_copy(files.get(n), checkpoint / n)]
    observe("changed_files", len(changed))
    observe("files_of_training", len(STATE.keys() & files.keys()))
    card = ModelCard.load(made.folder / "README.md")
    told = [card.data.license, card.data.base_model, card.data.library_name, *card.data.tags]
    observe("wrong_front_matter", int(told != ["mit", ["a/b"], "transformers", "gguf", arch(made)]))
    wanted = [f"{parameters(made):,} parameters", *FIGURES, *(f"{t} |" for t in types(made))]
    missing = [text for text in wanted if text not in card.text]
    print(changed, missing)
    observe("missing_from_the_card", len(missing))
    backwards = sum(later[0] < sooner[0] for sooner, later in pairwise(steps))
    observe("wrong_progress", backwards + (steps[-1][0] != steps[-1][1]) + (len(steps) < 20))


def is_copy(path: Path | None, origin: Path) -> bool:
    return path is not None and path.read_bytes() == origin.read_bytes()


def arch(made: Published) -> str:
    return engine.open_checkpoint(made.folder / made.gguf).metadata["general.architecture"]


def parameters(made: Published) -> int:
    return sum(int(t.n_elements) for t in GGUFReader(made.folder / made.gguf).tensors)


def types(made: Published) -> set[str]:
    return {t.tensor_type.name for t in GGUFReader(made.folder / made.gguf).tensors}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """One checkpoint, to be copied and spoilt."""
    return write_checkpoint(tmp_path_factory.mktemp("good"), "qwen3", replace(SMALL, layers=2))


@pytest.mark.falsifies("FALSIFY-PUBLISH-010")
def test_a_bad_checkpoint_is_refused_by_name(observe, good, tmp_path):
    refusals = Refusals(tmp_path)
    for change, words in BAD_CHECKPOINTS.values():
        shutil.copytree(good, tmp_path / "checkpoint", dirs_exist_ok=True)
        change(tmp_path / "checkpoint")
        refusals.expect(Order(tmp_path / "checkpoint", tmp_path / "out", "F16"), *words)
        shutil.rmtree(tmp_path / "checkpoint", ignore_errors=True)
    refusals.observe(observe)


@pytest.mark.falsifies("FALSIFY-PUBLISH-011")
def test_what_is_in_the_way_stays_as_it_was(observe, good, tmp_path, monkeypatch):
    refusals, out = Refusals(tmp_path), tmp_path / "out"
    order = Order(good, out, "Q8_0")
    publish(order)
    again = replace(order, overwrite=True)
    refusals.expect(order, str(out), "--overwrite")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("irreplaceable")
    refusals.expect(replace(again, out=foreign), str(foreign), MANIFEST)
    (tmp_path / "link").symlink_to(out)
    refusals.expect(replace(again, out=tmp_path / "link"), "link", MANIFEST)
    shutil.copytree(good, out / "mine")
    refusals.expect(replace(again, source=out / "mine"), str(out), "another folder")
    refusals.expect(replace(again, mix="Q4_0"), "--quantize", "Q4_K_M")
    refusals.expect(replace(again, name="../x"), "--name", "../x")
    refusals.expect(replace(again, source=good / "config.json"), "no folder")
    refusals.expect(replace(again, evidence=(good / "optimiser.pt",)), "optimiser.pt", "JSON")
    twice = (good / "state.json", good / "checkpoint" / "state.json")
    refusals.expect(replace(again, evidence=twice), "--evidence", "state.json")
    refusals.expect(again, "KeyboardInterrupt", progress=interrupt)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
        refusals.expect(again, "10000 bytes free", "room")
    with files_at_most(500_000):
        refusals.expect(again, str(out), "expected to write there")
    refusals.observe(observe)
    made = publish(again)
    observe("replaced", int((made.folder / made.gguf).exists() and not (out / "mine").exists()))


@pytest.fixture
def engine_command(capsys, monkeypatch) -> Command:
    return Command(capsys, monkeypatch)


@pytest.mark.falsifies("FALSIFY-PUBLISH-012")
def test_the_command_says_what_it_wrote(observe, engine_command, good, tmp_path):
    out = tmp_path / "student"
    done = engine_command("publish", good, "--out", out, "--quantize", "Q8_0")
    files = {path.name for path in files_in(out)} - {MANIFEST}
    observe("unsaid_files", sum(name not in done.out for name in files))
    observe("files", len(files))
    refused = engine_command("publish", good, "--out", out)
    observe("lines_on_error", len(refused.err.splitlines()) + len(refused.lines))
    printed = engine_command("publish", good, "--out", out, "--overwrite", "--json", "-")
    found = json.loads(printed.out)
    listed = (out / MANIFEST).read_text().splitlines()
    said = [f"{file['sha256']}  {file['path']}" for file in found["files"]]
    observe("wrong_lines_of_json", len(set(said) ^ set(listed)))
    codes = (done.code, refused.code, printed.code)
    observe("wrong_exit_codes", sum(a != b for a, b in zip(codes, (0, 2, 0), strict=True)))
    lines = [line.replace(str(out), "DIR") for line in done.lines]
    observe("wide_lines", sum(len(line) > 80 for line in lines))
