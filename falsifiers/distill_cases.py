"""A small pair to distil, and what is measured of it.

The text is `Synthetic`: each token is followed by one of four, all as likely. Whoever has learned
it finds four tokens about as good, and which of them it likes best is its own whim. So two
teachers of equal loss, made from different seeds, agree with each other in little; and only a
student that listened to one of them shares its whims.
"""

import atexit
import json
import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from engine.checkpoint import open_checkpoint
from engine.distill.data import Batch, Source, Synthetic, open_data
from engine.distill.hf_folder import write_folder
from engine.distill.journal import read_metrics
from engine.distill.loop import Training
from engine.distill.objective import Targets
from engine.distill.recipe import Recipe
from engine.distill.student import Student, fresh
from engine.distill.teachers import ModelTeacher

V, T = 48, 12
SEEDS = (0, 1, 2)
CONFIG = {
    "vocab_size": V,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e4,
    "tie_word_embeddings": False,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
KINDS = {
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"model_type": "qwen3"},
    "qwen3moe": {"model_type": "qwen3_moe", "norm_topk_prob": True, **MOE},
}
RECIPE = Recipe(
    steps=100,
    batch=8,
    seq_len=T,
    learning_rate=1e-2,
    warmup=5,
    temperature=1.0,
    alpha=0.2,
    heldout_every=50,
    heldout_windows=32,
    save_every=1000,
)


def config(kind: str = "qwen3", **changed) -> dict:
    """A config.json of a small student."""
    return CONFIG | KINDS[kind] | changed


def student(kind: str = "qwen3", seed: int = 0, **changed) -> Student:
    return fresh(config(kind, **changed), "config", seed)


def text(windows: int = 64) -> Synthetic:
    """What is learned from: little enough that a student alone learns it by heart."""
    return Synthetic(T, vocabulary_size=V, windows=windows)


def held_out(windows: int = 64) -> Synthetic:
    return Synthetic(T, vocabulary_size=V, windows=windows, held_out=True)


def weights(model: Student) -> dict[str, Tensor]:
    return {name: each.detach().clone() for name, each in model.named_parameters()}


@cache
def folder() -> Path:
    """Where trained teachers lie while the process lives."""
    made = Path(tempfile.mkdtemp(prefix="distill-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def teacher_folder(seed: int = 0) -> Path:
    """A teacher that has learned the text, by a plain loop of its own; a HF folder."""
    torch.manual_seed(seed)
    model, source = student(seed=100 + seed, hidden_size=48), text(4096)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2, fused=True)
    for step in range(130):
        batch = source.batch(1000 * seed + step, 16)
        loss = functional.cross_entropy(
            model.logits(batch.inputs).flatten(0, 1), batch.labels.flatten()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = folder() / f"teacher-{seed}"
    write_folder(path, weights(model), model.hf, None)
    return path


def teacher(seed: int = 0) -> ModelTeacher:
    path = teacher_folder(seed)
    return ModelTeacher.from_checkpoint(str(path), open_checkpoint(path), route="plain")


@dataclass(frozen=True)
class Trained:
    """What a run left, and what it began with."""

    run: Path
    before: dict[str, Tensor]
    model: Student

    @property
    def rows(self) -> list[dict]:
        return read_metrics(self.run)

    @property
    def losses(self) -> list[float]:
        return [row["loss"] for row in self.rows if "loss" in row]

    @property
    def held_out(self) -> list[float]:
        return [row["heldout_loss"] for row in self.rows if "heldout_loss" in row]

    def held_out_at(self, step: int) -> tuple[float, float]:
        """The held-out loss at first, and at a step or at the end."""
        found = {row["step"]: row["heldout_loss"] for row in self.rows if "heldout_loss" in row}
        return found[0], found.get(step, found[max(found)])


def trained(run: Path, by: object, recipe: Recipe = RECIPE, seed: int = 0, **options) -> Trained:
    """A student of `by`, from `seed`."""
    model = options.pop("model", None) or student(seed=seed)
    before = weights(model)
    source, judge = options.pop("source", None) or text(), options.pop("judge", None) or held_out()
    targets = Targets(by, model.config.vocabulary_size, torch.device("cpu"))
    ways = {"ahead": 0} | {key: options.pop(key) for key in ("ahead", "saved") if key in options}
    training = Training(model, targets, source, judge, recipe, run, **ways)
    training.train(**options)
    return Trained(run, before, model)


@torch.no_grad()
def logits(model: object, batch: Batch | None = None) -> Tensor:
    """Of text that nobody learned from, [windows * T, V]."""
    batch = held_out().take(range(64)) if batch is None else batch
    found = model.logits(batch.inputs if isinstance(model, Student) else batch)
    return found.flatten(0, 1)


def agreement(a: Tensor, b: Tensor) -> float:
    return float((a.argmax(-1) == b.argmax(-1)).double().mean())


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=-1).mean())


def divergence(teacher_logits: Tensor, student_logits: Tensor) -> float:
    """KL(teacher || student) in nats."""
    t, s = (each.double().log_softmax(-1) for each in (teacher_logits, student_logits))
    return float((t.exp() * (t - s)).sum(-1).mean())


def stream(path: Path, windows: int = 64) -> Path:
    """A folder of one shard that holds the text."""
    path.mkdir()
    text(windows).tokens(range(windows))[:, :T].astype("<u4").tofile(path / "0.bin")
    return path


def config_file(path: Path, kind: str = "qwen3", **changed) -> Path:
    path.write_text(json.dumps(config(kind, **changed)))
    return path


@dataclass(frozen=True)
class Pair:
    """Who teaches whom on what; the embedded pair, or one on a corpus that was given."""

    recipe: Recipe
    text: Source
    judge: Source
    own: dict  # what a student's config has of its own
    teachers: tuple[ModelTeacher, ModelTeacher]  # the second is a twin, from another seed

    def run(self, place: Path, who: str, seed: int) -> Trained:
        """By the `teacher`, by its `twin`, or by `nobody`, that is with alpha = 1."""
        recipe = replace(self.recipe, alpha=1.0) if who == "nobody" else self.recipe
        by, model = self.teachers[who == "twin"], student(seed=seed, **self.own)
        return trained(place, by, recipe, model=model, source=self.text, judge=self.judge)

    def said(self, model: object) -> Tensor:
        """Logits of a model on text that nobody learned from."""
        return logits(model, self.judge.take(range(min(64, len(self.judge)))))

    def fresh(self, seed: int) -> Student:
        return student(seed=seed, **self.own)


def embedded() -> Pair:
    return Pair(RECIPE, text(), held_out(), {}, (teacher(0), teacher(1)))


@cache
def on_corpus(corpus: Path) -> Pair:
    """A pair on what `engine corpus` made; its teachers are trained here, for some minutes."""
    size = json.loads((corpus / "manifest.json").read_text())["vocabulary_size"]
    recipe = Recipe(
        steps=1000,
        batch=8,
        seq_len=64,
        learning_rate=3e-3,
        warmup=50,
        temperature=1.0,
        alpha=0.2,
        heldout_every=100,
        heldout_windows=64,
        save_every=10_000,
    )
    train, judge = open_data(corpus, recipe.seq_len, vocabulary_size=size)
    sizes = {"vocab_size": size, "hidden_size": 64, "intermediate_size": 192}
    sizes |= {"num_hidden_layers": 2, "max_position_embeddings": 256}
    large = {"hidden_size": 160, "num_attention_heads": 6, "num_hidden_layers": 3}
    large |= {"intermediate_size": 480}
    teachers = []
    for seed in range(2):
        model, place = student(seed=100 + seed, **(sizes | large)), folder() / f"corpus-{seed}"
        alone = replace(recipe, alpha=1.0, steps=1000, seed=seed)
        trained(place, Silent(size), alone, model=model, source=train, judge=judge)
        checkpoint = open_checkpoint(place / "best")
        teachers.append(ModelTeacher.from_checkpoint(f"teacher {seed}", checkpoint, route="plain"))
    return Pair(recipe, train, judge, sizes, (teachers[0], teachers[1]))


class Silent:
    """Stands where a teacher does, and says nothing: all tokens are alike to it."""

    name = digest = "silent"

    def __init__(self, size: int) -> None:
        self._size = size

    def logits(self, batch: Batch) -> Tensor:
        return torch.zeros(*batch.inputs.shape, self._size)
