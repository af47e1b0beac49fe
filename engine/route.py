"""What a fast route offers the forward pass: the places where nearly all of a pass's time goes.

Knows shapes; knows nothing of layers or architectures. Without a route `engine.model` decodes
weights and multiplies in float32: that plain route is the reference that every route here is held
against. All tensors are float32 on the model's device.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from engine.cache import KVCache
from engine.weights import Weight

Angles = tuple[Tensor, Tensor]  # cosine and sine [T, D/2]


@dataclass(frozen=True)
class Heads:
    """How attention is laid out in one layer; the gains [D] are those of Q and K before RoPE."""

    layer: int
    count: int
    kv_count: int
    size: int  # D
    window: int = 0  # positions that a query sees, its own included; 0 for all
    q_gain: Weight | None = None
    k_gain: Weight | None = None
    epsilon: float = 0.0


@dataclass(frozen=True)
class Layer:
    """The weights of one layer; biases of Q, K and V where there are some, a router likewise."""

    attn_norm: Weight
    projections: tuple[Weight, Weight, Weight]
    biases: tuple[Weight, Weight, Weight] | None
    heads: Heads
    attn_output: Weight
    ffn_norm: Weight
    router: Weight | None
    gate: Weight
    up: Weight
    down: Weight
    used: int  # experts of a token


class Route(Protocol):
    """Multiplies by the blocks as they lie in the file; one token at a time or many."""

    @property
    def name(self) -> str:
        """What runs, for a person to read: `avx2, 2 threads`."""

    def rows(self, weight: Weight, ids: Sequence[int]) -> Tensor:
        """The rows `ids` of a matrix [n, H]: [len(ids), H]."""

    def layers(
        self,
        layers: Sequence[Layer],
        x: Tensor,
        angles: Angles,
        cache: KVCache,
    ) -> tuple[Tensor, Tensor] | None:
        """x [T, H] through all layers at once: the residual stream, and what is yet to be added
        to it. None where this route takes them one operation at a time, by the methods below;
        the numbers are the same either way.
        """

    def linear(self, x: Tensor, weights: Sequence[Weight]) -> list[Tensor]:
        """x [T, in] times each weight [out, in] transposed: [T, out] each."""

    def norm(
        self, x: Tensor, delta: Tensor | None, gain: Weight, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        """x + delta, [T, H], and its RMSNorm by `gain` [H]."""

    def attend(
        self,
        projected: Sequence[Tensor],
        heads: Heads,
        angles: Angles,
        cache: KVCache,
    ) -> Tensor:
        """Queries, keys and values [T, heads * D] as projected: normed, turned by `angles`, put
        into the cache after its `length` positions, attended.

        Returns [T, heads * D].
        """

    def experts(
        self, x: Tensor, router: Weight, gate: Weight, up: Weight, down: Weight, k: int
    ) -> Tensor:
        """x [T, H] through the `k` experts of each token, as `engine.moe.moe_feed_forward`."""

    def swiglu(self, x: Tensor, gate: Weight, up: Weight, down: Weight) -> Tensor:
        """x [T, H] through one dense SwiGLU: [T, H]."""


# One token's embedding [1, H] and its angles to logits [1, V], by the route that is given.
Through = Callable[[Tensor, Angles, Route], Tensor]


class Step(Protocol):
    """One token's pass over one cache, which a device may have recorded."""

    def __call__(self, token: int, position: int, through: Through) -> Tensor:
        """Logits [1, V] of `token` at `position`."""


@runtime_checkable
class Resident(Route, Protocol):
    """A route whose weights and caches stay on its device, where it runs a token's pass whole."""

    def place(self, weights: Mapping[str, Weight]) -> dict[str, Weight]:
        """`weights` as they lie on the device. Raises `EngineError` where they do not fit."""

    def reserve(self, cache: KVCache) -> None:
        """All of the memory that `cache` may take, or `EngineError`."""

    def step(self, embedding: Weight, angles: Angles, cache: KVCache) -> Step:
        """A token's pass over `cache`, of whose every position `angles` has a row."""
