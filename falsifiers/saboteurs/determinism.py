"""Faults in how tokens are drawn, and in what a seed decides."""

import os
from dataclasses import replace

import torch

from engine.generate import keep


def _seed(plant, change):
    """Generate with another seed than the one that was asked for."""

    def fault(generate):
        def faulty(model, ids, *, seed=None, **options):
            return generate(model, ids, seed=change(seed), **options)

        return faulty

    plant("engine.generate.generate", fault)


def seed_ignored(plant):
    """Every generation draws a seed of its own."""
    _seed(plant, lambda seed: None)


def seed_always_zero(plant):
    """Every generation has the same seed."""
    _seed(plant, lambda seed: 0)


def seed_cut_to_a_byte(plant):
    """Only the last eight bits of a seed count."""
    _seed(plant, lambda seed: None if seed is None else seed % 256)


def seed_mixed_with_process_id(plant):
    """The process's id is added to the seed, as if seeds had to differ between workers."""
    _seed(plant, lambda seed: None if seed is None else seed + os.getpid())


def seed_hashed(plant):
    """The seed is the hash of its text, which Python salts differently in every process."""
    _seed(plant, lambda seed: None if seed is None else hash(str(seed)))


def generator_shared(plant):
    """All generations draw from one generator, which each seeds when it starts."""
    shared = torch.Generator()
    plant("engine.generate._generator", lambda make: lambda seed: shared.manual_seed(seed or 0))


def generator_global(plant):
    """Tokens are drawn from torch's global generator."""

    def fault(sample):
        return lambda logits, sampling, _: sample(logits, sampling, torch.default_generator)

    plant("engine.generate.sample", fault)


def products_split_by_threads(plant):
    """A product is summed in as many parts as there are threads, each rounded to bfloat16."""

    def fault(linear):
        def faulty(x, weight, bias=None):
            matrix, parts = weight.dequantise(), torch.get_num_threads()
            pairs = zip(x.chunk(parts, -1), matrix.chunk(parts, -1), strict=True)
            y = sum((a @ b.T).bfloat16().float() for a, b in pairs)
            return y if bias is None else y + bias.dequantise()

        return faulty

    plant("engine.weights.linear", fault)


def _sample(plant, change):
    """Draw by other settings."""

    def fault(sample):
        return lambda logits, sampling, *rest: sample(logits, change(sampling), *rest)

    plant("engine.generate.sample", fault)


def greedy_draws(plant):
    """Temperature 0 is taken for one that was not given."""
    _sample(plant, lambda s: replace(s, temperature=s.temperature or 1.0))


def greedy_takes_the_last_of_equals(plant):
    """Of equal maxima, the one with the highest id is taken."""

    def fault(sample):
        def faulty(logits, sampling, generator):
            if sampling.temperature:
                return sample(logits, sampling, generator)
            return int((logits == logits.max()).nonzero()[-1])

        return faulty

    plant("engine.generate.sample", fault)


def temperature_ignored(plant):
    """Every token is drawn at temperature 1."""
    _sample(plant, lambda s: replace(s, temperature=1.0) if s.temperature else s)


def temperature_inverted(plant):
    """The logits are multiplied by the temperature, and not divided."""
    _sample(plant, lambda s: replace(s, temperature=1 / s.temperature) if s.temperature else s)


def temperature_after_the_filters(plant):
    """The filters judge the untempered probabilities."""

    def fault(sample):
        def faulty(logits, sampling, generator):
            kept = keep(torch.softmax(logits.double(), dim=-1), sampling)
            tempered = kept ** (1 / sampling.temperature)
            return int(torch.multinomial(tempered, 1, generator=generator))

        return faulty

    plant("engine.generate.sample", fault)


def top_k_one_too_many(plant):
    """Top-k keeps one token more."""
    _sample(plant, lambda s: replace(s, top_k=s.top_k + 1 if s.top_k else 0))


def top_p_stops_early(plant):
    """Top-p leaves out the token that crosses the mass, and keeps too little of it."""

    def fault(original):
        def faulty(probabilities, sampling):
            kept = original(probabilities, sampling)
            if sampling.top_p < 1 and (kept > 0).sum() > 1:
                kept[torch.where(kept > 0, kept, torch.inf).argmin()] = 0
            return kept

        return faulty

    plant("engine.generate.keep", fault)


def min_p_absolute(plant):
    """Min-p is taken for a probability, and not for a share of the best token's."""

    def fault(original):
        def faulty(probabilities, sampling):
            share = min(sampling.min_p / float(probabilities.max()), 1.0)
            return original(probabilities, replace(sampling, min_p=share))

        return faulty

    plant("engine.generate.keep", fault)


def kept_tokens_equally_likely(plant):
    """What the filters keep is drawn evenly."""
    plant("engine.generate.keep", lambda original: lambda *args: (original(*args) > 0).double())


def fixture_seeded_by_process(plant):
    """The fixture's numbers come from the process's id too."""

    def fault(init):
        return lambda self, seed: init(self, seed + os.getpid())

    plant("engine.fixture.Random.__init__", fault)


def fixture_seed_ignored(plant):
    """Every fixture has the same numbers."""
    plant("engine.fixture.Random.__init__", lambda init: lambda self, seed: init(self, 0))


def fixture_merges_in_set_order(plant):
    """The tokenizer's merges pass through a set, whose order differs between processes."""

    def fault(train):
        def faulty(size):
            tokens, merges = train(size)
            return tokens, list(set(merges))

        return faulty

    plant("engine.fixture_text.train_tokenizer", fault)
