"""What one test observes of its falsifiers, and the judgement of it by the contract's bounds.

Knows contracts and measures; knows no pytest. The test measures, this module judges.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tollens.bounds import Judged, Measure, accepts, estimate, judge_estimate, judge_value, show
from tollens.contract import Falsifier
from tollens.errors import ObserveError
from tollens.outcomes import Attached, Observed, sha256_of
from tollens.verdicts import Level, Verdict


@dataclass(repr=False)
class Observe:
    """The `observe` fixture: records measures, attachments and the level of one test.

    `observe(name, value)` takes a Python, numpy or torch scalar; called again with the same name,
    the worse value counts. A measure that declares `confidence` takes `samples=[…]` or
    `successes=…, trials=…`. Raises ObserveError for a measure that no bound contract declares or a
    value of the wrong kind. Measures of `elsewhere`, which are no part of this run, are not judged.
    """

    falsifiers: Sequence[Falsifier]
    cache: Callable[[], Path]
    seed: int = 0
    elsewhere: Sequence[Falsifier] = ()
    level: Level | None = None
    artifact: Observed | None = None
    attachments: list[Attached] = field(default_factory=list)
    values: dict[str, list[Any]] = field(default_factory=dict)
    rates: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __call__(
        self,
        name: str,
        value: Any = None,
        *,
        samples: Sequence[Any] | None = None,
        successes: int | None = None,
        trials: int | None = None,
    ) -> None:
        measure = self._measure(name)
        if measure.confidence is None:
            self._observe_value(name, measure, value, samples, successes, trials)
        elif successes is not None or trials is not None:
            self._observe_rate(name, successes, trials)
        else:
            self._observe_samples(name, measure, samples if samples is not None else [value])

    def at(self, level: str, artifact: str | Path | None = None) -> None:
        """Say at which level this test observes; `runtime` names the real artefact, a file."""
        if level not in set(Level):
            raise ObserveError(f"level {level!r}; expected one of {', '.join(Level)}")
        if artifact is None and level == Level.RUNTIME:
            raise ObserveError("level runtime needs artifact=PATH: the real thing observed")
        self.level = Level(level)
        if artifact is not None:
            path = Path(artifact)
            self.artifact = Observed(path.name, sha256_of(path), path.stat().st_size)

    def attach(self, path: str | Path, name: str | None = None) -> None:
        """Add a file to the evidence, under its own name or `name`."""
        source = Path(path)
        sha256 = sha256_of(source)
        folder = self.cache() / "attachments"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / sha256)
        self.attachments.append(Attached(Path(name or source.name).name, sha256))

    def _measure(self, name: str) -> Measure:
        bound = [*self.falsifiers, *self.elsewhere]
        for falsifier in bound:
            if name in falsifier.measures:
                return falsifier.measures[name]
        declared = sorted({each for falsifier in bound for each in falsifier.measures})
        raise ObserveError(f"measure {name!r} is not declared; the contract declares {declared}")

    def _observe_value(
        self, name: str, measure: Measure, value: Any, *others: Sequence[Any] | int | None
    ) -> None:
        if any(other is not None for other in others):
            raise ObserveError(f"{name} declares no confidence, so it takes one value")
        plain = _of_kind(name, measure, value)
        self.values.setdefault(name, []).append(plain)

    def _observe_samples(self, name: str, measure: Measure, samples: Sequence[Any]) -> None:
        if not samples:
            raise ObserveError(f"{name}: no samples")
        plain = [_of_kind(name, measure, each) for each in samples]
        self.values.setdefault(name, []).extend(plain)

    def _observe_rate(self, name: str, successes: int | None, trials: int | None) -> None:
        if successes is None or trials is None or not 0 <= successes <= trials or trials == 0:
            raise ObserveError(f"{name}: successes={successes} of trials={trials} is no rate")
        before = self.rates.get(name, (0, 0))
        self.rates[name] = (before[0] + successes, before[1] + trials)

    def judge(self, falsifier: Falsifier) -> dict[str, Judged]:
        """Judge everything observed of `falsifier`; measures that were not observed are absent."""
        seen = [name for name in falsifier.measures if name in self.values or name in self.rates]
        return {name: self._judge(name, falsifier.measures[name]) for name in seen}

    def _judge(self, name: str, measure: Measure) -> Judged:
        values = self.values.get(name, [])
        if measure.confidence is not None:
            return judge_estimate(measure, estimate(measure, values, self.rates.get(name)))
        judged = [judge_value(measure, value) for value in values]
        return min(judged, key=lambda each: (each.held, each.margin or 0.0))


def _of_kind(name: str, measure: Measure, value: Any) -> Any:
    plain = value.item() if hasattr(value, "item") else value
    if not accepts(measure, plain):
        wanted = type(measure.limit).__name__.replace("float", "number").replace("list", "number")
        raise ObserveError(f"{name} = {plain!r:.60} ({type(plain).__name__}); expected a {wanted}")
    return plain


def verdict_of(falsifier: Falsifier, measures: dict[str, Judged]) -> tuple[Verdict, str]:
    """Verdict and reason of a test that passed, from what it observed."""
    for wanted in (Verdict.FALSIFIED, Verdict.INCONCLUSIVE):
        broken = [name for name, judged in measures.items() if judged.verdict is wanted]
        if broken:
            return wanted, "; ".join(_broken(name, measures[name]) for name in broken)
    missing = [name for name in falsifier.measures if name not in measures]
    if missing:
        return Verdict.VACUOUS, f"passed without observing {', '.join(missing)}"
    return Verdict.CORROBORATED, ""


def _broken(name: str, judged: Judged) -> str:
    text = f"{name} = {show(judged.value)}, bound {judged.bound}"
    if judged.interval:
        low, high = judged.interval
        text += f", interval [{show(low)}, {show(high)}] of {judged.count}"
    return f"{text}: {judged.note}" if judged.note else text
