/* The kernels, for one instruction path. Included by _kernels.c once for each, with PATH(name) as
 * the path's own name and DOT_* as its integer products.
 *
 * Every path does the same arithmetic in the same order: whole numbers are exact, and floats are
 * multiplied and added in 8 lanes and never fused. So all paths give the same bits.
 */

#define INLINE static inline __attribute__((always_inline))

/* --- lanes ------------------------------------------------------------------------------------ */

INLINE u8x32 PATH(load_u8)(const void *p) { u8x32 v; memcpy(&v, p, 32); return v; }
INLINE i8x32 PATH(load_i8)(const void *p) { i8x32 v; memcpy(&v, p, 32); return v; }
INLINE f32x8 PATH(load_f)(const void *p) { f32x8 v; memcpy(&v, p, 32); return v; }
INLINE f32x8 PATH(load_some)(const float *p, int n) /* the first n, and zeros */
{
    float part[8] = {0};
    memcpy(part, p, 4 * (size_t)n);
    return PATH(load_f)(part);
}
INLINE void PATH(store_f)(void *p, f32x8 v) { memcpy(p, &v, 32); }
INLINE f32x8 PATH(splat)(float x) { return (f32x8){x, x, x, x, x, x, x, x}; }
INLINE f32x8 PATH(halves)(float x, float y) { return (f32x8){x, x, x, x, y, y, y, y}; }
INLINE f32x8 PATH(to_f)(i32x8 v) { return __builtin_convertvector(v, f32x8); }
INLINE f32x8 PATH(pick)(i32x8 mask, f32x8 yes, f32x8 no)
{
    return (f32x8)((mask & (i32x8)yes) | (~mask & (i32x8)no));
}
INLINE float PATH(sum)(f32x8 v)
{
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* What a lane's products are added up in, `mac` adds four products of u8 and i8 (i8 and i8, the
 * right one not -128, for Q8_0) to each lane, ROOM(type) says how often, `widen` gives 32 bits. */
#if PATH_IS_AVX512
#define ROOM(type) 8
typedef i32x8 PATH(acc);
INLINE i32x8 PATH(mac)(int type, i32x8 t, u8x32 w, i8x32 x)
{
    const __m256i v = type == Q8_0 ? _mm256_abs_epi8((__m256i)w) : (__m256i)w;
    const __m256i y = type == Q8_0 ? _mm256_sign_epi8((__m256i)x, (__m256i)w) : (__m256i)x;
    return (i32x8)_mm256_dpbusd_epi32((__m256i)t, v, y);
}
INLINE i32x8 PATH(widen)(i32x8 t) { return t; }
#elif PATH_IS_AVX2
/* 16 bits hold 8 * 2 * 15 * 127, 4 * 2 * 31 * 127, 2 * 2 * 63 * 127, 2 * 128 * 127. */
#define ROOM(type) ((type) == Q4_K || (type) == Q4_0 ? 8 : (type) == Q5_K ? 4 : (type) == Q6_K ? 2 : 1)
typedef i16x16 PATH(acc);
INLINE i16x16 PATH(mac)(int type, i16x16 t, u8x32 w, i8x32 x)
{
    const __m256i v = type == Q8_0 ? _mm256_abs_epi8((__m256i)w) : (__m256i)w;
    const __m256i y = type == Q8_0 ? _mm256_sign_epi8((__m256i)x, (__m256i)w) : (__m256i)x;
    return t + (i16x16)_mm256_maddubs_epi16(v, y);
}
INLINE i32x8 PATH(widen)(i16x16 t)
{
    return (i32x8)_mm256_madd_epi16((__m256i)t, _mm256_set1_epi16(1));
}
#else
#define ROOM(type) 8
typedef i32x8 PATH(acc);
INLINE i32x8 PATH(mac)(int type, i32x8 t, u8x32 w, i8x32 x)
{
    for (int i = 0; i < 8; i++)
        for (int j = 4 * i; j < 4 * i + 4; j++)
            t[i] += (type == Q8_0 ? (int8_t)w[j] : w[j]) * x[j];
    return t;
}
INLINE i32x8 PATH(widen)(i32x8 t) { return t; }
#endif

#if PATH_IS_AVX512 || PATH_IS_AVX2
INLINE f32x8 PATH(u8_to_f)(uint64_t bytes)
{
    return (f32x8)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes)));
}
INLINE f32x8 PATH(i8_to_f)(uint64_t bytes)
{
    return (f32x8)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128((int64_t)bytes)));
}
INLINE void PATH(store_i8)(int8_t *p, i32x8 v)
{
    const __m128i low = _mm256_castsi256_si128((__m256i)v);
    const __m128i words = _mm_packs_epi32(low, _mm256_extracti128_si256((__m256i)v, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
}
INLINE float PATH(half)(const uint8_t *p)
{
    uint16_t bits;
    memcpy(&bits, p, 2);
    return _cvtsh_ss(bits);
}
#else
INLINE f32x8 PATH(u8_to_f)(uint64_t bytes)
{
    f32x8 v;
    for (int i = 0; i < 8; i++)
        v[i] = (float)(uint8_t)(bytes >> 8 * i);
    return v;
}
INLINE f32x8 PATH(i8_to_f)(uint64_t bytes)
{
    f32x8 v;
    for (int i = 0; i < 8; i++)
        v[i] = (float)(int8_t)(bytes >> 8 * i);
    return v;
}
INLINE void PATH(store_i8)(int8_t *p, i32x8 v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (int8_t)v[i];
}
INLINE float PATH(half)(const uint8_t *p)
{
    uint16_t bits;
    memcpy(&bits, p, 2);
    const uint32_t sign = (uint32_t)(bits & 0x8000) << 16, size = bits & 0x7fff;
    if (size < 0x400) { /* zero and what is below the normal numbers */
        const float x = (float)size * 0x1p-24f;
        return sign ? -x : x;
    }
    const uint32_t wide = sign | (size >= 0x7c00 ? (size << 13) | 0x7f800000 : (size << 13) + 0x38000000);
    float x;
    memcpy(&x, &wide, 4);
    return x;
}
#endif

INLINE f32x8 PATH(exp)(f32x8 x)
{
    /* e^x = 2^n * e^r with |r| <= ln 2 / 2; the polynomial is Taylor's, 1e-7 relative. */
    const f32x8 low = PATH(splat)(-87.0f), high = PATH(splat)(88.0f);
    f32x8 y = PATH(pick)(x < low, low, x);
    y = PATH(pick)(y > high, high, y);
    const f32x8 n = (y * 1.44269504f + 12582912.0f) - 12582912.0f; /* rounds to a whole number */
    const f32x8 r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
    f32x8 p = PATH(splat)(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const i32x8 power = (__builtin_convertvector(n, i32x8) + 127) << 23;
    p *= (f32x8)power;
    return PATH(pick)(x == x, p, x); /* NaN stays */
}

/* a . b, the last numbers one by one where n is no multiple of 8. */
static float PATH(dot)(const float *a, const float *b, int64_t n)
{
    f32x8 made[4] = {{0}};
    float rest = 0.0f;
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (int j = 0; j < 4; j++)
            made[j] += PATH(load_f)(a + i + 8 * j) * PATH(load_f)(b + i + 8 * j);
    for (; i + 8 <= n; i += 8)
        made[0] += PATH(load_f)(a + i) * PATH(load_f)(b + i);
    for (; i < n; i++)
        rest += a[i] * b[i];
    return PATH(sum)((made[0] + made[1]) + (made[2] + made[3])) + rest;
}

/* x / rms(x) * gain, in place or not. */
static void PATH(norm)(const float *x, const float *gain, float epsilon, int64_t n, float *to)
{
    const float scale = 1.0f / sqrtf(PATH(dot)(x, x, n) / (float)n + epsilon);
    for (int64_t i = 0; i < n; i++)
        to[i] = gain[i] * (x[i] * scale);
}

/* RoPE in NEOX order: pairs (i, i + half). */
static void PATH(rotate)(float *x, const float *cos, const float *sin, int64_t half)
{
    float *y = x + half;
    for (int64_t i = 0; i < half; i++) {
        const float a = x[i], b = y[i];
        x[i] = a * cos[i] - b * sin[i];
        y[i] = b * cos[i] + a * sin[i];
    }
}

/* x = e^(x - most), what is beyond n is left alone; returns the sum. */
static float PATH(softmax)(float *x, int64_t n)
{
    float most = x[0], total = 0.0f;
    for (int64_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (int64_t i = 0; i < n; i += 8) {
        const int count = n - i < 8 ? (int)(n - i) : 8;
        const f32x8 e = PATH(exp)(PATH(load_some)(x + i, count) - most);
        memcpy(x + i, &e, 4 * (size_t)count);
        for (int j = 0; j < count; j++)
            total += e[j];
    }
    return total;
}

/* One query over the keys and values [n, size]: softmax(q K / sqrt(size)) V; scores has room for n. */
static void PATH(attend)(const float *q, const float *keys, const float *values, int64_t n,
                         int64_t size, float *scores, float *to)
{
    const float scale = 1.0f / sqrtf((float)size);
    for (int64_t s = 0; s < n; s++)
        scores[s] = PATH(dot)(q, keys + s * size, size) * scale;
    const float total = PATH(softmax)(scores, n);
    memset(to, 0, 4 * (size_t)size);
    for (int64_t s = 0; s < n; s++) {
        const float p = scores[s], *v = values + s * size;
        for (int64_t i = 0; i < size; i++)
            to[i] += p * v[i];
    }
    for (int64_t i = 0; i < size; i++)
        to[i] /= total;
}

/* silu(gate) * up. */
static void PATH(swiglu)(const float *gate, const float *up, int64_t n, float *to)
{
    for (int64_t i = 0; i < n; i += 8) {
        const int count = n - i < 8 ? (int)(n - i) : 8;
        const f32x8 g = PATH(load_some)(gate + i, count), u = PATH(load_some)(up + i, count);
        const f32x8 y = g / (PATH(exp)(-g) + 1.0f) * u;
        memcpy(to + i, &y, 4 * (size_t)count);
    }
}

/* --- blocks ----------------------------------------------------------------------------------- */

/* A weight is a * q - m: its factors a and m for every 32 / HALVES(type) weights, of `groups` (at
 * most 8) times 32; what is beyond them is 0. */
INLINE void PATH(factors)(int type, const uint8_t *p, int groups, f32x8 *a, f32x8 *m)
{
    if (type == Q4_K || type == Q5_K) { /* bytes 4 to 15: 8 scales and 8 minima of 6 bits */
        uint64_t both, high = 0;
        memcpy(&both, p + 4, 8);
        memcpy(&high, p + 12, 4);
        const uint64_t first = both & 0x3f3f3f3f3f3f3f3f; /* scales 0 to 3, minima 0 to 3 */
        const uint64_t second =                           /* 4 to 7 */
            ((high | high << 28) & 0x0f0f0f0f0f0f0f0f) | ((both >> 2) & 0x3030303030303030);
        const f32x8 d = PATH(halves)(PATH(half)(p), PATH(half)(p + 2));
        const f32x8 x = PATH(u8_to_f)(first) * d, y = PATH(u8_to_f)(second) * d;
        *a = __builtin_shufflevector(x, y, 0, 1, 2, 3, 8, 9, 10, 11);
        *m = __builtin_shufflevector(x, y, 4, 5, 6, 7, 12, 13, 14, 15);
    } else if (type == Q6_K) {
        for (int h = 0; h < 2; h++) {
            uint64_t scales;
            memcpy(&scales, p + 192 + 8 * h, 8);
            a[h] = PATH(i8_to_f)(scales) * PATH(half)(p + 208);
            m[h] = a[h] * 32.0f;
        }
    } else { /* Q8_0, Q4_0: a block is a group */
        float d[8] = {0};
        for (int g = 0; g < groups; g++)
            d[g] = PATH(half)(p + BYTES(type) * g);
        *a = PATH(load_f)(d);
        *m = *a * (type == Q8_0 ? 0.0f : 8.0f);
    }
}

/* Their whole numbers q, from 0 on, or with a sign for Q8_0; what is beyond is undefined. */
INLINE void PATH(numbers)(int type, const uint8_t *p, int groups, u8x32 *q)
{
    if (type == Q4_K || type == Q5_K) {
        const uint8_t *low = p + (type == Q4_K ? 16 : 48);
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const u8x32 v = PATH(load_u8)(low + 32 * j);
            q[2 * j] = v & 15;
            q[2 * j + 1] = v >> 4;
        }
        if (type == Q4_K)
            return;
        const u8x32 high = PATH(load_u8)(p + 16);
#pragma GCC unroll 8
        for (int g = 0; g < 8; g++)
            q[g] |= ((high >> g) & 1) << 4;
    } else if (type == Q6_K) {
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            const u8x32 first = PATH(load_u8)(p + 64 * h), second = PATH(load_u8)(p + 64 * h + 32);
            const u8x32 high = PATH(load_u8)(p + 128 + 32 * h);
            q[4 * h] = (first & 15) | ((high << 4) & 48);
            q[4 * h + 1] = (second & 15) | ((high << 2) & 48);
            q[4 * h + 2] = (first >> 4) | (high & 48);
            q[4 * h + 3] = (second >> 4) | ((high >> 2) & 48);
        }
    } else {
#pragma GCC unroll 8
        for (int g = 0; g < 8; g++, p += BYTES(type)) {
            if (g == groups)
                break;
            if (type == Q8_0) {
                q[g] = PATH(load_u8)(p + 2);
                continue;
            }
            u8x16 v;
            memcpy(&v, p + 2, 16);
            const u8x16 low = v & 15, high = v >> 4;
            q[g] = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
                                           14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
                                           28, 29, 30, 31);
        }
    }
}

/* --- activations ------------------------------------------------------------------------------ */

/* n floats to 8 bits: x = d * q, d for every 32; and sums of d * q over every 16 and every 32. */
static void PATH(quantise)(const float *x, int64_t n, activation to)
{
    for (int64_t g = 0; g < n / 32; g++, x += 32) {
        f32x8 v[4], most = PATH(splat)(0.0f), odd = most;
        for (int i = 0; i < 4; i++) {
            v[i] = PATH(load_f)(x + 8 * i);
            const f32x8 size = PATH(pick)(v[i] < 0.0f, -v[i], v[i]);
            most = PATH(pick)(size > most, size, most);
            odd += v[i] - v[i]; /* NaN for what is not finite */
        }
        float amax = 0.0f;
        for (int i = 0; i < 8; i++)
            amax = most[i] > amax ? most[i] : amax;
        const int finite = PATH(sum)(odd) == 0.0f;
        const float inverse = finite && amax > 0.0f ? 127.0f / amax : 0.0f;
        const float d = finite ? amax / 127.0f : NAN;
        int32_t sums[2] = {0, 0};
        for (int i = 0; i < 4; i++) {
            const f32x8 scaled = finite ? v[i] * inverse : PATH(splat)(0.0f);
            const f32x8 whole = (scaled + 12582912.0f) - 12582912.0f; /* to nearest, ties to even */
            const i32x8 q = __builtin_convertvector(whole, i32x8);
            PATH(store_i8)(to.q + 32 * g + 8 * i, q);
            for (int j = 0; j < 8; j++)
                sums[i / 2] += q[j];
        }
        to.d[g] = d;
        to.sum16[2 * g] = d * (float)sums[0];
        to.sum16[2 * g + 1] = d * (float)sums[1];
        to.sum32[g] = d * (float)(sums[0] + sums[1]);
    }
}

/* --- one row times one token ------------------------------------------------------------------ */

INLINE float PATH(row_of)(int type, const uint8_t *row, int64_t columns, activation x)
{
    enum { AT_ONCE = 8 }; /* blocks of 256 whose factors come first */
    const int halves = HALVES(type), step = BYTES(type) * (8 / GROUPS(type));
    const int64_t groups = columns / 32;
    f32x8 made[4] = {{0}}, least[2] = {{0}};
    float f[16 * AT_ONCE];
    for (int64_t first = 0; first < groups; first += 8 * AT_ONCE) {
        const int64_t end = groups < first + 8 * AT_ONCE ? groups : first + 8 * AT_ONCE;
        const uint8_t *p = row;
        float *to = f;
        for (int64_t g = first; g < end; g += 8, p += step, to += 8 * halves) {
            for (int line = 0; line < step; line += 64)
                __builtin_prefetch(p + 2048 + line); /* past the end of a mapping it does nothing */
            const int count = GROUPS(type) == 1 && end - g < 8 ? (int)(end - g) : 8;
            f32x8 a[2], m[2];
            PATH(factors)(type, p, count, a, m);
            if (count < 8) {
                PATH(store_f)(to, a[0] * PATH(load_some)(x.d + g, count));
                least[0] += m[0] * PATH(load_some)(x.sum32 + g, count);
                continue;
            }
            const f32x8 d = PATH(load_f)(x.d + g);
            if (halves == 2) {
                PATH(store_f)(to, a[0] * __builtin_shufflevector(d, d, 0, 0, 1, 1, 2, 2, 3, 3));
                PATH(store_f)(to + 8, a[1] * __builtin_shufflevector(d, d, 4, 4, 5, 5, 6, 6, 7, 7));
                least[0] += m[0] * PATH(load_f)(x.sum16 + 2 * g);
                least[1] += m[1] * PATH(load_f)(x.sum16 + 2 * g + 8);
            } else {
                PATH(store_f)(to, a[0] * d);
                least[0] += m[0] * PATH(load_f)(x.sum32 + g);
            }
        }
        const float *from = f;
        for (int64_t g = first; g < end; g += 8, row += step, from += 8 * halves) {
            const int count = GROUPS(type) == 1 && end - g < 8 ? (int)(end - g) : 8;
            u8x32 q[8];
            PATH(numbers)(type, row, count, q);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                if (i == count)
                    break;
                const PATH(acc) none = {0};
                const i8x32 v = PATH(load_i8)(x.q + 32 * (g + i));
                const f32x8 each = PATH(to_f)(PATH(widen)(PATH(mac)(type, none, q[i], v)));
                made[i % 4] += each * (halves == 2 ? PATH(halves)(from[2 * i], from[2 * i + 1])
                                                   : PATH(splat)(from[i]));
            }
        }
    }
    return PATH(sum)((made[0] + made[1]) + (made[2] + made[3])) - PATH(sum)(least[0] + least[1]);
}

static float PATH(row)(int type, const uint8_t *row, int64_t columns, activation x)
{
    switch (type) {
    case Q4_0: return PATH(row_of)(Q4_0, row, columns, x);
    case Q8_0: return PATH(row_of)(Q8_0, row, columns, x);
    case Q4_K: return PATH(row_of)(Q4_K, row, columns, x);
    case Q5_K: return PATH(row_of)(Q5_K, row, columns, x);
    default: return PATH(row_of)(Q6_K, row, columns, x);
    }
}

/* --- rows times many tokens ------------------------------------------------------------------- */

/* A row decoded: `columns` whole numbers, a and m for each 32 / HALVES of them. */
INLINE void PATH(decode)(int type, const uint8_t *row, int64_t columns, uint8_t *q, float *a, float *m)
{
    const int halves = HALVES(type);
    for (int64_t g = 0; g < columns / 32; g += 8) {
        const int groups = columns / 32 - g < 8 ? (int)(columns / 32 - g) : 8;
        u8x32 v[8];
        f32x8 factors[2], minima[2];
        PATH(numbers)(type, row, groups, v);
        PATH(factors)(type, row, groups, factors, minima);
        memcpy(q + 32 * g, v, 32 * (size_t)groups);
        memcpy(a + halves * g, factors, 4 * (size_t)(halves * groups));
        memcpy(m + halves * g, minima, 4 * (size_t)(halves * groups));
        row += BYTES(type) * (8 / GROUPS(type));
    }
}

/* 4 rows times 8 * C tokens; tokens lie in lanes: x.q is [columns / 4][8][4] for every 8 tokens. */
INLINE void PATH(lanes)(int type, int C, const uint8_t *const *q, const float *const *a,
                        const float *const *m, int64_t columns, const activation *x, float *const *y)
{
    const int halves = HALVES(type), steps = 8 / halves, room = ROOM(type) < steps ? ROOM(type) : steps;
    f32x8 made[4][2] = {{{0}}};
    for (int64_t g = 0; g < columns / 32; g++) {
        f32x8 part[4][2];
        for (int h = 0; h < halves; h++) {
            i32x8 total[4][2] = {{{0}}};
            for (int k0 = 0; k0 < steps; k0 += room) {
                PATH(acc) t[4][2] = {{{0}}};
                for (int k = k0; k < k0 + room; k++) {
                    const int64_t at = 8 * g + steps * h + k;
                    i8x32 v[2];
                    for (int c = 0; c < C; c++)
                        v[c] = PATH(load_i8)(x[c].q + 32 * at);
                    for (int r = 0; r < 4; r++) {
                        int32_t four;
                        memcpy(&four, q[r] + 4 * at, 4);
                        const i32x8 w = {four, four, four, four, four, four, four, four};
                        for (int c = 0; c < C; c++)
                            t[r][c] = PATH(mac)(type, t[r][c], (u8x32)w, v[c]);
                    }
                }
                for (int r = 0; r < 4; r++)
                    for (int c = 0; c < C; c++)
                        total[r][c] += PATH(widen)(t[r][c]);
            }
            for (int r = 0; r < 4; r++)
                for (int c = 0; c < C; c++) {
                    const f32x8 each = PATH(to_f)(total[r][c]) * a[r][halves * g + h];
                    part[r][c] = h ? part[r][c] + each : each;
                }
        }
        for (int c = 0; c < C; c++) {
            const f32x8 d = PATH(load_f)(x[c].d + 8 * g);
            for (int r = 0; r < 4; r++)
                made[r][c] += part[r][c] * d;
            if (type == Q8_0)
                continue;
            for (int h = 0; h < halves; h++) {
                const float *sums = halves == 2 ? x[c].sum16 + 8 * (2 * g + h) : x[c].sum32 + 8 * g;
                const f32x8 s = PATH(load_f)(sums);
                for (int r = 0; r < 4; r++)
                    made[r][c] -= s * m[r][halves * g + h];
            }
        }
    }
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < C; c++)
            PATH(store_f)(y[r] + 8 * c, made[r][c]);
}

/* `count` rows (at most TILE), decoded once, times all tokens of a panel: y is [count][panel.count]
 * with room for TILE rows of whole groups; scratch holds TILE * columns * 2 bytes. */
INLINE void PATH(tile_of)(int type, const uint8_t *rows, int64_t stride, int count, int64_t columns,
                          const panel *x, float *y, int64_t width, uint8_t *scratch)
{
    const int halves = HALVES(type);
    const int64_t factors = columns / 32 * halves;
    float *a = (float *)(scratch + TILE * columns), *m = a + TILE * factors;
    if (x->groups)
        for (int r = 0; r < count; r++)
            PATH(decode)(type, rows + r * stride, columns, scratch + r * columns, a + r * factors, m + r * factors);
    for (int g = 0; g < x->groups; g += 2)
        for (int r0 = 0; r0 < count; r0 += 4) {
            const uint8_t *q4[4];
            const float *a4[4], *m4[4];
            float *y4[4], unused[16];
            for (int r = 0; r < 4; r++) {
                const int row = r0 + r < count ? r0 + r : r0;
                q4[r] = scratch + row * columns;
                a4[r] = a + row * factors;
                m4[r] = m + row * factors;
                y4[r] = r0 + r < count ? y + row * width + 8 * g : unused;
            }
            if (g + 1 < x->groups)
                PATH(lanes)(type, 2, q4, a4, m4, columns, x->lanes + g, y4);
            else
                PATH(lanes)(type, 1, q4, a4, m4, columns, x->lanes + g, y4);
        }
    for (int t = 0; t < x->rest; t++)
        for (int r = 0; r < count; r++)
            y[r * width + 8 * x->groups + t] = PATH(row)(type, rows + r * stride, columns, x->apart[t]);
}

static void PATH(tile)(int type, const uint8_t *rows, int64_t stride, int count, int64_t columns,
                       const panel *x, float *y, int64_t width, uint8_t *scratch)
{
    switch (type) {
    case Q4_0: PATH(tile_of)(Q4_0, rows, stride, count, columns, x, y, width, scratch); break;
    case Q8_0: PATH(tile_of)(Q8_0, rows, stride, count, columns, x, y, width, scratch); break;
    case Q4_K: PATH(tile_of)(Q4_K, rows, stride, count, columns, x, y, width, scratch); break;
    case Q5_K: PATH(tile_of)(Q5_K, rows, stride, count, columns, x, y, width, scratch); break;
    default: PATH(tile_of)(Q6_K, rows, stride, count, columns, x, y, width, scratch); break;
    }
}

/* Numbers decoded to floats: [columns] of one row. */
static void PATH(decode_row)(int type, const uint8_t *row, int64_t columns, float *to)
{
    const int halves = HALVES(type);
    for (int64_t g = 0; g < columns / 32; g += 8, row += BYTES(type) * (8 / GROUPS(type))) {
        const int groups = columns / 32 - g < 8 ? (int)(columns / 32 - g) : 8;
        u8x32 q[8];
        f32x8 a[2], m[2];
        PATH(numbers)(type, row, groups, q);
        PATH(factors)(type, row, groups, a, m);
        for (int i = 0; i < 32 * groups; i++) {
            const int at = i * halves / 32;
            const float whole = type == Q8_0 ? (int8_t)q[i / 32][i % 32] : q[i / 32][i % 32];
            to[32 * g + i] = a[at / 8][at % 8] * whole - m[at / 8][at % 8];
        }
    }
}

static const path PATH(path) = {
    PATH(quantise), PATH(tile), PATH(decode_row), PATH(dot), PATH(norm), PATH(rotate),
    PATH(softmax), PATH(attend), PATH(swiglu),
};

#undef PATH
#undef INLINE
#undef ROOM
#undef PATH_IS_AVX512
#undef PATH_IS_AVX2
