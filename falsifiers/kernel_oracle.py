"""What the compiled kernels should make, in float64: an emulation of their 8-bit arithmetic.

Weights are decoded by the `gguf` package. Knows types, scales and rounding; knows nothing of tiles,
instructions or threads, and shares no code with the engine.
"""

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

Floats = NDArray[np.floating]
NUMBERS = {"Q4_0": 32, "Q8_0": 32, "Q4_K": 256, "Q5_K": 256, "Q6_K": 256}  # of a block
BLOCK = {"Q4_0": 18, "Q8_0": 34, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}  # bytes
SCALES = {"Q4_0": (0,), "Q8_0": (0,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}  # bytes


def blocks(kind: str, rows: int, columns: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random blocks [rows, bytes]: any number and inner scale that the type can hold, sane scales.

    Row 0 has the largest numbers everywhere, row 1 the least, row 2 only zeros, and row 3 scales
    below the normal halves.
    """
    random = np.random.default_rng(seed)
    shape = (rows, columns // NUMBERS[kind], BLOCK[kind])
    made = random.integers(0, 256, shape, dtype=np.uint8)
    for row, byte in enumerate((0xFF if kind != "Q8_0" else 0x7F, 0x80, 0)[:rows]):
        made[row] = byte
    if kind == "Q6_K":
        made[0, :, 192:208] = 0x80  # inner scales of -128
    for place in SCALES[kind]:
        scales = random.uniform(0.5, 1.5, made.shape[:2]) * random.choice([-1, 1], made.shape[:2])
        scales = (scales / 256).astype(np.float16)
        scales[3:4] = np.float16(3e-6)
        made[..., place : place + 2] = scales[..., None].view(np.uint8)
    return made.reshape(rows, -1)


def activations(tokens: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    """Normal numbers [tokens, columns]; the second token is the same number everywhere, which is
    the largest that 8 bits hold, and the third has blocks of zeros."""
    x = np.random.default_rng(seed).standard_normal((tokens, columns)).astype(np.float32)
    x[1:2] = -0.75
    x[2:3, : columns // 2] = 0
    return x


def decoded(kind: str, raw: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Weights [.., columns] in blocks of `kind` [.., bytes]."""
    return dequantize(raw, GGMLQuantizationType[kind]).astype(np.float64)


def rounded(x: Floats, kind: str) -> NDArray[np.float64]:
    """x [.., columns] as its 8 bits give it, with a scale for each block of `kind`."""
    parts = x.astype(np.float32).reshape(-1, NUMBERS[kind])
    most = np.abs(parts).max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        inverse = np.where(most > 0, np.float32(127) / most, np.float32(0))
    numbers = np.rint(parts * inverse)  # ties to even
    return (numbers.astype(np.float64) * (most / np.float32(127))).reshape(x.shape)


def product(x: Floats, kind: str, raw: NDArray[np.uint8]) -> NDArray[np.float64]:
    """x [T, in] times the weight [out, in] transposed, in 8-bit activations: [T, out]."""
    return rounded(x, kind) @ decoded(kind, raw).swapaxes(-1, -2)


def swiglu(x: Floats, kinds: dict[str, str], raw: dict[str, NDArray[np.uint8]]) -> Floats:
    """x [T, H] through one expert, `gate`, `up` and `down`: [T, H]."""
    g, u = (product(x, kinds[part], raw[part]) for part in ("gate", "up"))
    inner = g / (1 + np.exp(-g)) * u
    return product(inner.astype(np.float32), kinds["down"], raw["down"])


def relative(found: Floats, expected: Floats) -> float:
    """The L2 norm of the difference as a share of the expected one's."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def norm(x: Floats, gain: Floats, epsilon: float) -> NDArray[np.float64]:
    """RMSNorm over the last dimension."""
    x = x.astype(np.float64)
    return gain * x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + epsilon)


def turned(x: Floats, cos: Floats, sin: Floats) -> NDArray[np.float64]:
    """RoPE of heads [T, n, D] by angles [T, D/2], pairs (i, i + D/2), as complex numbers."""
    a, b = np.split(x.astype(np.float64), 2, axis=-1)
    made = (a + 1j * b) * (cos.astype(np.float64) + 1j * sin)[:, None]
    return np.concatenate([made.real, made.imag], axis=-1)


def attended(q: Floats, keys: Floats, values: Floats, window: int) -> NDArray[np.float64]:
    """The last T queries [T, n, D] over keys and values [kv, S, D]: [T, n, D], one by one."""
    count, heads, size = q.shape
    kv, end, _ = keys.shape
    made = np.zeros(q.shape)
    for t, head in np.ndindex(count, heads):
        last = end - count + t + 1
        seen = slice(max(0, last - window) if window else 0, last)
        scores = keys[head * kv // heads, seen] @ q[t, head] / np.sqrt(size)
        weights = np.exp(scores - scores.max())
        made[t, head] = weights @ values[head * kv // heads, seen] / weights.sum()
    return made
