"""Launches Triton's kernels on torch tensors: grids, tiles and the tensors that results go into.

Knows shapes and how large tiles are on which device; knows nothing of layers, files or caches. On
a CPU the kernels run in Triton's interpreter, where a program costs milliseconds whatever its
size, so tiles are larger there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine import triton_kernels as kernels

Pointers = tuple[Tensor, Tensor, Tensor, Tensor]
WARPS = 2  # of a program for one token: 4 words for each thread, 16 bytes at once
STAGES = 2  # of a loop over tiles: room for two programs on a multiprocessor
PROGRAMS = 264  # twice as many as an H200 has multiprocessors


@dataclass(frozen=True)
class Matrix:
    """A matrix [rows, inner], or one of a stack, as a kernel takes it."""

    pointers: Pointers
    kind: str
    rows: int  # of one matrix
    inner: int


@dataclass(frozen=True)
class Tiles:
    """Sizes of tiles, all powers of 2: `rows` of a matrix at most by `words`, for one token;
    `tokens` by `columns` for many; the cache in `splits` shares for one token."""

    rows: int
    words: int
    tokens: int
    grouped: int  # tokens that go to one expert
    columns: int
    keys: int  # positions of the cache at once
    splits: int


GPU = Tiles(rows=4, words=256, tokens=64, grouped=32, columns=64, keys=16, splits=32)
INTERPRETER = Tiles(rows=256, words=32, tokens=32, grouped=16, columns=256, keys=64, splits=2)


def tiles_for(x: Tensor) -> Tiles:
    """The tiles for the device that x is on."""
    return GPU if x.is_cuda else INTERPRETER


def power_of_two(least: int) -> int:
    """The lowest one that is at least so much."""
    return 1 << (least - 1).bit_length()


def _cover(size: int, tile: int) -> int:
    return -(-size // tile)


def _height(counts: Sequence[int], tiles: Tiles) -> int:
    """Rows of a tile: as many as leave every multiprocessor something to do."""
    height = tiles.rows
    while height > 1 and sum(_cover(n, height) for n in counts) < PROGRAMS and tiles is GPU:
        height //= 2
    return height


def decode_rows(pointers: Pointers, kind: str, inner: int, ids: Tensor) -> Tensor:
    """Rows `ids` of a weight in float32 [len(ids), inner]."""
    out = torch.empty(len(ids), inner, device=ids.device)
    count, height, words = len(ids), 1 if tiles_for(ids) is GPU else 64, 256
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
    height = _height(counts, tiles)
    arguments: list[Tensor | int] = []
    for index in range(3):
        matrix = matrices[min(index, len(matrices) - 1)]
        arguments += [*matrix.pointers, counts[index] if index < len(counts) else 0]
    kinds = [matrices[min(index, len(matrices) - 1)].kind for index in range(3)]
    grid = (sum(_cover(count, height) for count in counts),)
    slots, chosen = (1, y) if experts is None else (len(experts), experts)
    kernels.matvec[grid](
        x,
        y,
        chosen,
        *arguments,
        matrices[0].inner,
        slots,
        experts is not None,
        *kinds,
        height,
        tiles.words,
        num_warps=WARPS,
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
    height = _height([gate.rows] * slots, tiles)
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
        tiles.words,
        num_warps=WARPS,
    )
    return h


@dataclass(frozen=True)
class Groups:
    """Tokens in the order of their experts, cut into tiles that go to one expert each.

    Every tensor is int32 and made on the device, whose counts the host never learns: `pairs`
    [P] is token * K + rank of each place in that order; `tiles` says a tile's expert, E for one
    that is not used, `starts` and `ends` its places.
    """

    pairs: Tensor
    tiles: Tensor
    starts: Tensor
    ends: Tensor
    matrices: int


def group(experts: Tensor, matrices: int, tile: int) -> Groups:
    """Sort the pairs of `experts` [T, K] by expert."""
    flat = experts.flatten().long()
    ranked, pairs = torch.sort(flat, stable=True)
    bounds = torch.searchsorted(ranked, torch.arange(matrices + 1, device=flat.device))
    counts = (bounds[1:] - bounds[:-1] + tile - 1) // tile  # tiles of each expert
    after = counts.cumsum(0)
    places = torch.arange(_cover(len(flat), tile) + matrices, device=flat.device)
    owner = torch.searchsorted(after, places, right=True)  # E for tiles beyond the last
    known = owner.clamp(max=matrices - 1)
    starts = bounds[known] + (places - after[known] + counts[known]) * tile
    ends = bounds[known + 1]
    return Groups(pairs.int(), owner.int(), starts.int(), ends.int(), matrices)


def matmul(
    x: Tensor, matrix: Matrix, groups: Groups | None = None, tiles: Tiles | None = None
) -> Tensor:
    """x [T, inner] by a matrix: [T, rows]; grouped, row p of x by its expert's, to its pair."""
    tiles = tiles or tiles_for(x)
    y = torch.empty(len(x), matrix.rows, device=x.device)
    high, tables = _tables(len(x), y, groups, tiles)
    grid = (_cover(matrix.rows, tiles.columns), len(tables[1]) if groups else _cover(len(x), high))
    kernels.matmul[grid](
        x,
        y,
        *tables,
        *matrix.pointers,
        matrix.rows,
        len(x),
        groups.matrices if groups else 1,
        matrix.inner,
        groups is not None,
        matrix.kind,
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
    h = torch.empty(len(x) * used, gate.rows, device=x.device)
    high, tables = _tables(len(x), h, groups, tiles)
    grid = (_cover(gate.rows, tiles.columns), len(tables[1]) if groups else _cover(len(x), high))
    kernels.matmul_swiglu[grid](
        x,
        h,
        *tables,
        shares,
        *gate.pointers,
        *up.pointers,
        gate.rows,
        len(x),
        groups.matrices if groups else 1,
        used,
        gate.inner,
        groups is not None,
        gate.kind,
        up.kind,
        high,
        tiles.columns,
        num_stages=STAGES,
    )
    return h


def _tables(
    count: int, unused: Tensor, groups: Groups | None, tiles: Tiles
) -> tuple[int, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Tokens of a tile, and the groups' tensors."""
    if groups is None:
        return tiles.tokens, (unused, unused, unused, unused)
    return tiles.grouped, (groups.pairs, groups.tiles, groups.starts, groups.ends)


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
        x, added, gain, total, normed, epsilon, size, delta is not None, power_of_two(size)
    )
    return total, normed


def top_experts(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Shares float32 [T, K], which sum to 1, and experts int32 [T, K] of router logits [T, E]."""
    count, size = logits.shape
    shares = torch.empty(count, k, device=logits.device)
    experts = torch.empty(count, k, dtype=torch.int32, device=logits.device)
    kernels.top_experts[(count,)](
        logits, shares, experts, size, k, power_of_two(size), power_of_two(k)
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
    )
    out = torch.empty(1, a.heads * a.size, device=q.device)
    kernels.join_splits[(a.heads,)](
        parts, peaks, sums, out, a.heads, a.size, power_of_two(a.size), tiles.splits
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
    kernels.turn[(_cover(count, tiles.tokens), a.heads + 2 * a.kv_heads)](
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
        tiles.tokens,
    )
    kernels.attend_many[(_cover(count, tiles.tokens), a.heads)](
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
        tiles.tokens,
        32,
        num_stages=STAGES,
    )
    return out
