"""What the falsifiers of `trace` try: tensors, changed weights, unlike pairs, bad files, commands.

The oracle of comparisons is here too, in numpy.
"""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import engine
from engine.compare import Comparison
from engine.trace import EXPERTS, Recording, Trace, record


def _with(x: np.ndarray, *odd: float) -> np.ndarray:
    """`x` with odd numbers in its first places."""
    x.flat[: len(odd)] = odd
    return x


def _normal(size: Any, mean: float = 0.0, std: float = 1.0) -> Any:
    return lambda random: random.normal(mean, std, size).astype(np.float32)


TENSORS = {
    "ordinary": _normal((7, 256)),
    "inside experts": _normal((7, 8, 96)),
    "far from zero": _normal((3, 4096), mean=1e4),
    "tiny": _normal((3, 256), std=1e-30),
    "huge": _normal((3, 256), std=1e30),
    "all negative": _normal((3, 256), mean=-50.0),
    "one number": _normal((1, 1)),
    "two numbers": _normal((1, 2)),
    "constant": lambda random: np.full((2, 8), 3.5, np.float32),
    "with NaN and infinities": lambda r: _with(_normal((3, 256))(r), np.nan, np.inf, -np.inf),
    "nothing finite": lambda random: np.full((1, 4), np.nan, np.float32),
}

# What is done to a weight of layer N -> the stage where it must show first. A doubled matrix keeps
# every cosine, rolled rows keep every deviation.
CHANGES = {
    "attn_norm": ("blk.{layer}.attn_norm.weight", lambda w: w * 3, "attn_norm"),
    "a rolled query": ("blk.{layer}.attn_q.weight", lambda w: w.roll(1, 0), "qkv"),
    "attn_output": ("blk.{layer}.attn_output.weight", lambda w: w / 3, "attn_out"),
    "ffn_norm": ("blk.{layer}.ffn_norm.weight", lambda w: w.flip(0), "ffn_norm"),
    "router": ("blk.{layer}.ffn_gate_inp.weight", lambda w: -w, "router_weights"),
    "a gate of half more": ("blk.{layer}.ffn_gate_exps.weight", lambda w: w * 1.5, "ffn_gate"),
    "a gate of a third less": ("blk.{layer}.ffn_gate_exps.weight", lambda w: w / 1.5, "ffn_gate"),
    "a rolled up": ("blk.{layer}.ffn_up_exps.weight", lambda w: w.roll(1, 1), "ffn_up"),
    "down": ("blk.{layer}.ffn_down_exps.weight", lambda w: w * 2.5, "ffn_out"),
    "down's experts": ("blk.{layer}.ffn_down_exps.weight", lambda w: w.roll(1, 0), "ffn_out"),
    "the output": ("output.weight", lambda w: w.roll(1, 0), "output"),
}


def line_of(place: tuple[int | None, str], a: Any, b: Any) -> dict[str, float]:
    """Ratio, cosine or share of the experts in common, by their definitions."""
    x, y = a[place].double().numpy(), b[place].double().numpy()
    if place[1] == EXPERTS:
        common = sum(len(set(s) & set(t)) for s, t in zip(x.tolist(), y.tolist(), strict=True))
        return {"experts": common / x.size}
    rows = list(_rows(place, x, y, a, b))
    cosines = [s @ t / np.sqrt((s @ s) * (t @ t)) for s, t in rows]
    return {"ratio": y.std() / x.std(), "cosine": min(cosines)}


def _rows(
    place: tuple[int | None, str], x: np.ndarray, y: np.ndarray, a: Any, b: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of vectors: of each token, or of each expert of a token that both sides chose."""
    if place[1] != "router_weights" and x.ndim == 2:
        yield from zip(x, y, strict=True)
        return
    choices = [side[place[0], EXPERTS].tolist() for side in (a, b)]
    for token, (left, right) in enumerate(zip(*choices, strict=True)):
        if place[1] == "router_weights":
            weights = np.zeros((2, 64))
            weights[0, left], weights[1, right] = x[token], y[token]
            yield weights[0], weights[1]
            continue
        for rank, expert in enumerate(left):
            if expert in right:
                yield x[token, rank], y[token, right.index(expert)]


def unlike_pairs(
    small: Path, dense: Path, tiny: Path, ids: list[int]
) -> dict[str, tuple[Recording, Recording]]:
    """Pairs that must not be compared; the last two lie about what they count."""
    model = engine.load(small)
    last, every = (record(model, ids, tokens=tokens, keep=True) for tokens in ("last", "all"))
    shallow = replace(model.config, block_count=2)
    liar = every.trace.model_copy(update={"tokens": "last"})
    short = last.trace.stages[3].model_copy(update={"count": 7})
    cut = (*last.trace.stages[:3], short, *last.trace.stages[4:])
    return {
        "last and all tokens": (last, every),
        "all and last tokens": (every, last),
        "another prompt": (last, record(model, [*ids[:-1], 1])),
        "a longer prompt": (last, record(model, [*ids, 1])),
        "another architecture": (last, record(engine.load(dense), ids)),
        "another width": (last, record(engine.load(tiny), ids)),
        "fewer layers": (last, record(engine.Model(shallow, model.weights), ids)),
        "all tokens called the last": (Recording(liar), Recording(liar)),
        "all tokens called the last by one": (last, Recording(liar)),
        "a wrong count": (last, Recording(last.trace.model_copy(update={"stages": cut}))),
    }


def bad_documents(good: dict[str, Any]) -> list[str]:
    """Texts that are no trace."""
    changes: list[tuple[list[Any], Any]] = [
        (["schema"], "engine/trace/v2"),
        (["tokens"], "first"),
        (["prompt_ids"], ["1"]),
        (["stages", 0, "count"], "256"),
        (["stages", 0, "mean"], float("nan")),
        (["stages", 0, "std"], float("inf")),
        (["stages", 0, "median"], 0.0),
        (["experts"], [[1]]),
        (["host"], "here"),
    ]
    texts = [json.dumps(_changed(good, *change)) for change in changes]
    lacking = {key: value for key, value in good.items() if key != "stages"}
    return [*texts, json.dumps(lacking), "", "[]", "{", "\ufeff{}"]


def _changed(document: dict[str, Any], keys: list[Any], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(document)
    inner: Any = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return document


WIDE = ["--band", "0.01:100", "--band", "ffn_gate=0.01:100", "--experts", "0"]


def commands(small: str) -> dict[str, tuple[list[Any], int]]:
    """Arguments after `trace`, in this order, and the exit code; they write beside `small`."""
    scaled = write_scaled(Path(small), Path("scaled.gguf"))
    ids = ["--ids", "1,2,3"]
    return {
        "last": ([small, *ids, "--json", "last.json"], 0),
        "all": ([small, *ids, "--tokens", "all", "--json", "all.json"], 0),
        "inside": (["--compare", small, f"{small}@float", *ids], 0),
        "outside": (["--compare", small, scaled, *ids], 1),
        "a trace and a model": (["--compare", "last.json", small], 0),
        "json": (["--compare", small, scaled, *ids, "--json", "-"], 1),
        "a wide band": (["--compare", "last.json", scaled, "--band", "0.01:100"], 1),
        "a wider band": (["--compare", "last.json", scaled, *WIDE], 0),
        "tokens mixed": (["--compare", "last.json", "all.json"], 2),
        "the same twice": (["--compare", small, small, *ids], 2),
        "three sides": (["--compare", small, scaled, small, *ids], 2),
        "no prompt": ([small], 2),
        "not ids": ([small, "--ids", "a"], 2),
        "not tokens": ([small, *ids, "--tokens", "first"], 2),
        "not a band": ([small, *ids, "--compare", scaled, "--band", "1"], 2),
        "no such stage": ([small, *ids, "--compare", scaled, "--band", "ffn=1:2"], 2),
        "a model's name for JSON": ([small, *ids, "--json", small], 2),
        "no file": (["none.gguf", *ids], 2),
        "no trace": (["none.json"], 2),
    }


def write_scaled(small: Path, path: Path) -> Path:
    """A copy of an all-float32 file whose gate in layer 1 is three times as large."""
    from gguf import GGUFReader

    path.write_bytes(small.read_bytes())
    reader = GGUFReader(path, "r+")
    [gate] = [t for t in reader.tensors if t.name == "blk.1.ffn_gate_exps.weight"]
    gate.data[...] = gate.data * 3
    reader.data.flush()
    return path


Points = tuple[tuple[float, float], ...]


def drawn_lines(trace: Trace, comparison: Comparison) -> list[Points]:
    """Means of each stage by layer; ratios and 1 - cosine of each stage by layer."""
    inside = [stage for stage in trace.stages if stage.layer is not None]
    lines = [line for line in comparison.lines if line.stage != EXPERTS]
    return [
        *_by_stage(inside, lambda stage: stage.mean),
        *_by_stage(lines, lambda line: line.ratio),
        *_by_stage(lines, lambda line: max(1 - line.cosine, 1e-16)),
    ]


def _by_stage(of: list[Any], value: Callable[[Any], float]) -> Iterator[Points]:
    """The output stands after the last layer."""
    after = 1 + max(each.layer for each in of if each.layer is not None)
    for stage in {each.stage for each in of}:
        same = [each for each in of if each.stage == stage]
        yield _points((after if x.layer is None else x.layer, value(x)) for x in same)


def points(figure: Any) -> set[Points]:
    """Every line of a figure."""
    lines = [line for panel in figure.axes for line in panel.lines]
    return {_points(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in lines}


def marks(figure: Any) -> set[float]:
    """Where a vertical line stands in every panel."""
    return set.intersection(*(set(_upright(panel)) for panel in figure.axes))


def _upright(panel: Any) -> Iterator[float]:
    for line in panel.lines:
        places = list(line.get_xdata())
        if len(places) == 2 and places[0] == places[1]:
            yield places[0]


def _points(pairs: Any) -> Points:
    return tuple((float(x), float(f"{y:.9g}")) for x, y in pairs)
