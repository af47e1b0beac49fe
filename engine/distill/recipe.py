"""The hyperparameters of a run, and the learning rate of each step.

Knows numbers and their ranges; knows nothing of models, data or files. A run is a function of the
recipe, the student, the teacher and the data: what is not in here does not change a weight.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import cos, pi
from typing import Any

from engine.errors import EngineError

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """Counts are of steps, windows and tokens; `batch` is over all processes and accumulations.

    `alpha` weights the cross-entropy with the labels, 1 - alpha the teacher. `least` is the share
    of `learning_rate` that the cosine ends at. `best` keeps the best held-out loss.
    """

    steps: int = 1000
    batch: int = 8  # windows of one step
    seq_len: int = 256  # tokens of a window
    accumulate: int = 1  # parts of a batch that go through the student one after the other
    learning_rate: float = 3e-4
    warmup: int = 50  # steps
    least: float = 0.1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    clip: float = 1.0  # the gradient's norm at most; 0 for no limit
    temperature: float = 2.0
    alpha: float = 0.5
    precision: str = "float32"
    seed: int = 0  # of a fresh student's weights and the order of windows
    heldout_every: int = 100  # steps
    heldout_windows: int = 64
    save_every: int = 500  # steps

    def __post_init__(self) -> None:
        for name, expected, fits in _ranges(self):
            if not fits:
                raise EngineError(f"{name}: found {getattr(self, name)!r}, expected {expected}")

    def rate(self, step: int) -> float:
        """The learning rate of `step`, which counts from 0: linear warm-up, then a cosine."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup - 1)
        share = self.least + (1 - self.least) * (1 + cos(pi * min(done, 1.0))) / 2
        return self.learning_rate * share

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> "Recipe":
        """Back from JSON; a key that is none of a recipe's is an error."""
        unknown = sorted(set(found) - {each.name for each in fields(cls)})
        if unknown:
            raise EngineError(f"recipe: found {unknown[0]!r}, expected no such hyperparameter")
        return cls(**found)


def _ranges(r: Recipe) -> list[tuple[str, str, bool]]:
    """Each hyperparameter with what is expected of it, and whether it is so."""
    counts = ("steps", "batch", "seq_len", "accumulate", "heldout_every", "heldout_windows")
    found = [(name, "at least 1", getattr(r, name) >= 1) for name in (*counts, "save_every")]
    return [
        *found,
        ("accumulate", f"a divisor of the batch of {r.batch}", not r.batch % r.accumulate),
        ("learning_rate", "a number from 0 to 1", 0 <= r.learning_rate <= 1),
        ("warmup", f"from 0 to {r.steps} steps", 0 <= r.warmup <= r.steps),
        ("least", "a share from 0 to 1", 0 <= r.least <= 1),
        ("weight_decay", "a number from 0 to 1", 0 <= r.weight_decay <= 1),
        ("beta1", "from 0 to below 1", 0 <= r.beta1 < 1),
        ("beta2", "from 0 to below 1", 0 <= r.beta2 < 1),
        ("epsilon", "a number above 0", r.epsilon > 0),
        ("clip", "0 or more", r.clip >= 0),
        ("temperature", "a number above 0", 0 < r.temperature < float("inf")),
        ("alpha", "from 0 to 1", 0 <= r.alpha <= 1),
        ("precision", f"one of {', '.join(PRECISIONS)}", r.precision in PRECISIONS),
        ("seed", "0 or more", r.seed >= 0),
    ]
