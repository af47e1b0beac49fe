"""Generation: a prompt's token ids in, one new token id at a time out.

Knows sampling and when to stop; knows nothing of text, templates or HTTP. A token is drawn in this
order: the logits are divided by the temperature, top-k keeps the most probable, top-p the most
probable mass of what top-k kept, min-p what is not too rare beside the best.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.cache import KVCache
from engine.errors import EngineError, TensorError
from engine.model import Model, check_ids


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn. Temperature 0 is greedy; `top_k` 0 and `min_p` 0 keep every token."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        bounds = {
            "temperature": (0 <= self.temperature < float("inf"), "at least 0"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
        }
        for name, (held, expected) in bounds.items():
            if not held:
                raise EngineError(f"{name}: found {getattr(self, name)}, expected {expected}")


@dataclass(frozen=True)
class Step:
    """One token drawn, and the logits [V] that it was drawn from: the model's own, unscaled."""

    token: int
    logits: Tensor


def generate(
    model: Model,
    ids: Sequence[int],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: int | None = None,
    stop_ids: Collection[int] = (),
    cache: KVCache | None = None,
) -> Iterator[int]:
    """Yield up to `max_tokens` ids that continue `ids`; a stop id ends them and is not yielded.

    The prompt goes through the model at once, then each token alone; `cache` may hold what
    came before `ids`, and holds afterwards all but the last token drawn. It also ends when the
    context or the cache is full. The same seed gives the same tokens. Raises `EngineError` and
    `PromptError` for its arguments here, not at the first token.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p)
    made = steps(model, ids, sampling, max_tokens, seed=seed, stop_ids=stop_ids, cache=cache)
    return (step.token for step in made)


def steps(
    model: Model,
    ids: Sequence[int],
    sampling: Sampling,
    max_tokens: int,
    *,
    seed: int | None = None,
    stop_ids: Collection[int] = (),
    cache: KVCache | None = None,
) -> Iterator[Step]:
    """`generate`, with the logits that each token was drawn from."""
    start = 0 if cache is None else cache.length
    check_ids(ids, start, model.config)
    if cache is not None:
        cache.require_room(len(ids))
    count = budget(model, len(ids), max_tokens, cache)
    cache = model.new_cache(len(ids) + max(count, 1) - 1) if cache is None else cache
    return _steps(model, ids, count, sampling, _generator(seed), frozenset(stop_ids), cache)


def budget(model: Model, prompt: int, max_tokens: int, cache: KVCache | None = None) -> int:
    """How many tokens can follow `prompt` ids: the last one drawn needs no place of its own."""
    if max_tokens < 0:
        raise EngineError(f"max_tokens: found {max_tokens}, expected at least 0")
    context = model.config.context_length
    room = context if cache is None else min(context, cache.capacity) - cache.length
    return min(max_tokens, room - prompt + 1)


def _steps(
    model: Model,
    ids: Sequence[int],
    count: int,
    sampling: Sampling,
    generator: torch.Generator,
    stop_ids: frozenset[int],
    cache: KVCache,
) -> Iterator[Step]:
    for _ in range(count):
        logits = model.forward(ids, cache, last_only=True)[-1].cpu()
        token = sample(logits, sampling, generator)
        if token in stop_ids:
            return
        yield Step(token, logits)
        ids = [token]


def sample(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Draw one id from logits [V]; greedy takes the lowest of equal maxima."""
    if not torch.isfinite(logits).all():
        raise TensorError("logits: found infinity or NaN, expected finite numbers to draw from")
    if sampling.temperature == 0:
        return int(logits.argmax())
    # Float64 and the maximum at 0, because a temperature may be too small for a float32.
    scaled = (logits.double() - logits.max()) / sampling.temperature
    probabilities = torch.softmax(scaled, dim=-1)
    kept = keep(probabilities, sampling)
    return int(torch.multinomial(kept, 1, generator=generator))


def keep(probabilities: Tensor, sampling: Sampling) -> Tensor:
    """Zero what top-k, top-p and min-p leave out; the most probable token always stays."""
    ranked, order = torch.sort(probabilities, descending=True, stable=True)
    if sampling.top_k:
        ranked[sampling.top_k :] = 0.0
        ranked = ranked / ranked.sum()
    before = ranked.cumsum(dim=0) - ranked  # mass of all that are more probable
    out = (before >= sampling.top_p) | (ranked < sampling.min_p * ranked[0])
    out[0] = False
    return torch.zeros_like(probabilities).scatter(0, order, ranked.masked_fill(out, 0.0))


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
