"""What `make distill-demo` made, and the small model of it that text is judged by here.

The demo trains a teacher on the standard library's source, distils a student from the teacher's
quantised GGUF and publishes it. One such student is kept, and a file with random weights stands
beside it, to show that what is measured tells the two apart.

Oracles: llama.cpp on the same file, hashlib, and the words of the text itself.
"""

import hashlib
import json
import math
import os
import re
import textwrap
from pathlib import Path

import httpx
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import engine
from engine.distill.data import Batch, open_data
from engine.distill.journal import read_dispatch, read_metrics
from engine.distill.student import open_student
from engine.distill.teachers import open_teacher
from falsifiers.embedded import EMBEDDED, trained_gguf
from falsifiers.serving import NAME, booted, opened, ready
from falsifiers.threads import one_thread  # noqa: F401 (a fixture)

DEMO = Path(os.environ.get("DISTILL_DEMO_PATH", "."))
SOURCE = Path(textwrap.__file__).read_text(encoding="utf-8")[:3000]
POSITIONS = 240
BEGUN = (
    "import os\n",
    "def read(self, ",
    "    if not isinstance(",
    "class Error(Exception):\n    ",
)


def bits(logits: Tensor, ids: list[int], text_bytes: int) -> float:
    """Bits that each byte of a text takes, its first token given."""
    nats = functional.cross_entropy(logits[:-1].double(), torch.tensor(ids[1:]), reduction="sum")
    return float(nats) / math.log(2) / text_bytes


def bits_of(path: Path) -> float:
    """Of a module's source, by the engine."""
    tokenizer = engine.load_tokenizer(path)
    ids = tokenizer.encode(SOURCE)[:POSITIONS]
    read = len(tokenizer.decode(ids[1:]).encode())
    return bits(engine.load(path).forward(ids), ids, read)


@pytest.mark.falsifies("F-DISTILL-DEMO-001")
def test_the_embedded_model_has_learned_the_language_of_its_text(observe, tiny):
    from falsifiers.llama_oracle import llama_logits
    from falsifiers.llama_oracle import opened as opened_by_llama

    found = bits_of(EMBEDDED)
    observe("bits_per_byte", found)
    observe("bits_per_byte_of_random_weights", bits_of(tiny))
    tokenizer = engine.load_tokenizer(EMBEDDED)
    ids = tokenizer.encode(SOURCE)[:POSITIONS]
    read = len(tokenizer.decode(ids[1:]).encode())
    with opened_by_llama(EMBEDDED) as llama:
        there = bits(llama_logits(llama, ids), ids, read)
    observe("off_llama_cpp", abs(found / there - 1))


@pytest.fixture
def run() -> Path:
    return DEMO / "student-run"


@pytest.fixture
def student() -> Path:
    """The published file."""
    return DEMO / "student/student-Q4_K_M.gguf"


@pytest.fixture
def held_out(run) -> Batch:
    """The text that the run was judged by."""
    recipe = read_dispatch(run)["plan"]["recipe"]
    size = open_student(run / "best").config.vocabulary_size
    corpus = open_data(DEMO / "corpus", recipe["seq_len"], vocabulary_size=size)
    return corpus[1].take(range(recipe["heldout_windows"]))


def loss(logits: Tensor, batch: Batch) -> float:
    return float(functional.cross_entropy(logits.flatten(0, -2), batch.labels.flatten()))


def agreement(a: Tensor, b: Tensor) -> float:
    return float((a.argmax(-1) == b.argmax(-1)).double().mean())


@torch.no_grad()
@pytest.mark.falsifies("F-DISTILL-DEMO-002")
def test_the_student_learned_from_the_teachers_file(observe, run, held_out):
    observe.at("functional", artifact=run / "metrics.jsonl")
    dispatch = read_dispatch(run)
    teacher = open_teacher(DEMO / "teacher/teacher-Q4_K_M.gguf")
    observe("taught_by_the_published_file", dispatch["digests"]["teacher"] == teacher.digest)
    said = teacher.logits(held_out)
    fresh = open_student(Path(dispatch["plan"]["student"])).logits(held_out.inputs)
    best = open_student(run / "best").logits(held_out.inputs)
    observe("heldout_ratio", loss(best, held_out) / loss(fresh, held_out))
    observe("heldout_over_the_teachers", loss(best, held_out) - loss(said, held_out))
    observe("agreement_rise", agreement(best, said) - agreement(fresh, said))
    observe("mirror", dispatch["mirror"])
    numbers = [read_dispatch(DEMO / f"{who}-run")["parameters"] for who in ("teacher", "student")]
    observe("students_size", numbers[1] / numbers[0])
    for who in ("teacher", "student"):
        observe.attach(DEMO / f"{who}-run/curves.png")


@pytest.mark.falsifies("F-DISTILL-DEMO-003")
def test_what_is_published_is_what_was_trained(observe, run, student, held_out):
    observe.at("functional", artifact=student)
    lines = (student.parent / "SHA256SUMS").read_text().splitlines()
    told = {name: digest for digest, name in (line.split(maxsplit=1) for line in lines)}
    observe("wrong_digests", sum(sha256(student.parent / name) != told[name] for name in told))
    observe("files", len(told))
    losses = [row["heldout_loss"] for row in read_metrics(run) if "heldout_loss" in row]
    model = engine.load(student)
    logits = torch.stack([model.forward(window) for window in held_out.inputs.tolist()])
    observe("heldout_over_told", loss(logits, held_out) - min(losses))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_]{3,}", text)


@pytest.mark.falsifies("F-DISTILL-DEMO-004")
def test_the_served_model_writes_in_the_words_of_its_text(observe, tiny):
    trained = trained_gguf()
    known = set(words("".join(each.read_text() for each in modules())))
    for path, name in ((trained, "known_words"), (tiny, "known_words_of_random_weights")):
        served = opened(path)
        with booted(ready(served)) as url:
            written = [completed(url, begun) for begun in BEGUN]
        print(json.dumps(written, indent=1))
        found = [word for text in written for word in words(text)]
        observe(name, sum(word in known for word in found) / max(1, len(found)))
        if path == trained:
            observe("words", len(found))


def modules() -> list[Path]:
    """The standard library's own, at its top, and the names of all characters."""
    library = Path(os.__file__).parent
    return [*library.glob("*.py"), *library.glob("encodings/*.py")]


def completed(url: str, begun: str) -> str:
    body = {"model": NAME, "prompt": begun, "max_tokens": 32, "temperature": 0}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=600)
    return answer.raise_for_status().json()["choices"][0]["text"]
