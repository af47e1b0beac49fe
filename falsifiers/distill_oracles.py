"""What training is held against: a plain loop, mirrors of a model, teachers with a fault."""

import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from engine.distill.teachers import ModelTeacher
from engine.errors import EngineError
from falsifiers import distill_cases as cases


def plain_loop(model, teacher, recipe):
    """The recipe, word by word, in torch's own functions."""
    named = dict(model.named_parameters())
    matrices = [each for each in named.values() if each.dim() > 1]
    vectors = [each for each in named.values() if each.dim() == 1]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    options = {"betas": (recipe.beta1, recipe.beta2), "eps": recipe.epsilon}
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, **options)
    left = recipe.steps - recipe.warmup
    losses = []
    for step in range(recipe.steps):
        if step < recipe.warmup:
            rate = recipe.learning_rate * (step + 1) / recipe.warmup
        else:
            turn = torch.tensor(torch.pi * (step - recipe.warmup) / (left - 1)).cos().item()
            rate = recipe.learning_rate * (recipe.least + (1 - recipe.least) * (1 + turn) / 2)
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch, kept = cases.text().batch(step, recipe.batch), recipe.temperature
        s, t = model.logits(batch.inputs).flatten(0, 1), teacher.logits(batch).flatten(0, 1)
        ce = functional.cross_entropy(s, batch.labels.flatten())
        log_s, log_t = ((x / kept).log_softmax(-1) for x in (s, t))
        kl = functional.kl_div(log_s, log_t, reduction="batchmean", log_target=True)
        loss = recipe.alpha * ce + (1 - recipe.alpha) * kept**2 * kl
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(named.values(), recipe.clip)
        optimiser.step()
        losses.append(loss.item())
    return {name: each.detach() for name, each in named.items()}, losses


def mirror_of(own: Path, path: Path, name: str) -> Path:
    """The same model under another name: a copy, in shards of another type, in another config."""
    tensors = load_file(own / "model.safetensors")
    config = json.loads((own / "config.json").read_text())
    path.mkdir()
    if name == "half":  # the student is in sixteen bits as well, so nothing is rounded
        tensors = {n: t.bfloat16() for n, t in tensors.items()}
    if name == "renamed":
        config["max_position_embeddings"] = 32
    save_file(tensors, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return path


def rounded(own: Path, path: Path) -> Path:
    """A float32 file whose numbers fit into bfloat16."""
    path.mkdir(exist_ok=True)
    tensors = load_file(own / "model.safetensors")
    half = {n: t.bfloat16().float() for n, t in tensors.items()}
    save_file(half, path / "model.safetensors")
    (path / "config.json").write_bytes((own / "config.json").read_bytes())
    return path


class Poisoned:
    """A teacher with one NaN at one step."""

    name = digest = "poisoned"

    def __init__(self, teacher: ModelTeacher, step: int) -> None:
        self._teacher, self._step = teacher, step

    def logits(self, batch):
        found = self._teacher.logits(batch)
        if batch.step == self._step:
            found[-1, -1, -1] = torch.nan
        return found


class Slow:
    """A teacher that thinks for a while, as one on another device does."""

    name = digest = "slow"

    def __init__(self, teacher: ModelTeacher) -> None:
        self._teacher = teacher

    def logits(self, batch):
        time.sleep(0.01)
        return self._teacher.logits(batch)


class Failing(Slow):
    """A teacher whose device is gone at step 5."""

    def logits(self, batch):
        if batch.step == 5:
            raise EngineError("the device is gone")
        return self._teacher.logits(batch)
