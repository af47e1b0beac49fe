"""Publishing: a checkpoint as safetensors and GGUF says the same to everybody who loads it.

Oracles: llama.cpp's quantiser, HF transformers on the folder, llama.cpp on the GGUF, the `gguf`
package's reader, hashlib and the Hub's reader of cards.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, Keys, LlamaFileType
from gguf.quants import dequantize
from torch import Tensor

import engine
from engine import quant_search
from engine.publish import MANIFEST, Order, Published, publish
from engine.publish_gguf import plan_gguf
from engine.quant import quantise
from engine.quant_search import encode
from falsifiers.checkpoints import CHECKPOINTS, SMALL, STATE, saved_model, write_checkpoint
from falsifiers.forward_cases import prompts
from falsifiers.texts import TEXTS

SEARCHED = ("Q4_K", "Q5_K", "Q6_K")
FLOATS = ("F32", "F16", "BF16")
QUANTISED = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M")
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


@pytest.fixture
def published(checkpoint, tmp_path):
    """Publishes the checkpoint in a mix, and gives the folder and its GGUF."""

    def make(mix: str) -> tuple[Path, Path]:
        made = publish(Order(checkpoint, tmp_path / mix, mix))
        return made.folder, made.folder / made.gguf

    return make


def weights() -> dict[str, np.ndarray]:
    """Rows as they are in models: their spread, and what is harder (tails, spikes, gains)."""
    random, shape = np.random.default_rng(0), (24, 1024)
    found = {
        "normal": 0.02 * random.standard_normal(shape),
        "uniform": random.uniform(-0.05, 0.05, shape),
        "laplace": random.laplace(0, 0.02, shape),
        "heavy tails": 0.02 * random.standard_t(4, shape),
        "of columns that differ": random.standard_normal(shape) * random.gamma(2, 0.01, shape[1]),
        "gains": 1 + 0.2 * random.standard_normal(shape),
        "of one sign": -np.abs(random.standard_normal(shape)),
        "spikes": random.standard_normal(shape) + 50 * (random.random(shape) < 0.002),
    }
    return {name: rows.astype(np.float32) for name, rows in found.items()}


def rms(encoded: np.ndarray, kind: str, exact: np.ndarray) -> float:
    off = dequantize(encoded, GGMLQuantizationType[kind]).astype(np.float64) - exact
    return float(np.sqrt(np.square(off).mean()))


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


def awkward() -> np.ndarray:
    """A row for each thing that breaks a quantiser."""
    random = np.random.default_rng(1)
    rows = random.standard_normal((12, 512)).astype(np.float32)
    rows[0], rows[1], rows[2] = 0, 0.5, -0.5
    rows[3], rows[4] = np.abs(rows[3]), -np.abs(rows[4])
    rows[5] *= 1e-9
    rows[6, 17] = 1000
    rows[7] = -1000 + random.random(512)
    rows[8, :256] = 0
    rows[9] *= 1e-30
    rows[10] = np.where(np.arange(512) % 7 == 0, rows[10], 0)
    return rows


@pytest.mark.falsifies("FALSIFY-PUBLISH-002")
@pytest.mark.parametrize("kind", SEARCHED)
def test_a_block_is_encoded_by_its_numbers_alone(observe, monkeypatch, kind):
    rows = np.concatenate([awkward(), *weights().values()][:1] + [weights()["normal"][:, :512]])
    x = torch.from_numpy(rows)
    before = torch.get_num_threads()
    whole = encode(x, kind)
    torch.set_num_threads(2)
    try:
        differing = int((encode(x, kind) != whole).sum())
    finally:
        torch.set_num_threads(before)
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


def prompt(model: engine.Model) -> list[int]:
    return prompts(model.config.vocabulary_size)[-1][:POSITIONS]


def cosines(found: Tensor, expected: Tensor) -> Tensor:
    return torch.cosine_similarity(found, expected, dim=-1)


@pytest.mark.falsifies("FALSIFY-PUBLISH-003")
def test_folder_and_gguf_say_in_the_engine_what_the_folder_says_in_hf(observe, published):
    from falsifiers.hf_oracle import hf_logits

    for mix in FLOATS:
        folder, gguf = published(mix)
        model = engine.load(gguf)
        ids = prompt(model)
        expected = hf_logits(saved_model(folder), ids)
        exact, rounded = engine.load(folder).logits(ids), model.logits(ids)
        observe("max_error_of_the_folder", (exact - expected).abs().max())
        if mix == "F32":
            observe("max_error_of_f32", (rounded - expected).abs().max())
        observe("cosine", cosines(rounded, expected).min())
        observe("positions", len(rounded))


@pytest.mark.falsifies("FALSIFY-PUBLISH-004")
def test_the_gguf_says_in_llama_cpp_what_the_folder_says_in_hf(observe, published):
    from falsifiers.hf_oracle import hf_logits
    from falsifiers.llama_oracle import llama_logits, opened

    for mix in FLOATS:
        folder, gguf = published(mix)
        ids = prompt(engine.load(folder))
        with opened(gguf) as llama:
            found = llama_logits(llama, ids)
        cosine = cosines(found, hf_logits(saved_model(folder), ids))
        observe("f32_cosine" if mix == "F32" else "half_cosine", cosine.min())
        observe("positions", len(cosine))


@pytest.mark.falsifies("FALSIFY-PUBLISH-005")
def test_a_quantised_gguf_says_the_same_in_both_engines(observe, published):
    from falsifiers.llama_oracle import llama_logits, opened

    exact = None
    for mix in QUANTISED:
        folder, gguf = published(mix)
        model = engine.load(gguf)
        ids = prompt(model)
        exact = engine.load(folder).logits(ids) if exact is None else exact
        found = model.logits(ids)
        with opened(gguf) as llama:
            cosine = cosines(llama_logits(llama, ids), found)
        observe("lowest_cosine", cosine.min())
        observe("median_cosine", cosine.median())
        observe("median_of_the_checkpoint", cosines(found, exact).median())
        observe("positions", len(cosine))


# Sizes where the rule for types takes another turn -> architecture and shape.
TURNS = {
    "ten layers": ("qwen3", replace(SMALL, layers=10)),
    "six experts": ("qwen3moe", SMALL),
    "eight experts": ("qwen3moe", replace(SMALL, experts=8, layers=3)),
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
    for mix in ("Q6_K", "Q5_K_M", "Q4_K_M"):
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


def said_by_converter(config: dict, mix: str, name: str) -> dict[str, object]:
    """llama.cpp's keys for a config.json of Qwen's, with their values (convert_hf_to_gguf.py)."""
    arch = {"qwen3_moe": "qwen3moe"}.get(config["model_type"], config["model_type"])
    names = {
        Keys.LLM.BLOCK_COUNT: "num_hidden_layers",
        Keys.LLM.CONTEXT_LENGTH: "max_position_embeddings",
        Keys.LLM.EMBEDDING_LENGTH: "hidden_size",
        Keys.LLM.FEED_FORWARD_LENGTH: "intermediate_size",
        Keys.Attention.HEAD_COUNT: "num_attention_heads",
        Keys.Attention.HEAD_COUNT_KV: "num_key_value_heads",
        Keys.Attention.LAYERNORM_RMS_EPS: "rms_norm_eps",
    }
    if arch != "qwen2":
        names |= {Keys.Attention.KEY_LENGTH: "head_dim", Keys.Attention.VALUE_LENGTH: "head_dim"}
    if arch == "qwen3moe":
        names |= {
            Keys.LLM.EXPERT_COUNT: "num_experts",
            Keys.LLM.EXPERT_USED_COUNT: "num_experts_per_tok",
            Keys.LLM.EXPERT_FEED_FORWARD_LENGTH: "moe_intermediate_size",
        }
    config = {"num_experts": config.get("num_local_experts"), **config}
    said = {key.format(arch=arch): config[value] for key, value in names.items()}
    said[Keys.Rope.FREQ_BASE.format(arch=arch)] = config["rope_parameters"]["rope_theta"]
    said |= {Keys.General.ARCHITECTURE: arch, Keys.General.TYPE: "model", Keys.General.NAME: name}
    said |= {Keys.General.FILE_TYPE: LlamaFileType[f"MOSTLY_{mix}"]}
    said |= {Keys.General.QUANTIZATION_VERSION: 2, Keys.Tokenizer.ADD_BOS: False}
    return said | {Keys.Tokenizer.MODEL: "gpt2", Keys.Tokenizer.PRE: "qwen2"}


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


def write_evidence(folder: Path) -> Iterator[Path]:
    """What a run leaves: its order, its journal and a statement of verdicts."""
    folder.mkdir()
    result = {"falsifier": "F-X-001", "level": "algorithm", "verdict": "CORROBORATED"}
    result |= {"measures": {"held_out": {"value": 2.0625}}}
    contents = {
        "dispatch.json": json.dumps({"optimiser": {"rate": 0.0003125}, "teacher": "a|<b>\nc"}),
        "metrics.jsonl": '{"step": 0, "loss": 5.75}\n{"step": 40, "loss": 1.15625}\n',
        "evidence.json": json.dumps({"predicate": {"results": [result]}}),
    }
    for name, text in contents.items():
        (folder / name).write_text(text)
        yield folder / name


# What the card has to say of them.
FIGURES = (
    *("| optimiser.rate | 0.0003125 |", "a\\|&lt;b> c", "| loss | 5.75 | 1.15625 |"),
    "| F-X-001 | algorithm | CORROBORATED | held_out 2.0625 |",
)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def is_copy(path: Path | None, origin: Path) -> bool:
    return path is not None and path.read_bytes() == origin.read_bytes()


def arch(made: Published) -> str:
    return engine.open_checkpoint(made.folder / made.gguf).metadata["general.architecture"]


def parameters(made: Published) -> int:
    return sum(int(t.n_elements) for t in GGUFReader(made.folder / made.gguf).tensors)


def types(made: Published) -> set[str]:
    return {t.tensor_type.name for t in GGUFReader(made.folder / made.gguf).tensors}
