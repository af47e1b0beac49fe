"""Tries to refute that the same seed gives the same tokens, and that they are fairly drawn.

Oracles: the same in another process, with other threads and another hash seed; and, for how tokens
are drawn, the closed form of each filter in float64, in numpy.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import engine
from engine.model import Model
from falsifiers.cache_models import loader, some_ids
from falsifiers.conftest import GIVEN
from falsifiers.determinism_cases import FILES, SAMPLED, digests, tokens
from falsifiers.differences import differing, relative_error

ROOT = Path(__file__).parents[1]
SEEDS = (0, 1, 2, 255, 256, 2**16, 2**31, 2**32 - 1)  # torch takes the last 32 bits
DRAWS = 1000
PROMPT = [3, 1, 4, 1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    return loader(tmp_path_factory.mktemp("models"))("grouped").to_float()


@pytest.fixture(scope="module")
def elsewhere() -> dict:
    """What another process makes, with two threads and its own order of sets."""
    # Passive: two threads on a busy machine would wait for each other at full speed.
    threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
    environment = {**os.environ, **threads, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-m", "falsifiers.determinism_cases"]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
    return json.loads(made.stdout)


class Fixed(Model):
    """A model that always says the same logits, over a text as long as one likes."""

    def __init__(self, logits: list[float]) -> None:
        size = {"block_count": 1, "embedding_length": 2, "head_count": 1, "head_count_kv": 1}
        constants = {"key_length": 2, "rms_epsilon": 1e-6, "rope_base": 1e4}
        config = engine.ModelConfig("qwen2", 10**6, len(logits), **size, **constants)
        super().__init__(config, weights={})
        self.said = torch.tensor([logits])

    def forward(self, ids, cache=None, **options) -> Tensor:
        return self.said


def drawn(model: Model, count: int, **options) -> list[int]:
    return list(engine.generate(model, PROMPT, max_tokens=count, **options))


@pytest.mark.falsifies("FALSIFY-DETERMINISM-001")
def test_a_seed_gives_the_same_tokens_whatever_else_is_drawn(observe, model):
    first = [drawn(model, 32, seed=seed, **SAMPLED) for seed in (7, 8)]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = [drawn(model, 32, seed=seed, **SAMPLED) for seed in (7, 8)]
    # In turns, as a server's requests are.
    pair = [engine.generate(model, PROMPT, max_tokens=32, seed=s, **SAMPLED) for s in (7, 8)]
    in_turns = list(zip(*zip(*pair, strict=True), strict=True))
    wrong = [differing(a, b) for a, b in zip([*again, *in_turns], [*first, *first], strict=True)]
    observe("differing_tokens", sum(wrong))
    observe("tokens", sum(map(len, first)))
    observe("changes_the_global_generator", not torch.equal(torch.get_rng_state(), before))


@pytest.mark.falsifies("FALSIFY-DETERMINISM-002")
def test_another_process_with_two_threads_makes_the_same_tokens(observe, elsewhere, tmp_path):
    here, there = tokens(tmp_path), elsewhere["tokens"]
    observe("differing_tokens", sum(differing(here[name], there[name]) for name in here))
    observe("tokens", sum(map(len, there.values())))
    observe("threads_there", elsewhere["threads"])


@pytest.fixture
def with_threads() -> Iterator[Callable[[int, Callable[[], object]], object]]:
    before = torch.get_num_threads()

    def run(count: int, make: Callable[[], object]) -> object:
        torch.set_num_threads(count)
        return make()

    yield run
    torch.set_num_threads(before)


@pytest.mark.falsifies("FALSIFY-DETERMINISM-003")
def test_the_number_of_threads_changes_no_token(observe, model, with_threads):
    prompt = some_ids(96)

    def make() -> tuple[list[int], Tensor]:
        made = engine.generate(model, prompt, max_tokens=24, seed=7, **SAMPLED)
        return list(made), model.logits(prompt)

    (one, logits), *others = [with_threads(count, make) for count in (1, 2, 3)]
    observe("differing_tokens", sum(differing(one, other) for other, _ in others))
    observe("max_relative_error", max(relative_error(other, logits) for _, other in others))


@pytest.mark.falsifies("FALSIFY-DETERMINISM-004")
def test_other_seeds_give_other_tokens(observe, model):
    made = [tuple(drawn(model, 16, seed=seed, temperature=1.0)) for seed in SEEDS]
    made += [tuple(drawn(model, 16, temperature=1.0)) for _ in range(2)]
    observe("equal_answers", len(made) - len(set(made)))
    observe("answers", len(made))


@pytest.mark.falsifies("FALSIFY-DETERMINISM-005")
@pytest.mark.parametrize("name", ["grouped", *GIVEN])
def test_greedy_needs_no_seed_and_takes_the_lowest_of_equals(request, observe, model, name):
    if name in GIVEN:
        model = engine.load(request.getfixturevalue("shape_gguf"))
    expected = drawn(model, 16)
    others = [{"seed": 1}, {"seed": 2}, {"seed": 1, **SAMPLED, "temperature": 0.0}]
    others += [{"seed": 1, "temperature": 1e-30}, {"seed": 2, "temperature": 1.0, "top_k": 1}]
    made = [drawn(model, 16, **options) for options in others]
    observe("differing_tokens", sum(differing(each, expected) for each in made))
    observe("wrong_of_equals", differing(drawn(Fixed([0, 5, 1, 5, 5]), 16), [1] * 16))


@pytest.mark.falsifies("FALSIFY-DETERMINISM-006")
def test_a_fixtures_bytes_follow_from_its_seed(observe, elsewhere, tmp_path):
    here, other = digests(tmp_path), digests(tmp_path, seed=1)
    observe("files", len(here))
    observe("differing_files", sum(here[name] != elsewhere["digests"][name] for name in FILES))
    observe("files_of_another_seed_alike", sum(here[name] == other[name] for name in FILES))


LOGITS = np.log([0.26, 0.2, 0.14, 0.11, 0.09, 0.07, 0.05, 0.03, 0.02, 0.015, 0.01, 0.005])
SETTINGS = {
    "plain": {"temperature": 1.0},
    "hot": {"temperature": 2.0},
    "cold": {"temperature": 0.5},
    "top-k": {"temperature": 1.3, "top_k": 4},
    "top-p": {"temperature": 1.5, "top_p": 0.7},
    "min-p": {"temperature": 0.8, "min_p": 0.3},
    "all": {"temperature": 1.5, "top_k": 10, "top_p": 0.85, "min_p": 0.2},
}


def closed_form(temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0):
    """The probability of each token [V]; `LOGITS` are in falling order."""
    p = np.exp(LOGITS / temperature)
    if top_k:
        p[top_k:] = 0
    p /= p.sum()
    p[np.cumsum(p) - p >= top_p - 1e-12] = 0
    p[p < min_p * p[0]] = 0
    return p / p.sum()


def z_score(counts: np.ndarray, p: np.ndarray) -> float:
    """How far Pearson's chi-square is from its mean, in deviations (Wilson and Hilferty 1931)."""
    kept, free = p > 0, np.count_nonzero(p) - 1
    expected = counts.sum() * p[kept]
    statistic = ((counts[kept] - expected) ** 2 / expected).sum()
    return ((statistic / free) ** (1 / 3) - (1 - 2 / (9 * free))) / math.sqrt(2 / (9 * free))


@pytest.mark.falsifies("FALSIFY-DETERMINISM-007")
@pytest.mark.parametrize("name", SETTINGS)
def test_tokens_are_drawn_as_the_filters_say(observe, name):
    # The vocabulary is turned round, so that the best token is not the first.
    made = drawn(Fixed(LOGITS[::-1].tolist()), DRAWS, seed=3, **SETTINGS[name])
    counts = np.bincount(len(LOGITS) - 1 - np.array(made), minlength=len(LOGITS))
    p = closed_form(**SETTINGS[name])
    observe("tokens_that_were_left_out", int(counts[p == 0].sum()))
    observe("z_score", z_score(counts, p))
    observe("draws", int(counts.sum()))
