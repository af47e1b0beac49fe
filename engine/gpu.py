"""The route of an NVIDIA GPU: Triton's kernels on quantised weights that stay on the device.

Knows which kernel does which part of a pass, that a token's pass can be captured in a CUDA graph,
and how much memory all of it takes; knows nothing of layers, files or of what kernels do inside.
"""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from engine import launch
from engine.cache import KVCache
from engine.errors import EngineError
from engine.launch import Matrix
from engine.packed import Packed, place
from engine.quant import row_bytes
from engine.route import Angles, Heads, Layer, Through
from engine.weights import Blocks, Weight

CAP = 0.95  # of the device's memory
WORK = 1 << 30  # bytes for what a pass makes, and for laying out a weight
TOKENS = 4096  # that go through experts at once, so that what they make stays within WORK


class Gpu:
    """Multiplies by weights that were placed on `device`, none of which is decoded as a whole."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self._position: Tensor | None = None  # of the one token, where the device alone knows it
        if self.device.type == "cuda":
            require_device(self.device)
            torch.cuda.set_device(self.device.index or 0)

    @property
    def name(self) -> str:
        if self.device.type != "cuda":
            return f"triton on {self.device}"
        return f"triton on {torch.cuda.get_device_name(self.device)}"

    def place(self, weights: Mapping[str, Weight]) -> dict[str, Weight]:
        """`weights` as they lie on the device. Raises `EngineError` where they do not fit."""
        require_memory(self.device, {"weights": sum(map(size_of, weights.values())), "work": WORK})
        return {name: place(weight, self.device) for name, weight in weights.items()}

    def reserve(self, cache: KVCache) -> None:
        """All of the memory of `cache`, whose addresses then stay, or `EngineError`."""
        if cache.keys.shape[2] == cache.capacity:
            return
        # Old and new keys and values are there at once while a cache grows.
        more = {"cache": cache.bytes(cache.capacity), "work": WORK}
        require_memory(self.device, more, f"{cache.capacity} positions")
        cache.reserve(cache.capacity)

    def step(self, embedding: Weight, angles: Angles, cache: KVCache) -> "Step":
        """A token's pass over `cache`; `angles` are those of every position of it."""
        self.reserve(cache)
        return Step(self, _packed(embedding), angles)

    def at(self, position: Tensor) -> "Gpu":
        """This route for one token, whose position, int64 [1], is read on the device."""
        route = copy(self)
        route._position = position
        return route

    def rows(self, weight: Weight, ids: Sequence[int]) -> Tensor:
        return weight.rows(ids, self.device)

    def layers(self, layers: Sequence[Layer], x: Tensor, angles: Angles, cache: KVCache) -> None:
        """None: this route takes them one operation at a time."""

    def linear(self, x: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
        matrices = [_matrix(weight) for weight in weights]
        x = x.contiguous()
        if len(x) == 1:
            return launch.matvec(x, matrices)
        laid = launch.layouts(x, {matrix.kind for matrix in matrices})
        return [self._many(x, matrix, laid) for matrix in matrices]

    def norm(
        self, x: Tensor, delta: Tensor | None, gain: Weight, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        return launch.add_norm(x, delta, _vector(gain), epsilon)

    def attend(
        self, projected: Sequence[Tensor], heads: Heads, angles: Angles, cache: KVCache
    ) -> Tensor:
        cache.require_room(len(projected[0]))
        self.reserve(cache)
        gains = None
        if heads.q_gain is not None and heads.k_gain is not None:
            gains = _vector(heads.q_gain), _vector(heads.k_gain)
        laid_out = launch.Attention(
            heads.count,
            heads.kv_count,
            heads.size,
            heads.window,
            gains,
            heads.epsilon,
            cache.keys[heads.layer],
            cache.values[heads.layer],
        )
        projected = [each.contiguous() for each in projected]
        if self._position is not None:
            return launch.attend_one(projected, angles, laid_out, self._position)
        return launch.attend_many(projected, angles, laid_out, cache.length)

    def experts(
        self, x: Tensor, router: Weight, gate: Weight, up: Weight, down: Weight, k: int
    ) -> Tensor:
        stacks = Experts(_matrix(gate), _matrix(up), _matrix(down), gate.shape[0])
        x = x.contiguous()
        [logits] = self.linear(x, [router])
        shares, experts = launch.top_experts(logits, k)
        if len(x) > 1:
            cuts = [slice(start, start + TOKENS) for start in range(0, len(x), TOKENS)]
            made = [_together(x[cut], shares[cut], experts[cut], stacks) for cut in cuts]
            return made[0] if len(made) == 1 else torch.cat(made)
        h = launch.matvec_swiglu(x, stacks.gate, stacks.up, (shares[0], experts[0]))
        return launch.matvec(h, [stacks.down], experts[0])[0]

    def swiglu(self, x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
        x = x.contiguous()
        fused = launch.matvec_swiglu if len(x) == 1 else launch.matmul_swiglu
        return self.linear(fused(x, _matrix(gate), _matrix(up)), [down])[0]

    def _many(self, x: Tensor, matrix: Matrix, laid: launch.Laid) -> Tensor:
        if matrix.kind == "F":  # a router: TF32 would send tokens to other experts
            return torch.nn.functional.linear(x, matrix.pointers[0].to(x.dtype))
        return launch.matmul(x, matrix, laid=laid)


@dataclass(frozen=True)
class Experts:
    """The stacks of one layer's experts, and how many there are."""

    gate: Matrix
    up: Matrix
    down: Matrix
    count: int


def _together(x: Tensor, shares: Tensor, experts: Tensor, stacks: Experts) -> Tensor:
    """Many tokens through their experts, each expert's weights read once for its tokens."""
    k = experts.shape[1]
    groups = launch.group(experts, stacks.count)
    h = launch.matmul_swiglu(x, stacks.gate, stacks.up, (groups, shares, k))
    return launch.matmul(h, stacks.down, groups).reshape(len(x), k, -1).sum(1)


class Step:
    """One token's pass over one cache: inputs and results stay where they are on the device.

    On a GPU the first call runs the pass once, for what compiles and is loaded on first use, and
    then captures it in a CUDA graph; every call replays that. Elsewhere each call runs the pass.
    """

    def __init__(self, route: Gpu, embedding: Packed, angles: Angles) -> None:
        device = route.device
        self._embedding = embedding
        self._angles = angles
        self._token = torch.zeros(1, dtype=torch.int64, device=device)
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._route = route.at(self._position)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = torch.empty(0, device=device)

    def __call__(self, token: int, position: int, through: Through) -> Tensor:
        """Logits [1, V] of `token` at `position`.

        `through` is called only while there is no graph, and kept by nobody.
        """
        self._token.fill_(token)
        self._position.fill_(position)
        if not self._token.is_cuda:
            return self._run(through)
        if self._graph is None:
            self._graph = self._capture(through)
        self._graph.replay()
        return self._logits.clone()  # which the next replay would overwrite

    def _run(self, through: Through) -> Tensor:
        cos, sin = (table.index_select(0, self._position) for table in self._angles)
        return through(self._embedding.take(self._token), (cos, sin), self._route)

    def _capture(self, through: Through) -> torch.cuda.CUDAGraph:
        before = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        before.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(before):
            self._run(through)
        torch.cuda.current_stream().wait_stream(before)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._run(through)
        return graph


def _packed(weight: Weight) -> Packed:
    if not isinstance(weight, Packed):
        raise EngineError(f"{weight.name}: found a weight that was not placed on the device")
    return weight


def _matrix(weight: Weight) -> Matrix:
    packed = _packed(weight)
    rows, inner = packed.shape[-2:]
    return Matrix(packed.pointers, packed.kind, rows, inner, packed.unit)


def _vector(weight: Weight) -> Tensor:
    return weight.dequantise()  # placed vectors are float32 on the device already


def size_of(weight: Weight) -> int:
    """Bytes that `weight` takes on the device: those of the file, 4 a number for a vector."""
    if isinstance(weight, Blocks) and len(weight.shape) > 1:
        width = row_bytes(weight.type, weight.shape[-1], weight.name)
        return prod(weight.shape[:-1]) * width
    return 4 * prod(weight.shape)


def require_device(device: torch.device) -> None:
    """Refuse a device that is not there, or that Triton does not compile for."""
    found = torch.cuda.device_count()
    if (device.index or 0) >= found:
        raise EngineError(f"device {str(device)!r}: found {found} CUDA devices")
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        version = ".".join(map(str, capability))
        raise EngineError(
            f"device {str(device)!r}: found compute capability {version}, expected at least 8.0; "
            "the plain route runs there (--route plain)"
        )


def require_memory(device: torch.device, sizes: Mapping[str, int], what: str = "") -> None:
    """Refuse what would take more than `CAP` of the device's memory, before it is taken.

    `sizes` are bytes by what they are for. A CPU's memory is not looked at.
    """
    if device.type != "cuda":
        return
    free, total = torch.cuda.mem_get_info(device)
    # What torch holds and does not use is free to it.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    room = free - int((1 - CAP) * total)
    needed = sum(sizes.values())
    if needed > room:
        parts = " + ".join(f"{size / 1e9:.2f} GB of {name}" for name, size in sizes.items())
        advice = f"ask for fewer than {what}" if what else "use a smaller file or --device cpu"
        raise EngineError(
            f"device {str(device)!r}: found {max(room, 0) / 1e9:.2f} GB free below {CAP:.0%} of "
            f"{total / 1e9:.2f} GB, expected room for {parts}; {advice}"
        )
