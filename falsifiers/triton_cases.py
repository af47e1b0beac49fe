"""Where the GPU's kernels run in a test, faulty copies of them, and what they should make.

On the GPU if there is one, else in Triton's interpreter on a CPU's tensors. The oracles are the
`gguf` package's numbers and float64 arithmetic in numpy.
"""

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from engine.quant import quantise
from engine.weights import Blocks

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SOURCE = Path(__file__).parent.parent / "engine" / "triton_kernels.py"


@contextmanager
def interpreting() -> Iterator[None]:
    """Kernels that are defined here are interpreted, where there is no GPU to compile them for.

    Triton itself must be imported here first; nothing else in the project imports it.
    """
    before = os.environ.get("TRITON_INTERPRET")
    if DEVICE == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TRITON_INTERPRET", None)
        else:
            os.environ["TRITON_INTERPRET"] = before


def mutant(old: str, new: str) -> ModuleType:
    """The kernels with `old`, which their text holds once, replaced by `new`."""
    text = SOURCE.read_text()
    if text.count(old) != 1:
        raise ValueError(f"found {text.count(old)} times, expected once: {old}")
    folder = Path(tempfile.mkdtemp())  # kept, because Triton reads a kernel's source when it runs
    path = folder / f"kernels_{abs(hash((old, new)))}.py"
    path.write_text(text.replace(old, new))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with interpreting():
        spec.loader.exec_module(module)
    return module


def running(name: str, faulty: ModuleType) -> Callable:
    """A fault for a launcher: it launches the kernel `name` of `faulty`."""

    def fault(launch: Callable) -> Callable:
        def launched(*arguments, **options):
            from engine import triton_kernels

            sound = getattr(triton_kernels, name)
            setattr(triton_kernels, name, getattr(faulty, name))
            try:
                return launch(*arguments, **options)
            finally:
                setattr(triton_kernels, name, sound)

        return launched

    return fault


def blocks(name: str, kind: str, *shape: int, seed: int = 0, scale: float = 1.0) -> Blocks:
    """A weight of random numbers, encoded."""
    numbers = np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * scale
    raw = quantise(torch.from_numpy(numbers), kind).numpy().reshape(-1)
    return Blocks(name, (raw,), kind, shape)


def decoded(weight: Blocks) -> np.ndarray:
    """The package's numbers, in float64."""
    raw = np.concatenate(weight.parts)
    found = dequantize(raw, GGMLQuantizationType[weight.type])
    return found.reshape(weight.shape).astype(np.float64)


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    random = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(random.astype(np.float32)).to(DEVICE)


def exact(x: torch.Tensor) -> np.ndarray:
    return x.cpu().numpy().astype(np.float64)


def relative_error(found: torch.Tensor, expected: np.ndarray) -> float:
    """The largest difference, beside the largest magnitude."""
    return float(np.abs(exact(found) - expected).max() / np.abs(expected).max())


def chosen(logits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares and experts of router logits [T, E]: softmax, top k, shares that sum to 1."""
    experts = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = np.take_along_axis(odds / odds.sum(axis=1, keepdims=True), experts, axis=1)
    return shares / shares.sum(axis=1, keepdims=True), experts


def swiglu(x: np.ndarray, gate: np.ndarray, up: np.ndarray, down: np.ndarray) -> np.ndarray:
    g = gate @ x
    return down @ (g / (1 + np.exp(-g)) * (up @ x))


def mixture(x, router, gate, up, down, k: int) -> np.ndarray:
    """Every token of x [T, H] through its k experts."""
    shares, experts = chosen(x @ router.T, k)
    made = [
        sum(w * swiglu(token, gate[e], up[e], down[e]) for w, e in zip(ws, es, strict=True))
        for token, ws, es in zip(x, shares, experts, strict=True)
    ]
    return np.stack(made)


def turned(x: np.ndarray, gain: np.ndarray | None, position: int, base: float) -> np.ndarray:
    """A head [D], normed where there is a gain, and turned by its position, in NEOX order."""
    if gain is not None:
        x = gain * x / np.sqrt((x * x).mean() + 1e-6)
    half = len(x) // 2
    angle = position / base ** (np.arange(half) / half)
    a, b = x[:half], x[half:]
    return np.concatenate(
        [a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)]
    )


def attended(q, k, v, gains, window: int, start: int, base: float) -> np.ndarray:
    """Causal attention of q [T, heads, D], after `start` positions that are not in it, in k and v
    [start + T, kv heads, D]: [T, heads * D]. The keys of earlier positions come normed and turned.
    """
    group, q_gain, k_gain = q.shape[1] // k.shape[1], *gains
    keys = k.copy()
    for place in range(start, len(k)):
        for head in range(k.shape[1]):
            keys[place, head] = turned(k[place, head], k_gain, place, base)
    out = np.zeros_like(q)
    for t in range(len(q)):
        place = start + t
        first = max(0, place + 1 - window) if window else 0
        for head in range(q.shape[1]):
            query = turned(q[t, head], q_gain, place, base)
            seen = slice(first, place + 1)
            scores = keys[seen, head // group] @ query / np.sqrt(len(query))
            odds = np.exp(scores - scores.max())
            out[t, head] = odds / odds.sum() @ v[seen, head // group]
    return out.reshape(len(q), -1)
