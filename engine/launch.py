"""Launches Triton's kernels on torch tensors: grids, tiles and the tensors that results go into.

Knows shapes and how large tiles are on which device; knows nothing of layers, files or caches. On
a CPU the kernels run in Triton's interpreter, where a program costs milliseconds whatever its
size, so tiles are larger there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine import triton_kernels as kernels

Pointers = tuple[Tensor, Tensor, Tensor, Tensor]
STAGES = 2  # of a loop over tiles: room for two programs on a multiprocessor
PROGRAMS = 264  # twice as many as an H200 has multiprocessors


@dataclass(frozen=True)
class Matrix:
    """A matrix [rows, inner], or one of a stack, as a kernel takes it."""

    pointers: Pointers
    kind: str
    rows: int  # of one matrix
    inner: int
    unit: float  # what float16 factors are divided by


@dataclass(frozen=True)
class Tiles:
    """Sizes of tiles, all powers of 2: `rows` of a matrix at most by `words`, for one token;
    `tokens` by `columns` for many; the cache in `splits` shares for one token."""

    rows: int
    words: int
    tokens: int
    grouped: int  # tokens that go to one expert
    columns: int
    queries: int  # of attention
    keys: int  # positions of the cache at once
    splits: int


GPU = Tiles(rows=4, words=256, tokens=64, grouped=64, columns=64, queries=64, keys=16, splits=32)
WIDE = replace(GPU, tokens=128)  # where a multiprocessor has the memory for it
WIDE_MEMORY = 200 << 10
INTERPRETER = Tiles(
    rows=256, words=32, tokens=32, grouped=16, columns=256, queries=32, keys=64, splits=2
)


def tiles_for(x: Tensor) -> Tiles:
    """The tiles for the device that x is on: as quick as any that were tried on an H200."""
    if not x.is_cuda:
        return INTERPRETER
    properties = torch.cuda.get_device_properties(x.device)
    memory: int = getattr(properties, "shared_memory_per_block_optin", 0)  # none on AMD's
    return WIDE if memory >= WIDE_MEMORY else GPU


def power_of_two(least: int) -> int:
    """The lowest one that is at least so much."""
    return 1 << (least - 1).bit_length()


def _early(x: Tensor) -> dict[str, bool]:
    """Options of a kernel that starts before the last one has ended, and waits for it inside.

    That spares a token's many small kernels a start each, where the device can do so.
    """
    if x.is_cuda and torch.cuda.get_device_capability(x.device) >= (9, 0):
        return {"EARLY": True, "launch_pdl": True}
    return {"EARLY": False}


def _cover(size: int, tile: int) -> int:
    return -(-size // tile)


def _one_token(
    counts: Sequence[int], inner: int, kind: str, tiles: Tiles
) -> tuple[int, int, dict[str, int]]:
    """Rows and words of a tile for one token, and warps of its program.

    Rows are few where that leaves every multiprocessor something to do, and many where there are
    so many that what a program reads of x counts.
    """
    rows, words = tiles.rows, tiles.words
    if tiles not in (GPU, WIDE):
        return rows, words, {}
    if kind == "F":
        words = 2048  # numbers, here
    elif inner >= 4096:
        words = 512
    elif sum(counts) > 1 << 15:
        rows = 16
    while rows > 1 and sum(_cover(n, rows) for n in counts) < PROGRAMS:
        rows //= 2
    return rows, words, {"num_warps": 2 if words == 256 and rows <= 4 else 4}


def decode_rows(pointers: Pointers, kind: str, inner: int, ids: Tensor) -> Tensor:
    """Rows `ids` of a weight in float32 [len(ids), inner]."""
    out = torch.empty(len(ids), inner, device=ids.device)
    count, height, words = len(ids), 1 if ids.is_cuda else 64, 256
    grid = (_cover(count, height), _cover(inner, 8 * words))
    # A fused multiply-add would round otherwise than the file's definition does.
    kernels.rows[grid](
        *pointers, ids, out, count, inner, kind, height, words, enable_fp_fusion=False
    )
    return out


def matvec(
    x: Tensor, matrices: Sequence[Matrix], experts: Tensor | None = None, tiles: Tiles | None = None
) -> list[Tensor]:
    """x [1, inner] by up to three matrices, in one launch: [1, rows] each.

    With `experts` int32 [slots], x is [slots, inner], and the result the sum over slots of each by
    its expert's matrix.
    """
    tiles = tiles or tiles_for(x)
    counts = [each.rows for each in matrices]
    y = torch.empty(1, sum(counts), device=x.device)
    slots, chosen = (1, y) if experts is None else (len(experts), experts)
    inner = matrices[0].inner
    height, words, warps = _one_token(counts, inner, matrices[0].kind, tiles)
    arguments: list[Tensor | int] = []
    for index in range(3):
        matrix = matrices[min(index, len(matrices) - 1)]
        arguments += [*matrix.pointers, counts[index] if index < len(counts) else 0]
    kinds = [matrices[min(index, len(matrices) - 1)].kind for index in range(3)]
    grid = (sum(_cover(count, height) for count in counts),)
    kernels.matvec[grid](
        x,
        y,
        chosen,
        *arguments,
        inner,
        slots,
        experts is not None,
        *kinds,
        height,
        words,
        **warps,
        **_early(x),
    )
    return list(torch.split(y, counts, dim=1))


def matvec_swiglu(
    x: Tensor,
    gate: Matrix,
    up: Matrix,
    routed: tuple[Tensor, Tensor] | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """silu(gate x) * up x of x [1, inner]: [1, rows].

    With `routed`, shares [slots] and experts [slots]: of each expert's matrices, times its share,
    [slots, rows].
    """
    tiles = tiles or tiles_for(x)
    slots = 1 if routed is None else len(routed[1])
    h = torch.empty(slots, gate.rows, device=x.device)
    shares, experts = (h, h) if routed is None else routed
    height, words, warps = _one_token([gate.rows] * slots, gate.inner, gate.kind, tiles)
    kernels.matvec_swiglu[(_cover(gate.rows, height), slots)](
        x,
        h,
        experts,
        shares,
        *gate.pointers,
        *up.pointers,
        gate.rows,
        gate.inner,
        routed is not None,
        gate.kind,
        up.kind,
        height,
        words,
        **warps,
        **_early(x),
    )
    return h


@dataclass(frozen=True)
class Groups:
    """Tokens in the order of their experts, on the device: the host never learns the counts.

    `pairs` int32 [P] is token * K + rank of each place in that order, `bounds` int32 [E + 1] where
    each expert's places begin.
    """

    pairs: Tensor
    bounds: Tensor

    @property
    def matrices(self) -> int:
        return len(self.bounds) - 1

    def tiles(self, size: int) -> int:
        """How many tiles of `size` places of one expert there may be at most."""
        return len(self.pairs) // size + self.matrices


def group(experts: Tensor, matrices: int) -> Groups:
    """Sort the pairs of `experts`, int32 [T, K], by expert."""
    count = experts.numel()
    pairs = torch.empty(count, dtype=torch.int32, device=experts.device)
    bounds = torch.empty(matrices + 1, dtype=torch.int32, device=experts.device)
    kernels.group[(matrices,)](experts, pairs, bounds, count, matrices, 1024)
    return Groups(pairs, bounds)


Laid = Mapping[str, tuple[Tensor, Tensor]]


def layouts(x: Tensor, kinds: Collection[str]) -> Laid:
    """x [T, inner] as products with each kind take it, and factors [T] to multiply these by.

    Of blocks float16, in the order of their words; of a float type x itself.
    """
    made = {words: _laid_out(x, words) for words in {_WORDS[kind] for kind in kinds} if words}
    return {kind: made.get(_WORDS[kind], (x, x)) for kind in kinds}


_WORDS = {"F": 0, "Q6_K": 2, "Q4_K": 4, "Q5_K": 4, "Q8_0": 4, "Q4_0": 4}  # of a group


def _laid_out(x: Tensor, words: int) -> tuple[Tensor, Tensor]:
    count, inner = x.shape
    size = _cover(inner, 256) * 256
    laid = torch.empty(count, size, dtype=torch.float16, device=x.device)
    factors = torch.empty(count, device=x.device)
    kernels.lay_out[(count,)](x, laid, factors, inner, size, words, power_of_two(size))
    return laid, factors


def matmul(
    x: Tensor,
    matrix: Matrix,
    groups: Groups | None = None,
    laid: Laid | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """x [T, inner] by a matrix: [T, rows]; grouped, row p of x by its expert's, to its pair.

    `laid` is x laid out, where that is done already.
    """
    tiles = tiles or tiles_for(x)
    laid = laid or layouts(x, [matrix.kind])
    y = torch.empty(len(x), matrix.rows, device=x.device)
    high, many, tables = _tables(len(x), y, groups, tiles)
    kernels.matmul[(_cover(matrix.rows, tiles.columns), many)](
        *laid[matrix.kind],
        y,
        *tables,
        *matrix.pointers,
        matrix.unit,
        matrix.rows,
        len(x),
        groups.matrices if groups else 1,
        matrix.inner,
        groups is not None,
        matrix.kind,
        power_of_two(groups.matrices) if groups else 1,
        high,
        tiles.columns,
        num_stages=STAGES,
    )
    return y


def matmul_swiglu(
    x: Tensor,
    gate: Matrix,
    up: Matrix,
    routed: tuple[Groups, Tensor, int] | None = None,
    tiles: Tiles | None = None,
) -> Tensor:
    """silu(gate x) * up x of x [T, inner]: [T, rows].

    With `routed`, groups, shares [T, K] and K: of each pair by its expert's matrices, times its
    share, [T * K, rows] in the groups' order.
    """
    tiles = tiles or tiles_for(x)
    groups, shares, used = routed or (None, x, 1)
    laid = layouts(x, {gate.kind, up.kind})
    h = torch.empty(len(x) * used, gate.rows, device=x.device)
    high, many, tables = _tables(len(x), h, groups, tiles)
    kernels.matmul_swiglu[(_cover(gate.rows, tiles.columns), many)](
        *laid[gate.kind],
        *laid[up.kind],
        h,
        *tables,
        shares,
        *gate.pointers,
        gate.unit,
        *up.pointers,
        up.unit,
        gate.rows,
        len(x),
        groups.matrices if groups else 1,
        used,
        gate.inner,
        groups is not None,
        gate.kind,
        up.kind,
        power_of_two(groups.matrices) if groups else 1,
        high,
        tiles.columns,
        num_stages=STAGES,
    )
    return h


def _tables(
    count: int, unused: Tensor, groups: Groups | None, tiles: Tiles
) -> tuple[int, int, tuple[Tensor, Tensor]]:
    """Tokens of a tile, how many tiles, and the groups' tensors."""
    if groups is None:
        return tiles.tokens, _cover(count, tiles.tokens), (unused, unused)
    return tiles.grouped, groups.tiles(tiles.grouped), (groups.pairs, groups.bounds)


def add_norm(
    x: Tensor, delta: Tensor | None, gain: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """x + delta, [T, H], and its RMSNorm."""
    x = x.contiguous()
    total = x if delta is None else torch.empty_like(x)
    normed = torch.empty_like(x)
    size = x.shape[-1]
    added = x if delta is None else delta.contiguous()
    kernels.add_norm[(len(x),)](
        *(x, added, gain, total, normed, epsilon, size, delta is not None, power_of_two(size)),
        **_early(x),
    )
    return total, normed


def top_experts(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Shares float32 [T, K], which sum to 1, and experts int32 [T, K] of router logits [T, E]."""
    count, size = logits.shape
    shares = torch.empty(count, k, device=logits.device)
    experts = torch.empty(count, k, dtype=torch.int32, device=logits.device)
    kernels.top_experts[(count,)](
        *(logits, shares, experts, size, k, power_of_two(size), power_of_two(k)),
        num_warps=1,
        **_early(logits),
    )
    return shares, experts


@dataclass(frozen=True)
class Attention:
    """One layer's heads, their gains [D] where they are normed, and its part of the cache.

    `keys` and `values` are [kv heads, S, D].
    """

    heads: int
    kv_heads: int
    size: int  # D
    window: int
    gains: tuple[Tensor, Tensor] | None
    epsilon: float
    keys: Tensor
    values: Tensor


def attend_one(
    projected: Sequence[Tensor],
    angles: tuple[Tensor, Tensor],
    a: Attention,
    position: Tensor,
    tiles: Tiles | None = None,
) -> Tensor:
    """Attention of one token at `position`, int32 [1] on the device: [1, heads * D].

    Its key and value go into the cache there.
    """
    q, k, v = projected
    tiles = tiles or tiles_for(q)
    parts = torch.empty(tiles.splits, a.heads, a.size, device=q.device)
    peaks, sums = torch.empty(2, tiles.splits, a.heads, device=q.device)
    group = a.heads // a.kv_heads
    kernels.attend_one[(a.kv_heads, tiles.splits)](
        q,
        k,
        v,
        *(a.gains or (q, q)),
        *angles,
        a.keys,
        a.values,
        position,
        parts,
        peaks,
        sums,
        a.keys.stride(0),
        a.heads,
        a.window,
        a.epsilon,
        group,
        a.size,
        a.gains is not None,
        max(16, power_of_two(group)),
        max(16, power_of_two(a.size // 2)),
        tiles.keys,
        tiles.splits,
        **_early(q),
    )
    out = torch.empty(1, a.heads * a.size, device=q.device)
    kernels.join_splits[(a.heads,)](
        *(parts, peaks, sums, out, a.heads, a.size, power_of_two(a.size), tiles.splits),
        **_early(q),
    )
    return out


def attend_many(
    projected: Sequence[Tensor],
    angles: tuple[Tensor, Tensor],
    a: Attention,
    start: int,
    tiles: Tiles | None = None,
) -> Tensor:
    """Attention of T tokens after `start` positions: [T, heads * D]; they go into the cache."""
    q, k, v = projected
    tiles = tiles or tiles_for(q)
    count = len(q)
    turned, out = torch.empty_like(q), torch.empty_like(q)
    stride = a.keys.stride(0)
    kernels.turn[(_cover(count, tiles.queries), a.heads + 2 * a.kv_heads)](
        q,
        k,
        v,
        *(a.gains or (q, q)),
        *angles,
        turned,
        a.keys,
        a.values,
        start,
        count,
        stride,
        a.heads,
        a.kv_heads,
        a.epsilon,
        a.size,
        a.gains is not None,
        power_of_two(a.size // 2),
        tiles.queries,
    )
    kernels.attend_many[(_cover(count, tiles.queries), a.heads)](
        turned,
        a.keys,
        a.values,
        out,
        start,
        count,
        stride,
        a.heads,
        a.heads // a.kv_heads,
        a.window,
        a.size,
        max(16, power_of_two(a.size)),
        tiles.queries,
        32,
        num_stages=STAGES,
    )
    return out
