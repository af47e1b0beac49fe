"""Kernels in Triton: one token's and many tokens' arithmetic on weights as `engine.packed` lays
them out.

Knows pointers, tiles and the packed layout; knows nothing of layers or of what calls it. Every sum
runs in one order, without atomics, so that the same input gives the same bits.

A weight is four pointers, `lo`, `hi`, `sc` and `d`, and its type's name. Numbers that share a scale
are a group of 8 x W, and a group is W words of eight 4-bit numbers; place n of word w in group g
holds number W * (n ^ (g % 8)) + w of the group. So threads with neighbouring groups read the same
numbers of the input at once without meeting in a bank of shared memory. Of every float type, `F`,
`lo` is the matrix.

Tiles: R rows of a matrix, S groups, W words; M tokens, N rows, in products of many tokens.
"""

import triton
import triton.language as tl

BITS = tl.constexpr(0x4B000000)  # of 2^23, whose last bit is worth 1
WORDS = tl.constexpr(32)  # of a row, in one step of a product of many tokens


@triton.jit
def _wait(EARLY: tl.constexpr):
    """Until all that was launched before is done; then what comes next may start, and wait.

    A kernel that was launched `EARLY` may read weights before that, and nothing else.
    """
    if EARLY:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def _whole():
    """`BITS` in a register: from a constant the compiler makes two instructions of `& |`, not one.

    Every grid here is flat, so that the third place of a program is 0.
    """
    return BITS + tl.program_id(2)


@triton.jit
def _high(hi, at, mask, TYPE: tl.constexpr):
    """Of each word, the bits above the fourth; nothing where a type has but four."""
    if TYPE == "Q4_K" or TYPE == "Q4_0":
        return 0
    else:
        return tl.load(hi + at, mask=mask, other=0).to(tl.int32)


@triton.jit
def _number(lo, hi, whole, n: tl.constexpr, TYPE: tl.constexpr):
    """The n-th numbers of words, times 16^(n % 4), in float32 and without rounding.

    They stay where they are in the word, below bit 23, and the exponent of 2^23 is put over them;
    that spares a shift and a conversion.
    """
    place: tl.constexpr = 4 * (n % 4)
    least: tl.constexpr = (
        8 if TYPE == "Q4_0" else 32 if TYPE == "Q6_K" else 128 if TYPE == "Q8_0" else 0
    )
    bits = (lo >> (16 * (n // 4))) & (15 << place)
    if TYPE == "Q5_K":
        bits |= ((hi >> n) & 1) << (place + 4)
    if TYPE == "Q6_K":
        bits |= ((hi >> (2 * n)) & 3) << (place + 4)
    if TYPE == "Q8_0":
        bits |= ((hi >> (4 * n)) & 15) << (place + 4)
    return (bits | whole).to(tl.float32, bitcast=True) - (8388608 + (least << place))


@triton.jit
def _scale(sc, d, at, mask, TYPE: tl.constexpr):
    """Scale and minimum of the groups `at`, counted through the whole weight."""
    if TYPE == "Q4_K" or TYPE == "Q5_K":
        odd = at & 1
        byte = (at >> 1) * 3 + odd  # 12 bits for a group
        low = tl.load(sc + byte, mask=mask, other=0).to(tl.int32)
        high = tl.load(sc + byte + 1, mask=mask, other=0).to(tl.int32)
        pair = (low | (high << 8)) >> (4 * odd)
        half = (at >> 3) * 2
        step = tl.load(d + half, mask=mask, other=0.0).to(tl.float32)
        least = tl.load(d + half + 1, mask=mask, other=0.0).to(tl.float32)
        return step * (pair & 63).to(tl.float32), least * ((pair >> 6) & 63).to(tl.float32)
    elif TYPE == "Q6_K":
        step = tl.load(d + (at >> 4), mask=mask, other=0.0).to(tl.float32)
        return step * tl.load(sc + at, mask=mask, other=0).to(tl.float32), 0.0
    else:
        return tl.load(d + at, mask=mask, other=0.0).to(tl.float32), 0.0


@triton.jit
def _matrix(experts, slot, mask, GATHERED: tl.constexpr):
    """Which matrix of a stack a slot uses."""
    if GATHERED:
        return tl.load(experts + slot, mask=mask, other=0)
    else:
        return slot * 0


@triton.jit
def _dot_blocks(
    lo,
    hi,
    sc,
    d,
    x,
    experts,
    first,
    count,
    INNER: tl.constexpr,
    SLOTS: tl.constexpr,
    GATHERED: tl.constexpr,
    TYPE: tl.constexpr,
    R: tl.constexpr,
    TILE: tl.constexpr,
    EARLY: tl.constexpr,
):
    W: tl.constexpr = 2 if TYPE == "Q6_K" else 4
    S: tl.constexpr = TILE // W
    groups: tl.constexpr = INNER // (8 * W)
    row = first + tl.arange(0, R)
    w = tl.arange(0, W)
    whole = _whole()
    if GATHERED:
        _wait(EARLY)
    total = tl.zeros([S, R], tl.float32)  # groups first: neighbouring threads take those
    for start in range(0, SLOTS * groups, S):
        s = start + tl.arange(0, S)
        inside = s < SLOTS * groups
        slot = s // groups
        g = s - slot * groups
        matrix = _matrix(experts, slot, inside, GATHERED)
        at = (matrix[:, None] * count + row[None, :]) * groups + g[:, None]
        mask = inside[:, None] & (row < count)[None, :]
        word = at[:, :, None] * W + w[None, None, :]
        low = tl.load(lo + word, mask=mask[:, :, None], other=0)
        high = _high(hi, word, mask[:, :, None], TYPE)
        scale, least = _scale(sc, d, at, mask, TYPE)
        _wait(EARLY)
        turn = g & 7
        from_x = x + (s * (8 * W))[:, None] + w[None, :]
        product = tl.zeros([S, R, W], tl.float32)
        plain = tl.zeros([S, W], tl.float32)
        for n in tl.static_range(8):
            part = tl.load(from_x + ((turn ^ n) * W)[:, None], mask=inside[:, None], other=0.0)
            scaled = part * (1.0 / (1 << (4 * (n % 4))))
            product += _number(low, high, whole, n, TYPE) * scaled[:, None, :]
            plain += part
        total += scale * tl.sum(product, 2)
        if TYPE == "Q4_K" or TYPE == "Q5_K":
            total -= least * tl.sum(plain, 1)[:, None]
    return tl.sum(total, 0)


@triton.jit
def _dot_floats(
    matrices,
    x,
    experts,
    first,
    count,
    INNER: tl.constexpr,
    SLOTS: tl.constexpr,
    GATHERED: tl.constexpr,
    R: tl.constexpr,
    TILE: tl.constexpr,
    EARLY: tl.constexpr,
):
    row = first + tl.arange(0, R)
    if GATHERED:
        _wait(EARLY)
    total = tl.zeros([R, TILE], tl.float32)
    for start in range(0, SLOTS * INNER, TILE):
        s = start + tl.arange(0, TILE)
        inside = s < SLOTS * INNER
        slot = s // INNER
        matrix = _matrix(experts, slot, inside, GATHERED)
        at = (matrix[None, :] * count + row[:, None]) * INNER + (s - slot * INNER)[None, :]
        mask = inside[None, :] & (row < count)[:, None]
        weight = tl.load(matrices + at, mask=mask, other=0.0).to(tl.float32)
        _wait(EARLY)
        total += weight * tl.load(x + s, mask=inside, other=0.0)[None, :]
    return tl.sum(total, 1)


@triton.jit
def _dot(
    lo,
    hi,
    sc,
    d,
    x,
    experts,
    first,
    count,
    INNER: tl.constexpr,
    SLOTS: tl.constexpr,
    GATHERED: tl.constexpr,
    TYPE: tl.constexpr,
    R: tl.constexpr,
    TILE: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Rows `first` to `first` + R of a matrix [count, INNER] times x [INNER]: [R].

    With slots, x is [SLOTS, INNER], each by the matrix of its expert, and their sum is given.
    """
    if TYPE == "F":
        return _dot_floats(lo, x, experts, first, count, INNER, SLOTS, GATHERED, R, TILE, EARLY)
    else:
        return _dot_blocks(
            lo, hi, sc, d, x, experts, first, count, INNER, SLOTS, GATHERED, TYPE, R, TILE, EARLY
        )


@triton.jit
def matvec(
    x,
    y,
    experts,
    lo0,
    hi0,
    sc0,
    d0,
    count0,
    lo1,
    hi1,
    sc1,
    d1,
    count1,
    lo2,
    hi2,
    sc2,
    d2,
    count2,
    INNER: tl.constexpr,
    SLOTS: tl.constexpr,
    GATHERED: tl.constexpr,
    TYPE0: tl.constexpr,
    TYPE1: tl.constexpr,
    TYPE2: tl.constexpr,
    R: tl.constexpr,
    TILE: tl.constexpr,
    EARLY: tl.constexpr,
):
    """One token by up to three matrices, one after another in y; those unused have no rows.

    Grid: tiles of R rows, of the first matrix, then of the second, then of the third.
    """
    tile = tl.program_id(0)
    tiles0 = tl.cdiv(count0, R)
    tiles1 = tl.cdiv(count1, R)
    lane = tl.arange(0, R)
    if tile < tiles0:
        first = tile * R
        made = _dot(
            lo0,
            hi0,
            sc0,
            d0,
            x,
            experts,
            first,
            count0,
            INNER,
            SLOTS,
            GATHERED,
            TYPE0,
            R,
            TILE,
            EARLY,
        )
        tl.store(y + first + lane, made, mask=first + lane < count0)
    elif tile < tiles0 + tiles1:
        first = (tile - tiles0) * R
        made = _dot(
            lo1,
            hi1,
            sc1,
            d1,
            x,
            experts,
            first,
            count1,
            INNER,
            SLOTS,
            GATHERED,
            TYPE1,
            R,
            TILE,
            EARLY,
        )
        tl.store(y + count0 + first + lane, made, mask=first + lane < count1)
    else:
        first = (tile - tiles0 - tiles1) * R
        made = _dot(
            lo2,
            hi2,
            sc2,
            d2,
            x,
            experts,
            first,
            count2,
            INNER,
            SLOTS,
            GATHERED,
            TYPE2,
            R,
            TILE,
            EARLY,
        )
        tl.store(y + count0 + count1 + first + lane, made, mask=first + lane < count2)


@triton.jit
def matvec_swiglu(
    x,
    h,
    experts,
    shares,
    lo0,
    hi0,
    sc0,
    d0,
    lo1,
    hi1,
    sc1,
    d1,
    count,
    INNER: tl.constexpr,
    GATHERED: tl.constexpr,
    TYPE0: tl.constexpr,
    TYPE1: tl.constexpr,
    R: tl.constexpr,
    TILE: tl.constexpr,
    EARLY: tl.constexpr,
):
    """silu(gate x) * up x of one token in each slot, times the slot's share: h [slots, count].

    Grid: tiles of R rows, slots.
    """
    first = tl.program_id(0) * R
    slot = tl.program_id(1)
    chosen = experts + slot
    gate = _dot(
        lo0, hi0, sc0, d0, x, chosen, first, count, INNER, 1, GATHERED, TYPE0, R, TILE, EARLY
    )
    up = _dot(lo1, hi1, sc1, d1, x, chosen, first, count, INNER, 1, GATHERED, TYPE1, R, TILE, EARLY)
    made = gate * tl.sigmoid(gate) * up
    if GATHERED:
        made *= tl.load(shares + slot)
    row = first + tl.arange(0, R)
    tl.store(h + slot * count + row, made, mask=row < count)


@triton.jit
def lay_out(
    x,
    laid,
    factors,
    INNER: tl.constexpr,
    PADDED: tl.constexpr,
    W: tl.constexpr,
    TILE: tl.constexpr,
):
    """Tokens for `_product`: float16 `laid` [tokens, PADDED], zero where INNER has ended, to be
    multiplied by `factors` [tokens], which are powers of 2.

    Of 256 numbers first those that places 0 of 32 words hold, then places 1 and so on, so that
    each step reads 32 in a row. Grid: tokens.
    """
    token = tl.program_id(0)
    at = tl.arange(0, TILE)
    place = (at // 32) % 8
    word = at % 32
    group = word // W
    number = at // 256 * 256 + group * (8 * W) + (place ^ (group & 7)) * W + word % W
    made = tl.load(x + token * INNER + number, mask=number < INNER, other=0.0)
    most = tl.max(tl.abs(made), 0)
    # The exponent's bits alone are a power of 2; the largest number is brought to 2^14 or above.
    power = (most.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    factor = tl.where(power > 2.0**-100, power * 2.0**-14, 2.0**-114)
    tl.store(laid + token * PADDED + at, (made / factor).to(tl.float16), mask=at < PADDED)
    tl.store(factors + token, factor)


@triton.jit
def _product(
    lo,
    hi,
    sc,
    d,
    unit,
    x,
    source,
    valid,
    row,
    used,
    INNER: tl.constexpr,
    TYPE: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
):
    """Rows `row` [N] of a weight, counted through its stack, by rows `source` [M] of x: [N, M].

    Of a float type in TF32: factors of 10 bits after the point, sums in float32. Of blocks x is
    what `lay_out` makes, and weights are float16 once divided by `unit`, a power of 2: factors
    have as many bits, and the product is yet to be multiplied by unit and factor.
    """
    total = tl.zeros([N, M], tl.float32)
    if TYPE == "F":
        for start in range(0, INNER, WORDS):
            k = start + tl.arange(0, WORDS)
            part = tl.load(
                x + source[:, None] * INNER + k[None, :],
                mask=valid[:, None] & (k < INNER)[None, :],
                other=0.0,
            )
            weight = tl.load(
                lo + row[:, None] * INNER + k[None, :],
                mask=used[:, None] & (k < INNER)[None, :],
                other=0.0,
            ).to(tl.float32)
            total = tl.dot(weight, tl.trans(part), total)
    else:
        W: tl.constexpr = 2 if TYPE == "Q6_K" else 4
        G: tl.constexpr = WORDS // W
        groups: tl.constexpr = INNER // (8 * W)
        padded: tl.constexpr = tl.cdiv(INNER, 8 * WORDS) * 8 * WORDS
        whole = _whole()
        inverse = 1.0 / unit
        from_x = x + source[:, None] * padded + tl.arange(0, WORDS)[None, :]
        for start in range(0, groups, G):
            g = start + tl.arange(0, G)
            mask = used[:, None] & (g < groups)[None, :]
            at = row[:, None] * groups + g[None, :]
            word = at[:, :, None] * W + tl.arange(0, W)[None, None, :]
            low = tl.load(lo + word, mask=mask[:, :, None], other=0)
            high = _high(hi, word, mask[:, :, None], TYPE)
            scale, least = _scale(sc, d, at, mask, TYPE)
            scale *= inverse
            least *= inverse
            for n in tl.static_range(8):
                step = start * (8 * W) + n * WORDS
                part = tl.load(from_x + step, mask=valid[:, None], other=0.0)
                weight = (
                    _number(low, high, whole, n, TYPE)
                    * (scale * (1.0 / (1 << (4 * (n % 4)))))[:, :, None]
                )
                if TYPE == "Q4_K" or TYPE == "Q5_K":
                    weight -= least[:, :, None]
                weight = tl.reshape(weight.to(tl.float16), [N, WORDS])
                total = tl.dot(weight, tl.trans(part), total)
    return total


@triton.jit
def group(experts, pairs, bounds, count, matrices, CHUNK: tl.constexpr):
    """Pairs 0 to `count` in the order of their experts: `pairs` [count], and where each expert's
    begin, `bounds` [matrices + 1]. Grid: experts.
    """
    expert = tl.program_id(0)
    lane = tl.arange(0, CHUNK)
    before = 0
    for start in range(0, count, CHUNK):
        chosen = tl.load(experts + start + lane, mask=start + lane < count, other=matrices)
        before += tl.sum((chosen < expert).to(tl.int32), 0)
    tl.store(bounds + expert, before)
    for start in range(0, count, CHUNK):
        chosen = tl.load(experts + start + lane, mask=start + lane < count, other=matrices)
        mine = (chosen == expert).to(tl.int32)
        tl.store(pairs + before + tl.cumsum(mine, 0) - 1, start + lane, mask=mine != 0)
        before += tl.sum(mine, 0)
    tl.store(bounds + expert + 1, before, mask=expert == matrices - 1)


@triton.jit
def _tile(bounds, m, matrices, E: tl.constexpr, M: tl.constexpr):
    """The expert of the m-th tile of M places, its first place, and where its expert's end.

    Each expert's places fill up tiles of their own; a tile after all of them has no expert, which
    is told by a number from `matrices` on.
    """
    expert = tl.arange(0, E)
    starts = tl.load(bounds + expert, mask=expert < matrices, other=0)
    ends = tl.load(bounds + expert + 1, mask=expert < matrices, other=0)
    after = tl.cumsum(tl.cdiv(ends - starts, M), 0)
    owner = tl.sum((after <= m).to(tl.int32), 0)
    done = tl.sum(tl.where(expert == owner - 1, after, 0), 0)
    first = tl.sum(tl.where(expert == owner, starts, 0), 0) + (m - done) * M
    end = tl.sum(tl.where(expert == owner, ends, 0), 0)
    return owner, first, end


@triton.jit
def _rescaled(made, unit, factors, source, valid, TYPE: tl.constexpr):
    """What `_product` made [N, M], times what its factors were divided by."""
    if TYPE == "F":
        return made
    else:
        return made * (unit * tl.load(factors + source, mask=valid, other=0.0))[None, :]


@triton.jit(do_not_specialize=["length"])
def matmul(
    x,
    factors,
    y,
    tokens,
    bounds,
    lo,
    hi,
    sc,
    d,
    unit,
    count,
    length,
    matrices,
    INNER: tl.constexpr,
    GROUPED: tl.constexpr,
    TYPE: tl.constexpr,
    E: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
):
    """Many tokens by a matrix [count, INNER]; grouped, each tile of tokens by its expert's.

    x and `factors` are what `lay_out` made of them, or of a float type x as it is. Ungrouped, y
    [length, count] is of x [length, INNER]. Grouped, x has a row for each place in the order of
    `group`, and `tokens` says which row of y a place goes to. Grid: tiles of N rows, tiles of M
    tokens.
    """
    m = tl.program_id(1)
    column = tl.program_id(0) * N + tl.arange(0, N)
    used = column < count
    if GROUPED:
        matrix, first, end = _tile(bounds, m, matrices, E, M)
        if matrix < matrices:
            place = first + tl.arange(0, M)
            valid = place < end
            row = matrix * count + column
            made = _product(lo, hi, sc, d, unit, x, place, valid, row, used, INNER, TYPE, M, N)
            made = _rescaled(made, unit, factors, place, valid, TYPE)
            goes = tl.load(tokens + place, mask=valid, other=0)
            to = y + goes[None, :] * count + column[:, None]
            tl.store(to, made, mask=valid[None, :] & used[:, None])
    else:
        place = m * M + tl.arange(0, M)
        valid = place < length
        made = _product(lo, hi, sc, d, unit, x, place, valid, column, used, INNER, TYPE, M, N)
        made = _rescaled(made, unit, factors, place, valid, TYPE)
        to = y + place[None, :] * count + column[:, None]
        tl.store(to, made, mask=valid[None, :] & used[:, None])


@triton.jit(do_not_specialize=["length"])
def matmul_swiglu(
    x0,
    factors0,
    x1,
    factors1,
    h,
    tokens,
    bounds,
    shares,
    lo0,
    hi0,
    sc0,
    d0,
    unit0,
    lo1,
    hi1,
    sc1,
    d1,
    unit1,
    count,
    length,
    matrices,
    used_experts,
    INNER: tl.constexpr,
    GROUPED: tl.constexpr,
    TYPE0: tl.constexpr,
    TYPE1: tl.constexpr,
    E: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
):
    """silu(gate x) * up x of many tokens; grouped, as `matmul` is, and times each place's share.

    Here x [tokens, INNER] is laid out for each of the two, `tokens` says token x used_experts +
    rank of a place, and h has a row for each place.
    """
    m = tl.program_id(1)
    column = tl.program_id(0) * N + tl.arange(0, N)
    used = column < count
    matrix = 0
    first = m * M
    end = length
    if GROUPED:
        matrix, first, end = _tile(bounds, m, matrices, E, M)
    if matrix < matrices:
        place = first + tl.arange(0, M)
        valid = place < end
        source = place
        pair = place
        if GROUPED:
            pair = tl.load(tokens + place, mask=valid, other=0)
            source = pair // used_experts
        row = matrix * count + column
        gate = _product(lo0, hi0, sc0, d0, unit0, x0, source, valid, row, used, INNER, TYPE0, M, N)
        gate = _rescaled(gate, unit0, factors0, source, valid, TYPE0)
        up = _product(lo1, hi1, sc1, d1, unit1, x1, source, valid, row, used, INNER, TYPE1, M, N)
        up = _rescaled(up, unit1, factors1, source, valid, TYPE1)
        made = gate * tl.sigmoid(gate) * up
        if GROUPED:
            made *= tl.load(shares + pair, mask=valid, other=0.0)[None, :]
        to = h + place[None, :] * count + column[:, None]
        tl.store(to, made, mask=valid[None, :] & used[:, None])


@triton.jit
def rows(
    lo,
    hi,
    sc,
    d,
    ids,
    out,
    count,
    INNER: tl.constexpr,
    TYPE: tl.constexpr,
    R: tl.constexpr,
    TILE: tl.constexpr,
):
    """Rows `ids` of a weight, decoded: out [count, INNER]. Grid: tiles of R ids, of TILE words."""
    to = tl.program_id(0) * R + tl.arange(0, R)
    row = tl.load(ids + to, mask=to < count, other=0)
    j = tl.program_id(1) * TILE + tl.arange(0, TILE)
    mask = (to < count)[:, None] & (j < tl.cdiv(INNER, 8))[None, :]
    if TYPE == "F":
        for n in tl.static_range(8):
            k = (j * 8 + n)[None, :]
            number = tl.load(lo + row[:, None] * INNER + k, mask=mask & (k < INNER), other=0.0)
            tl.store(out + to[:, None] * INNER + k, number.to(tl.float32), mask=mask & (k < INNER))
    else:
        W: tl.constexpr = 2 if TYPE == "Q6_K" else 4
        g = j // W
        at = row[:, None] * (INNER // 8) + j[None, :]
        low = tl.load(lo + at, mask=mask, other=0)
        high = _high(hi, at, mask, TYPE)
        scale, least = _scale(sc, d, at // W, mask, TYPE)
        whole = _whole()
        for n in tl.static_range(8):
            number = (
                _number(low, high, whole, n, TYPE) * (1.0 / (1 << (4 * (n % 4)))) * scale - least
            )
            k = g * (8 * W) + ((g & 7) ^ n) * W + (j - g * W)
            tl.store(out + to[:, None] * INNER + k[None, :], number, mask=mask)


@triton.jit
def add_norm(
    x,
    delta,
    gain,
    total,
    normed,
    epsilon,
    H: tl.constexpr,
    ADD: tl.constexpr,
    TILE: tl.constexpr,
    EARLY: tl.constexpr,
):
    """x + delta into `total` and its RMSNorm into `normed`. Grid: tokens."""
    at = tl.arange(0, TILE)
    inside = at < H
    row = tl.program_id(0) * H
    by = tl.load(gain + at, mask=inside, other=0.0)
    _wait(EARLY)
    made = tl.load(x + row + at, mask=inside, other=0.0)
    if ADD:
        made += tl.load(delta + row + at, mask=inside, other=0.0)
        tl.store(total + row + at, made, mask=inside)
    turned = made * tl.rsqrt(tl.sum(made * made, 0) / H + epsilon)
    tl.store(normed + row + at, by * turned, mask=inside)


@triton.jit
def top_experts(
    logits,
    shares,
    experts,
    E: tl.constexpr,
    K: tl.constexpr,
    TILE: tl.constexpr,
    KP: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Softmax and top K of router logits [tokens, E], shares summing to 1. Grid: tokens.

    The softmax over all experts cancels out of shares that are made to sum to 1: what stays is
    each chosen one's exponential over their sum. Of equal logits the lowest index goes first.
    """
    token = tl.program_id(0)
    at = tl.arange(0, TILE)
    rank = tl.arange(0, KP)
    _wait(EARLY)
    left = tl.load(logits + token * E + at, mask=at < E, other=-float("inf"))
    first = tl.max(left, 0)
    chosen = tl.zeros([KP], tl.int32)
    share = tl.zeros([KP], tl.float32)
    for k in tl.static_range(K):
        best = tl.max(left, 0)
        index = tl.min(tl.where(left == best, at, TILE), 0)
        chosen = tl.where(rank == k, index, chosen)
        share = tl.where(rank == k, tl.exp(best - first), share)
        left = tl.where(at == index, -float("inf"), left)
    share /= tl.sum(share, 0)
    tl.store(shares + token * K + rank, share, mask=rank < K)
    tl.store(experts + token * K + rank, chosen, mask=rank < K)


@triton.jit
def _normed(a, b, gain, at, mask, epsilon, D: tl.constexpr):
    """RMSNorm of heads given in two halves [n, D/2]."""
    inverse = tl.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / D + epsilon)[:, None]
    low = tl.load(gain + at, mask=mask, other=0.0)[None, :]
    high = tl.load(gain + D // 2 + at, mask=mask, other=0.0)[None, :]
    return low * (a * inverse), high * (b * inverse)


@triton.jit
def attend_one(
    q,
    k,
    v,
    q_gain,
    k_gain,
    cos,
    sin,
    keys,
    values,
    position,
    parts,
    peaks,
    sums,
    stride,
    heads,
    window,
    epsilon,
    GROUP: tl.constexpr,
    D: tl.constexpr,
    NORM: tl.constexpr,
    GP: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
    SPLITS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """Attention of one token, whose position is read on the device, over a share of the cache.

    Norms and turns the query heads of one key head, and in the first share the key, which goes
    into the cache with its value. Writes sums not yet divided [SPLITS, heads, D], their maxima and
    their divisors [SPLITS, heads]. Grid: key heads, SPLITS.
    """
    kv = tl.program_id(0)
    split = tl.program_id(1)
    _wait(EARLY)
    length = tl.load(position).to(tl.int32)
    begin = 0
    if window > 0:
        begin = tl.maximum(length + 1 - window, 0)
    share = tl.cdiv(tl.cdiv(length - begin, SPLITS), BLOCK) * BLOCK
    start = begin + split * share
    end = tl.minimum(start + share, length)

    at = tl.arange(0, HALF)
    half = at < D // 2
    member = tl.arange(0, GP)
    head = kv * GROUP + member
    mask = (member < GROUP)[:, None] & half[None, :]
    cosine = tl.load(cos + at, mask=half, other=0.0)[None, :]
    sine = tl.load(sin + at, mask=half, other=0.0)[None, :]
    from_q = q + head[:, None] * D + at[None, :]
    qa = tl.load(from_q, mask=mask, other=0.0)
    qb = tl.load(from_q + D // 2, mask=mask, other=0.0)
    if NORM:
        qa, qb = _normed(qa, qb, q_gain, at, half, epsilon, D)
    ta = qa * cosine - qb * sine
    tb = qb * cosine + qa * sine
    scale: tl.constexpr = D**-0.5

    here = kv * stride + at[None, :]
    peak = tl.full([GP], -float("inf"), tl.float32)
    divisor = tl.zeros([GP], tl.float32)
    sa = tl.zeros([GP, HALF], tl.float32)
    sb = tl.zeros([GP, HALF], tl.float32)
    if split == 0:
        ka = tl.load(k + kv * D + at, mask=half, other=0.0)[None, :]
        kb = tl.load(k + kv * D + D // 2 + at, mask=half, other=0.0)[None, :]
        if NORM:
            ka, kb = _normed(ka, kb, k_gain, at, half, epsilon, D)
        na = ka * cosine - kb * sine
        nb = kb * cosine + ka * sine
        va = tl.load(v + kv * D + at, mask=half, other=0.0)[None, :]
        vb = tl.load(v + kv * D + D // 2 + at, mask=half, other=0.0)[None, :]
        new = here + length * D
        tl.store(keys + new, na, mask=half[None, :])
        tl.store(keys + new + D // 2, nb, mask=half[None, :])
        tl.store(values + new, va, mask=half[None, :])
        tl.store(values + new + D // 2, vb, mask=half[None, :])
        peak = (tl.sum(ta * na, 1) + tl.sum(tb * nb, 1)) * scale
        divisor += 1.0
        sa += va
        sb += vb
    for first in range(start, end, BLOCK):
        place = first + tl.arange(0, BLOCK)
        seen = (place < end)[:, None] & half[None, :]
        old = here + place[:, None] * D
        ka = tl.load(keys + old, mask=seen, other=0.0)
        kb = tl.load(keys + old + D // 2, mask=seen, other=0.0)
        scores = tl.dot(ta, tl.trans(ka), input_precision="tf32x3")
        scores = tl.dot(tb, tl.trans(kb), scores, input_precision="tf32x3") * scale
        scores = tl.where((place < end)[None, :], scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 1))
        kept = tl.exp(peak - higher)
        weight = tl.exp(scores - higher[:, None])
        divisor = divisor * kept + tl.sum(weight, 1)
        va = tl.load(values + old, mask=seen, other=0.0)
        vb = tl.load(values + old + D // 2, mask=seen, other=0.0)
        sa = tl.dot(weight, va, sa * kept[:, None], input_precision="tf32x3")
        sb = tl.dot(weight, vb, sb * kept[:, None], input_precision="tf32x3")
        peak = higher
    to = split * heads + head
    tl.store(peaks + to, peak, mask=member < GROUP)
    tl.store(sums + to, divisor, mask=member < GROUP)
    tl.store(parts + to[:, None] * D + at[None, :], sa, mask=mask)
    tl.store(parts + to[:, None] * D + D // 2 + at[None, :], sb, mask=mask)


@triton.jit
def join_splits(
    parts,
    peaks,
    sums,
    out,
    heads,
    D: tl.constexpr,
    TILE: tl.constexpr,
    SPLITS: tl.constexpr,
    EARLY: tl.constexpr,
):
    """What `attend_one` made of the shares, summed and divided: out [heads, D]. Grid: heads."""
    head = tl.program_id(0)
    at = tl.arange(0, TILE)
    split = tl.arange(0, SPLITS)
    _wait(EARLY)
    peak = tl.load(peaks + split * heads + head)
    weight = tl.exp(peak - tl.max(peak, 0))
    divisor = tl.sum(weight * tl.load(sums + split * heads + head), 0)
    from_parts = parts + (split * heads + head)[:, None] * D + at[None, :]
    part = tl.load(from_parts, mask=(at < D)[None, :], other=0.0)
    tl.store(out + head * D + at, tl.sum(part * weight[:, None], 0) / divisor, mask=at < D)


@triton.jit(do_not_specialize=["start", "count"])
def turn(
    q,
    k,
    v,
    q_gain,
    k_gain,
    cos,
    sin,
    turned,
    keys,
    values,
    start,
    count,
    stride,
    heads,
    kv_heads,
    epsilon,
    D: tl.constexpr,
    NORM: tl.constexpr,
    HALF: tl.constexpr,
    M: tl.constexpr,
):
    """Many tokens' queries and keys, normed and turned; keys and values go into the cache.

    Grid: tiles of M tokens; heads of q, then of k, then of v.
    """
    token = tl.program_id(0) * M + tl.arange(0, M)
    head = tl.program_id(1)
    at = tl.arange(0, HALF)
    half = at < D // 2
    mask = (token < count)[:, None] & half[None, :]
    angle = token[:, None] * (D // 2) + at[None, :]
    cosine = tl.load(cos + angle, mask=mask, other=0.0)
    sine = tl.load(sin + angle, mask=mask, other=0.0)
    if head < heads:
        here = (token[:, None] * heads + head) * D + at[None, :]
        a = tl.load(q + here, mask=mask, other=0.0)
        b = tl.load(q + here + D // 2, mask=mask, other=0.0)
        if NORM:
            a, b = _normed(a, b, q_gain, at, half, epsilon, D)
        tl.store(turned + here, a * cosine - b * sine, mask=mask)
        tl.store(turned + here + D // 2, b * cosine + a * sine, mask=mask)
    elif head < heads + kv_heads:
        kv = head - heads
        here = (token[:, None] * kv_heads + kv) * D + at[None, :]
        a = tl.load(k + here, mask=mask, other=0.0)
        b = tl.load(k + here + D // 2, mask=mask, other=0.0)
        if NORM:
            a, b = _normed(a, b, k_gain, at, half, epsilon, D)
        to = kv * stride + (start + token)[:, None] * D + at[None, :]
        tl.store(keys + to, a * cosine - b * sine, mask=mask)
        tl.store(keys + to + D // 2, b * cosine + a * sine, mask=mask)
    else:
        kv = head - heads - kv_heads
        here = (token[:, None] * kv_heads + kv) * D + at[None, :]
        to = kv * stride + (start + token)[:, None] * D + at[None, :]
        tl.store(values + to, tl.load(v + here, mask=mask, other=0.0), mask=mask)
        high = tl.load(v + here + D // 2, mask=mask, other=0.0)
        tl.store(values + to + D // 2, high, mask=mask)


@triton.jit(do_not_specialize=["start", "count"])
def attend_many(
    q,
    keys,
    values,
    out,
    start,
    count,
    stride,
    heads,
    group,
    window,
    D: tl.constexpr,
    DP: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
):
    """Causal attention of `count` queries [count, heads, D] that stand after `start` positions.

    Grid: tiles of M queries, heads.
    """
    head = tl.program_id(1)
    token = tl.program_id(0) * M + tl.arange(0, M)
    at = tl.arange(0, DP)
    inside = at < D
    here = (token[:, None] * heads + head) * D + at[None, :]
    mask = (token < count)[:, None] & inside[None, :]
    query = tl.load(q + here, mask=mask, other=0.0)
    scale: tl.constexpr = D**-0.5
    place = start + token
    begin = 0
    if window > 0:
        begin = tl.maximum(start + tl.program_id(0) * M + 1 - window, 0)
    end = start + tl.minimum(tl.program_id(0) * M + M, count)
    base = (head // group) * stride
    peak = tl.full([M], -float("inf"), tl.float32)
    divisor = tl.zeros([M], tl.float32)
    total = tl.zeros([M, DP], tl.float32)
    for first in range(begin, end, N):
        other = first + tl.arange(0, N)
        old = base + other[:, None] * D + at[None, :]
        there = (other < end)[:, None] & inside[None, :]
        key = tl.load(keys + old, mask=there, other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="tf32x3") * scale
        seen = other[None, :] <= place[:, None]
        if window > 0:
            seen = seen & (other[None, :] > place[:, None] - window)
        scores = tl.where(seen, scores, -1e30)  # a whole tile may be hidden from a query
        higher = tl.maximum(peak, tl.max(scores, 1))
        kept = tl.exp(peak - higher)
        weight = tl.where(seen, tl.exp(scores - higher[:, None]), 0.0)
        divisor = divisor * kept + tl.sum(weight, 1)
        value = tl.load(values + old, mask=there, other=0.0)
        total = tl.dot(weight, value, total * kept[:, None], input_precision="tf32x3")
        peak = higher
    tl.store(out + here, total / tl.maximum(divisor, 1e-30)[:, None], mask=mask)
