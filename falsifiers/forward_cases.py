"""What the forward contracts have in common: the measures of a model against its oracles.

Each architecture's own test file chooses the models and binds the ids.
"""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

import engine
from engine.fixture import FixtureShape
from engine.routes import choose
from falsifiers.sample_models import write_model

LENGTHS = (1, 2, 17, 96)  # tokens
NOISE = 1e-3  # a smaller gap between the reference's best two logits decides nothing
ROUTE_NOISE = 0.25  # likewise where activations have 8 bits; a share of the logits' deviation


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


def wrong_and_clear(found: Tensor, expected: Tensor) -> tuple[int, int]:
    """Positions of logits [T, V] where a route has another best token though the reference's best
    is clear, and where it is clear."""
    best = expected.topk(2, dim=-1)
    clear = best.values[:, 0] - best.values[:, 1] > ROUTE_NOISE * expected.std(dim=-1)
    wrong = found.argmax(dim=-1) != best.indices[:, 0]
    return int((wrong & clear).sum()), int(clear.sum())


@dataclass(frozen=True)
class Case:
    """A model's file and HF's model of it, which many measures share."""

    path: Path
    reference: nn.Module

    @classmethod
    def write(cls, folder: Path, architecture: str, shape: FixtureShape) -> "Case":
        from falsifiers.hf_oracle import hf_model

        path = write_model(folder, architecture, shape)
        return cls(path, hf_model(path))

    def prompts(self) -> list[list[int]]:
        return prompts(self.reference.config.vocab_size)

    def logits(self) -> list[Tensor]:
        """HF's, [T, V] for each prompt."""
        from falsifiers.hf_oracle import hf_logits

        return [hf_logits(self.reference, ids) for ids in self.prompts()]


def last_position(observe, case: Case) -> None:
    """Observe the last position of each prompt, through a cache of its own, against HF's."""
    model = engine.load(case.path)
    found = [model.forward(ids, model.new_cache(), last_only=True) for ids in case.prompts()]
    compare(observe, torch.cat(found), torch.cat([each[-1:] for each in case.logits()]))


def every_position(observe, case: Case) -> None:
    """Observe every position of each prompt, without a cache, against HF's."""
    model = engine.load(case.path)
    found = [model.logits(ids) for ids in case.prompts()]
    compare(observe, torch.cat(found), torch.cat(case.logits()))


def on_the_fast_route(observe, case: Case) -> None:
    """Observe every position of each prompt, on the route that this machine takes, against HF's."""
    model = engine.load(case.path, route=choose().route)
    found, expected = (
        torch.cat(each) for each in ([model.forward(ids) for ids in case.prompts()], case.logits())
    )
    cosine = torch.cosine_similarity(found, expected, dim=-1)
    observe("lowest_cosine", cosine.min())
    observe("median_cosine", cosine.median())
    wrong, clear = wrong_and_clear(found, expected)
    observe("argmax_mismatches", wrong)
    observe("positions_compared", clear)


def through_a_folder(observe, case: Case, folder: Path) -> None:
    """Observe logits of the same model saved by HF and opened as a folder, against HF's."""
    case.reference.save_pretrained(folder, max_shard_size="200KB")
    model = engine.load(folder)
    found = [model.logits(ids) for ids in case.prompts()]
    compare(observe, torch.cat(found), torch.cat(case.logits()))
    observe("shards", len(list(folder.glob("*.safetensors"))))


def answers_as_hf_does(observe, case: Case, folder: Path) -> None:
    """Observe a folder's answer to a chat, template and tokenizer included, against HF's own."""
    from falsifiers.tokenizer_oracles import HuggingFace

    messages = [{"role": "user", "content": "Que\u0301 es 漢字? 12345 🎉"}]
    case.reference.save_pretrained(folder)
    tokenizer = HuggingFace(engine.open_checkpoint(case.path).metadata).tokenizer
    tokenizer.chat_template = engine.CHATML
    tokenizer.save_pretrained(folder)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    made = case.reference.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=24, pad_token_id=0
    )
    expected = tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)
    found = answer(folder, engine.render_chat(folder, messages), 24)
    observe("differing_characters", sum(a != b for a, b in zip_longest(found, expected)))
    observe("characters", len(expected))


def answer(path: Path, prompt: str, max_tokens: int) -> str:
    """The greedy continuation of `prompt`, as text."""
    tokenizer = engine.load_tokenizer(path)
    ids, stop = tokenizer.encode(prompt), tokenizer.eos_ids
    made = engine.generate(engine.load(path), ids, max_tokens=max_tokens, stop_ids=stop)
    return tokenizer.decode(made)


def gradients_in_training(observe, case: Case) -> None:
    """Observe each parameter's gradient of the next-token loss over a batch, against HF's."""
    from falsifiers.hf_oracle import gradients

    model = engine.load(case.path).to_float(trainable=True)
    random = torch.Generator().manual_seed(5)
    ids = torch.randint(0, model.config.vocabulary_size, (3, 24), generator=random)
    logits = model.logits(ids)[:, :-1].flatten(0, 1)  # [B * (T - 1), V]
    torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
    expected = gradients(case.reference, ids)
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():  # a router of one expert has no gradient but noise
        size = max(float(gradient.norm()), 1e-3 * largest)
        found = model.weights[name].tensor.grad
        off = size if found is None else float((found - gradient).norm())
        observe("relative_error", off / size)
    observe("parameters_without_gradient", len(model.weights.keys() - expected.keys()))


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
