"""What the forward contracts have in common: the measures of a model against its oracles.

Each architecture's own test file chooses the models and binds the ids.
"""

from pathlib import Path

import torch
from torch import Tensor

import engine

LENGTHS = (1, 2, 17, 96)  # tokens
NOISE = 1e-3  # a smaller gap between the reference's best two logits decides nothing


def prompts(vocabulary: int) -> list[list[int]]:
    """Ids from a seed, one prompt for each of `LENGTHS`."""
    random = torch.Generator().manual_seed(3)
    return [torch.randint(0, vocabulary, (n,), generator=random).tolist() for n in LENGTHS]


def compare(observe, found: Tensor, expected: Tensor) -> None:
    """Observe cosine and argmax of logits [T, V] against the reference's."""
    best = expected.topk(2, dim=-1)
    clear = best.values[:, 0] - best.values[:, 1] > NOISE
    wrong = found.argmax(dim=-1) != best.indices[:, 0]
    observe("cosine", torch.cosine_similarity(found, expected, dim=-1).min())
    observe("argmax_mismatches", int((wrong & clear).sum()))
    observe("positions_compared", int(clear.sum()))


def last_position(observe, path: Path) -> None:
    """Observe the last position of each prompt, through a cache of its own, against HF's."""
    model = engine.load(path)
    ids = prompts(model.config.vocabulary_size)
    found = [model.forward(each, model.new_cache(), last_only=True) for each in ids]
    compare(observe, torch.cat(found), torch.cat([each[-1:] for each in _reference(path, ids)]))


def every_position(observe, path: Path) -> None:
    """Observe every position of each prompt, without a cache, against HF's."""
    model = engine.load(path)
    ids = prompts(model.config.vocabulary_size)
    found = [model.logits(each) for each in ids]
    compare(observe, torch.cat(found), torch.cat(_reference(path, ids)))


def _reference(path: Path, prompts: list[list[int]]) -> list[Tensor]:
    from falsifiers.hf_oracle import hf_logits, hf_model

    model = hf_model(path)
    return [hf_logits(model, ids) for ids in prompts]


def against_llama(observe, path: Path) -> None:
    """Observe the cosine of every position's logits against llama.cpp's."""
    from falsifiers.llama_oracle import llama_logits, opened

    model = engine.load(path)
    with opened(path) as llama:
        pairs = [
            (model.logits(ids), llama_logits(llama, ids))
            for ids in prompts(model.config.vocabulary_size)
        ]
    cosine = torch.cat([torch.cosine_similarity(a, b, dim=-1) for a, b in pairs])
    observe("lowest_cosine", cosine.min())
    observe("median_cosine", cosine.median())


def greedily_with_llama(observe, path: Path) -> None:
    """Observe how many of 64 greedy tokens, each through a cache, are not llama.cpp's."""
    from falsifiers.llama_oracle import llama_greedy, opened

    model, wrong, made = engine.load(path), 0, 0
    with opened(path) as llama:
        for ids in prompts(model.config.vocabulary_size)[1:3]:
            found = list(engine.generate(model, ids, max_tokens=64))
            expected = llama_greedy(llama, ids, 64)
            wrong += sum(a != b for a, b in zip(found, expected, strict=True))
            made += len(found)
    observe("differing_tokens", wrong)
    observe("tokens", made)


def through_a_folder(observe, path: Path, folder: Path) -> None:
    """Observe logits of the same model saved by HF and opened as a folder, against HF's."""
    from falsifiers.hf_oracle import hf_logits, hf_model

    reference = hf_model(path)
    reference.save_pretrained(folder, max_shard_size="200KB")
    model = engine.load(folder)
    ids = prompts(model.config.vocabulary_size)
    found = torch.cat([model.logits(each) for each in ids])
    compare(observe, found, torch.cat([hf_logits(reference, each) for each in ids]))
    observe("shards", len(list(folder.glob("*.safetensors"))))


def gradients_in_training(observe, path: Path) -> None:
    """Observe each parameter's gradient of the next-token loss over a batch, against HF's."""
    from falsifiers.hf_oracle import gradients, hf_model

    model = engine.load(path).to_float(trainable=True)
    random = torch.Generator().manual_seed(5)
    ids = torch.randint(0, model.config.vocabulary_size, (3, 24), generator=random)
    logits = model.logits(ids)[:, :-1].flatten(0, 1)  # [B * (T - 1), V]
    torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
    expected = gradients(hf_model(path), ids)
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():  # a router of one expert has no gradient but noise
        size = max(float(gradient.norm()), 1e-3 * largest)
        found = model.weights[name].tensor.grad
        off = size if found is None else float((found - gradient).norm())
        observe("relative_error", off / size)
    observe("parameters_without_gradient", len(model.weights.keys() - expected.keys()))
