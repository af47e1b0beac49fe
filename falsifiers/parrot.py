"""A model that says its prompt again, and a gate that holds it up between two tokens.

What an answer should be is then written in the request itself; and a test that holds the gate
knows which token is being computed, without a clock.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field

import torch

from engine.config import ModelConfig


@dataclass
class Heard:
    """What takes the place of keys and values: the prompt, and how many tokens came after it."""

    prompt: tuple[int, ...] = ()
    said: int = 0
    length: int = 0


@dataclass
class Gate:
    """Lets `passes` computations through and holds the next until it is opened; counts by prompt.

    A gate that nobody opens does so itself after `patience` seconds, so that no fault hangs a run.
    """

    passes: int = 1 << 30
    patience: float = 5.0
    steps: Counter = field(default_factory=Counter)
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def step(self, prompt: tuple[int, ...]) -> None:
        self.steps[prompt] += 1
        if self.steps.total() > self.passes and not self.opened.is_set():
            self.reached.set()
            self.opened.wait(self.patience)
            self.opened.set()

    def is_reached(self) -> bool:
        return self.reached.wait(self.patience)


class Parrot:
    """Says its prompt token by token, again and again, as greedily as can be."""

    def __init__(self, config: ModelConfig, gate: Gate | None = None) -> None:
        self.config = config
        self.gate = gate or Gate()

    def new_cache(self, capacity: int) -> Heard:
        return Heard()

    def forward(self, ids, cache: Heard, *, last_only: bool) -> torch.Tensor:
        cache.prompt = cache.prompt or tuple(ids)
        self.gate.step(cache.prompt)
        logits = torch.zeros(1, self.config.vocabulary_size)
        logits[0, cache.prompt[cache.said % len(cache.prompt)]] = 20.0
        cache.said += 1
        return logits
