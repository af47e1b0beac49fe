/* The kernels, for one instruction path. Included by _kernels.c once for each, with PATH(name) as
 * the path's own name.
 *
 * Every path does the same arithmetic in the same order: products are whole numbers and so exact,
 * and floats are multiplied and added in 8 lanes and never fused. So all paths give the same bits.
 */

#define INLINE static inline __attribute__((always_inline))

/* --- lanes ------------------------------------------------------------------------------------ */

INLINE u8x32 PATH(load_u8)(const void *p) { u8x32 v; memcpy(&v, p, 32); return v; }
INLINE i8x32 PATH(load_i8)(const void *p) { i8x32 v; memcpy(&v, p, 32); return v; }
INLINE i16x16 PATH(load_i16)(const void *p) { i16x16 v; memcpy(&v, p, 32); return v; }
INLINE f32x8 PATH(load_f)(const void *p) { f32x8 v; memcpy(&v, p, 32); return v; }
INLINE f32x8 PATH(load_some)(const float *p, int n) /* the first n, and zeros */
{
    float part[8] = {0};
    memcpy(part, p, 4 * (size_t)n);
    return PATH(load_f)(part);
}
INLINE void PATH(store_f)(void *p, f32x8 v) { memcpy(p, &v, 32); }
INLINE f32x8 PATH(splat)(float x) { return (f32x8){x, x, x, x, x, x, x, x}; }
INLINE i32x8 PATH(splat_i)(int32_t x) { return (i32x8){x, x, x, x, x, x, x, x}; }
INLINE i32x8 PATH(splat_at)(const void *p) { int32_t x; memcpy(&x, p, 4); return PATH(splat_i)(x); }
INLINE f32x8 PATH(to_f)(i32x8 v) { return __builtin_convertvector(v, f32x8); }
INLINE f32x8 PATH(pick)(i32x8 mask, f32x8 yes, f32x8 no)
{
    return (f32x8)((mask & (i32x8)yes) | (~mask & (i32x8)no));
}
INLINE float PATH(sum)(f32x8 v)
{
    const f32x4 four =
        __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
    const f32x4 two = four + __builtin_shufflevector(four, four, 2, 3, 0, 1);
    return two[0] + two[1];
}

/* What a lane's products are added up in: `mac` adds four products of u8 and i8 to each lane (of i8
 * and i8, the right one not -128, where SIGNED(type)), at most ROOM(type) times. `widen` gives 32
 * bits, times scales as `spread` lays them out, or `nth` from the nth of each 8: in 4 lanes that
 * of the first, in 4 that of the second. `pairs` adds up two products each. */
#if PATH_IS_AVX2
/* 16 bits hold 8 * 2 * 15 * 127, 4 * 2 * 31 * 127, 2 * 2 * 63 * 127, 2 * 128 * 127. */
#define ROOM(type) ((type) == Q5_K ? 4 : (type) == Q6_K ? 2 : (type) == Q8_0 ? 1 : 8)
typedef i16x16 PATH(acc);
#else
#define ROOM(type) 8
typedef i32x8 PATH(acc);
#endif

#if PATH_IS_AVX2 || PATH_IS_AVX512
INLINE PATH(acc) PATH(mac)(int type, PATH(acc) t, u8x32 w, i8x32 x)
{
    const __m256i v = SIGNED(type) ? _mm256_abs_epi8((__m256i)w) : (__m256i)w;
    const __m256i y = SIGNED(type) ? _mm256_sign_epi8((__m256i)x, (__m256i)w) : (__m256i)x;
#if PATH_IS_AVX2
    return t + (i16x16)_mm256_maddubs_epi16(v, y);
#else
    return (i32x8)_mm256_dpbusd_epi32((__m256i)t, v, y);
#endif
}
INLINE i32x8 PATH(pairs)(i16x16 a, i16x16 b)
{
    return (i32x8)_mm256_madd_epi16((__m256i)a, (__m256i)b);
}
INLINE i32x4 PATH(pairs4)(i16x8 a, i16x8 b)
{
    return (i32x4)_mm_madd_epi16((__m128i)a, (__m128i)b);
}
INLINE i16x16 PATH(to_i16)(i8x16 v) { return (i16x16)_mm256_cvtepi8_epi16((__m128i)v); }
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
INLINE i32x8 PATH(mac)(int type, i32x8 t, u8x32 w, i8x32 x)
{
    for (int i = 0; i < 8; i++)
        for (int j = 4 * i; j < 4 * i + 4; j++)
            t[i] += (SIGNED(type) ? (int8_t)w[j] : w[j]) * x[j];
    return t;
}
INLINE i32x8 PATH(pairs)(i16x16 a, i16x16 b)
{
    i32x8 v;
    for (int i = 0; i < 8; i++)
        v[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return v;
}
INLINE i32x4 PATH(pairs4)(i16x8 a, i16x8 b)
{
    i32x4 v;
    for (int i = 0; i < 4; i++)
        v[i] = a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
    return v;
}
INLINE i16x16 PATH(to_i16)(i8x16 v) { return __builtin_convertvector(v, i16x16); }
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
    const uint32_t exponent = size < 0x7c00 ? 0x38000000 : 0x70000000; /* or infinity and NaN */
    const uint32_t wide = sign | ((size << 13) + exponent);
    float x;
    memcpy(&x, &wide, 4);
    return x;
}
#endif

#if PATH_IS_AVX2
enum { PATH(one) = 0x10001 }; /* the scale 1 */
INLINE i32x8 PATH(widen)(i16x16 t, i32x8 scales) { return PATH(pairs)(t, (i16x16)scales); }
INLINE i32x8 PATH(spread)(i16x8 v) /* each in both halves of 32 bits */
{
    const __m256i twice = _mm256_permute4x64_epi64(_mm256_castsi128_si256((__m128i)v), 0x50);
    return (i32x8)_mm256_unpacklo_epi16(twice, twice);
}
INLINE i32x8 PATH(nth)(i16x16 scales, int n)
{
    return (i32x8)_mm256_shuffle_epi8((__m256i)scales, _mm256_set1_epi16((short)(0x0100 + 0x0202 * n)));
}
#else
enum { PATH(one) = 1 };
INLINE i32x8 PATH(widen)(i32x8 t, i32x8 scales) { return t * scales; }
INLINE i32x8 PATH(spread)(i16x8 v)
{
    return (i32x8){v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]};
}
INLINE i32x8 PATH(nth)(i16x16 scales, int n)
{
    const int32_t a = scales[n], b = scales[8 + n];
    return (i32x8){a, a, a, a, b, b, b, b};
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

/* b . each of four rows of `a`, as `dot` gives it, where n is a multiple of 32: b is read once. */
INLINE void PATH(four_dots)(const float *a, const float *b, int64_t n, float *to, int64_t stride)
{
    f32x8 made[4][4] = {{{0}}};
    for (int64_t i = 0; i < n; i += 32)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const f32x8 v = PATH(load_f)(b + i + 8 * j);
#pragma GCC unroll 4
            for (int h = 0; h < 4; h++)
                made[h][j] += PATH(load_f)(a + h * n + i + 8 * j) * v;
        }
#pragma GCC unroll 4
    for (int h = 0; h < 4; h++)
        to[h * stride] = PATH(sum)((made[h][0] + made[h][1]) + (made[h][2] + made[h][3]));
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
    float most = x[0];
    f32x8 tops = PATH(splat)(most), totals = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        tops = PATH(pick)(PATH(load_f)(x + i) > tops, PATH(load_f)(x + i), tops);
    for (int j = 0; j < 8; j++)
        most = tops[j] > most ? tops[j] : most;
    for (; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (i = 0; i + 8 <= n; i += 8) {
        const f32x8 e = PATH(exp)(PATH(load_f)(x + i) - most);
        PATH(store_f)(x + i, e);
        totals += e;
    }
    float total = PATH(sum)(totals);
    if (i < n) {
        const f32x8 e = PATH(exp)(PATH(load_some)(x + i, (int)(n - i)) - most);
        for (int j = 0; i < n; i++, j++)
            total += x[i] = e[j];
    }
    return total;
}

/* Queries [count][size] over the same keys and values [n][size]: softmax(q K / sqrt(size)) V, with
 * scores [count][n]. */
static void PATH(attend)(const float *q, int64_t count, const float *keys, const float *values,
                         int64_t n, int64_t size, float *scores, float *to)
{
    const float scale = 1.0f / sqrtf((float)size);
    for (int64_t s = 0; s < n; s++) {
        for (int64_t i = 0; i < size; i += 16)
            __builtin_prefetch(keys + (s + 8) * size + i);
        int64_t h = 0;
        for (; h + 4 <= count && size % 32 == 0; h += 4)
            PATH(four_dots)(q + h * size, keys + s * size, size, scores + h * n + s, n);
        for (; h < count; h++)
            scores[h * n + s] = PATH(dot)(q + h * size, keys + s * size, size);
    }
    for (int64_t i = 0; i < count * n; i++)
        scores[i] *= scale;
    for (int64_t h = 0; h < count; h++) {
        const float inverse = 1.0f / PATH(softmax)(scores + h * n, n);
        for (int64_t s = 0; s < n; s++)
            scores[h * n + s] *= inverse;
    }
    memset(to, 0, 4 * (size_t)(count * size));
    int64_t s = 0;
    for (; s + 4 <= n; s += 4) {
        for (int64_t i = 0; i < 4 * size; i += 16)
            __builtin_prefetch(values + (s + 8) * size + i);
        for (int64_t h = 0; h < count; h++) {
            const float *p = scores + h * n + s, *v = values + s * size;
            float *y = to + h * size;
            for (int64_t i = 0; i < size; i++)
                y[i] += (p[0] * v[i] + p[1] * v[size + i]) +
                        (p[2] * v[2 * size + i] + p[3] * v[3 * size + i]);
        }
    }
    for (; s < n; s++)
        for (int64_t h = 0; h < count; h++)
            for (int64_t i = 0; i < size; i++)
                to[h * size + i] += scores[h * n + s] * values[s * size + i];
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

/* A weight of a K type is d * scale * q - dmin * minimum, with 8 scales and minima of 32 weights
 * each, or for Q6_K d * scale * (q - 32), with 16 scales of 16. */

/* Bytes 4 to 15 of Q4_K and Q5_K, 8 scales and 8 minima of 6 bits: scales 0 to 3, minima 0 to 3,
 * then both from 4 to 7. */
INLINE i16x16 PATH(six_bits)(const uint8_t *p)
{
    uint64_t both, high = 0;
    memcpy(&both, p, 8);
    memcpy(&high, p + 8, 4);
    return PATH(to_i16)((i8x16)(u64x2){
        both & 0x3f3f3f3f3f3f3f3f,
        ((high | high << 28) & 0x0f0f0f0f0f0f0f0f) | ((both >> 2) & 0x3030303030303030),
    });
}

INLINE i8x16 PATH(bytes)(const void *p) { i8x16 v; memcpy(&v, p, 16); return v; }

/* The whole numbers q of `groups` (at most 8) times 32 weights, with a sign where SIGNED(type). */
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
            q[g] |= (g < 4 ? high << (4 - g) : high >> (g - 4)) & 16;
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
                                           28, 29, 30, 31) - 8;
        }
    }
}

/* --- activations ------------------------------------------------------------------------------ */

/* n floats to 8 bits: x = d * q, d for each `size` (256 or 32), and sums of q. What is not finite
 * makes its d NaN, so that no product with it is a number. */
static void PATH(quantise)(const float *x, int64_t n, int64_t size, activation to)
{
    for (int64_t b = 0; b < n / size; b++) {
        f32x8 most = PATH(splat)(0.0f), odd = most;
        for (int64_t i = b * size; i < (b + 1) * size; i += 8) {
            const f32x8 v = PATH(load_f)(x + i), positive = PATH(pick)(v < 0.0f, -v, v);
            most = PATH(pick)(positive > most, positive, most);
            odd += v - v; /* NaN for what is not finite */
        }
        float amax = 0.0f;
        for (int i = 0; i < 8; i++)
            amax = most[i] > amax ? most[i] : amax;
        const int finite = PATH(sum)(odd) == 0.0f;
        const float inverse = finite && amax > 0.0f ? 127.0f / amax : 0.0f;
        to.d[b] = finite ? amax / 127.0f : NAN;
        for (int64_t g = b * size / 32; g < (b + 1) * size / 32; g++)
            for (int h = 0; h < 2; h++) {
                i32x8 total = {0};
                for (int i = 0; i < 2; i++) {
                    const int64_t place = 32 * g + 16 * h + 8 * i;
                    const f32x8 v = PATH(load_f)(x + place) * inverse;
                    const f32x8 whole = (v + 12582912.0f) - 12582912.0f; /* ties go to even */
                    const i32x8 q = finite ? __builtin_convertvector(whole, i32x8) : (i32x8){0};
                    PATH(store_i8)(to.q + place, q);
                    total += q;
                }
                int32_t sum = 0;
                for (int i = 0; i < 8; i++)
                    sum += total[i];
                to.sum16[2 * g + h] = (int16_t)sum;
                to.sum32[g] = (int16_t)(h ? to.sum32[g] + sum : sum);
            }
    }
}

/* --- one row times one token ------------------------------------------------------------------ */

#if PATH_IS_AVX512
/* The whole numbers of groups 2 * j and 2 * j + 1 of a block of a K type: 64 weights in a row. */
INLINE __m512i PATH(two_groups)(int type, const uint8_t *p, int j)
{
    const __m512i nibble = _mm512_set1_epi8(15);
    if (type == Q6_K) {
        const __m512i low = _mm512_loadu_si512(p + j / 2 * 64);
        const __m512i high = _mm512_broadcast_i64x4((__m256i)PATH(load_u8)(p + 128 + j / 2 * 32));
        const __m512i by = _mm512_inserti64x4(_mm512_set1_epi16(j % 2 ? 0 : 4), _mm256_set1_epi16(2), 1);
        const __m512i bits = j % 2 ? _mm512_srlv_epi16(high, by) : _mm512_sllv_epi16(high, by);
        const __m512i four = _mm512_and_si512(j % 2 ? _mm512_srli_epi16(low, 4) : low, nibble);
        return _mm512_or_si512(four, _mm512_and_si512(bits, _mm512_set1_epi8(48)));
    }
    const __m256i both = (__m256i)PATH(load_u8)(p + (type == Q4_K ? 16 : 48) + 32 * j);
    const __m512i by = _mm512_inserti64x4(_mm512_setzero_si512(), _mm256_set1_epi16(4), 1);
    const __m512i four =
        _mm512_and_si512(_mm512_srlv_epi16(_mm512_broadcast_i64x4(both), by), nibble);
    if (type == Q4_K)
        return four;
    const __m512i high = _mm512_broadcast_i64x4((__m256i)PATH(load_u8)(p + 16));
    const __m512i bit = _mm512_inserti64x4(_mm512_set1_epi8((char)(1 << (2 * j))),
                                           _mm256_set1_epi8((char)(2 << (2 * j))), 1);
    return _mm512_mask_add_epi8(four, _mm512_test_epi8_mask(high, bit), four, _mm512_set1_epi8(16));
}

/* The products of a block with 256 activations, times its scales: `nth` of each 8, 4 lanes each.
 * Sums of four products have 16 bits, so that a scale beside a zero multiplies them. */
INLINE i32x8 PATH(scaled)(int type, const uint8_t *row, const int8_t *x, i16x16 scales)
{
    const __m512i each = _mm512_castsi256_si512((__m256i)scales);
    const __m512i places = _mm512_set_epi32(9, 9, 9, 9, 1, 1, 1, 1, 8, 8, 8, 8, 0, 0, 0, 0);
    __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const __m512i products = _mm512_dpbusd_epi32(
            _mm512_setzero_si512(), PATH(two_groups)(type, row, j), _mm512_loadu_si512(x + 64 * j));
        const __m512i by = _mm512_maskz_permutexvar_epi16(
            0x55555555, _mm512_add_epi32(places, _mm512_set1_epi32(2 * j)), each);
        total = _mm512_dpwssd_epi32(total, products, by);
    }
    return (i32x8)_mm512_castsi512_si256(total) + (i32x8)_mm512_extracti64x4_epi64(total, 1);
}
#else
INLINE i32x8 PATH(scaled)(int type, const uint8_t *row, const int8_t *x, i16x16 scales)
{
    i32x8 total = {0};
    u8x32 q[8];
    PATH(numbers)(type, row, 8, q);
#pragma GCC unroll 8
    for (int g = 0; g < 8; g++) {
        const PATH(acc) none = {0};
        total += PATH(widen)(PATH(mac)(type, none, q[g], PATH(load_i8)(x + 32 * g)), PATH(nth)(scales, g));
    }
    return total;
}
#endif

INLINE float PATH(row_k)(int type, const uint8_t *row, int64_t columns, activation x)
{
    f32x8 made = {0};
    f32x4 least = {0};
    for (int64_t b = 0; b < columns / 256; b++, row += BYTES(type)) {
        for (int line = 0; line < BYTES(type); line += 64)
            __builtin_prefetch(row + AHEAD + line); /* past the end of a mapping it does nothing */
        const float d = PATH(half)(row + (type == Q6_K ? 208 : 0)) * x.d[b];
        i32x8 total = {0};
        i16x16 scales;
        if (type == Q6_K) {
            const i8x16 v = PATH(bytes)(row + 192);
            total = PATH(pairs)(PATH(to_i16)(v), PATH(load_i16)(x.sum16 + 16 * b)) * -32;
            scales = PATH(to_i16)(
                __builtin_shufflevector(v, v, 0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
        } else {
            const i16x16 v = PATH(six_bits)(row + 4);
            const i16x8 minima = __builtin_shufflevector(v, v, 4, 5, 6, 7, 12, 13, 14, 15);
            const i32x4 low = PATH(pairs4)(minima, (i16x8)PATH(bytes)(x.sum32 + 8 * b));
            least += __builtin_convertvector(low, f32x4) * (PATH(half)(row + 2) * x.d[b]);
            scales = __builtin_shufflevector(v, v, 0, 1, 2, 3, 8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11);
        }
        total += PATH(scaled)(type, row, x.q + 256 * b, scales);
        made += PATH(to_f)(total) * d;
    }
    return PATH(sum)(made) - ((least[0] + least[2]) + (least[1] + least[3]));
}

/* Of Q8_0 and Q4_0, where 32 weights are a block. */
INLINE float PATH(row_0)(int type, const uint8_t *row, int64_t columns, activation x)
{
    f32x8 made[2] = {{0}};
    for (int64_t first = 0; first < columns / 32; first += 8) {
        const int64_t left = columns / 32 - first;
        const int count = left < 8 ? (int)left : 8;
        for (int line = 0; line < 8 * BYTES(type); line += 64)
            __builtin_prefetch(row + AHEAD + line);
        u8x32 q[8];
        PATH(numbers)(type, row, count, q);
#pragma GCC unroll 8
        for (int g = 0; g < 8; g++) {
            if (g == count)
                break;
            const PATH(acc) none = {0};
            const i8x32 v = PATH(load_i8)(x.q + 32 * (first + g));
            const i32x8 total = PATH(widen)(PATH(mac)(type, none, q[g], v), PATH(splat_i)(PATH(one)));
            made[g % 2] += PATH(to_f)(total) * (PATH(half)(row + g * BYTES(type)) * x.d[first + g]);
        }
        row += 8 * BYTES(type);
    }
    return PATH(sum)(made[0] + made[1]);
}

static float PATH(row)(int type, const uint8_t *row, int64_t columns, activation x)
{
    switch (type) {
    case Q4_0: return PATH(row_0)(Q4_0, row, columns, x);
    case Q8_0: return PATH(row_0)(Q8_0, row, columns, x);
    case Q4_K: return PATH(row_k)(Q4_K, row, columns, x);
    case Q5_K: return PATH(row_k)(Q5_K, row, columns, x);
    default: return PATH(row_k)(Q6_K, row, columns, x);
    }
}

/* --- rows times many tokens ------------------------------------------------------------------- */

/* What is before a block's numbers; of Q8_0 and Q4_0 it is the d of 8 blocks. */
typedef struct {
    float d, dmin, each[8];
    int32_t scales[16]; /* as `spread` lays them out */
    int16_t minima[16]; /* for Q6_K the scales: 32 times them is what is taken off */
} PATH(head);

INLINE void PATH(read_head)(int type, const uint8_t *p, PATH(head) *to)
{
    i32x8 scales;
    if (type == Q6_K) {
        to->d = PATH(half)(p + 208);
        const i16x16 v = PATH(to_i16)(PATH(bytes)(p + 192));
        memcpy(to->minima, &v, 32);
        scales = PATH(spread)(__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
        memcpy(to->scales + 8, &scales, 32);
        scales = PATH(spread)(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7));
    } else {
        to->d = PATH(half)(p);
        to->dmin = PATH(half)(p + 2);
        const i16x16 v = PATH(six_bits)(p + 4);
        const i16x8 minima = __builtin_shufflevector(v, v, 4, 5, 6, 7, 12, 13, 14, 15);
        memcpy(to->minima, &minima, 16);
        scales = PATH(spread)(__builtin_shufflevector(v, v, 0, 1, 2, 3, 8, 9, 10, 11));
    }
    memcpy(to->scales, &scales, 32);
}

/* A row decoded: `columns` whole numbers, and a head for each 256. */
INLINE void PATH(decode)(int type, const uint8_t *row, int64_t columns, uint8_t *q, PATH(head) *heads)
{
    for (int64_t g = 0; g < columns / 32; g += 8, row += BYTES(type) * (8 / GROUPS(type))) {
        const int groups = columns / 32 - g < 8 ? (int)(columns / 32 - g) : 8;
        u8x32 v[8];
        PATH(numbers)(type, row, groups, v);
        memcpy(q + 32 * g, v, 32 * (size_t)groups);
        if (GROUPS(type) == 8)
            PATH(read_head)(type, row, heads + g / 8);
        else
            for (int i = 0; i < groups; i++)
                heads[g / 8].each[i] = PATH(half)(row + i * BYTES(type));
    }
}

/* 4 rows times 8 * C tokens in lanes: x.q is [columns / 4][8][4] for each 8 of them. */
INLINE void PATH(lanes)(int type, int C, const uint8_t *const *q, const PATH(head) *const *heads,
                        int64_t columns, const activation *x, float *const *y)
{
    const int halves = HALVES(type), steps = 8 / halves;
    const int room = ROOM(type) < steps ? ROOM(type) : steps;
    const int64_t groups = columns / 32;
    f32x8 made[4][2] = {{{0}}};
    for (int64_t first = 0; first < groups; first += 8) {
        const int count = GROUPS(type) == 1 && groups - first < 8 ? (int)(groups - first) : 8;
        const int64_t b = first / 8;
        i32x8 total[4][2] = {{{0}}};
        for (int i = 0; i < count * halves; i++) { /* each 32 / halves weights have a scale */
            for (int k0 = 0; k0 < steps; k0 += room) {
                PATH(acc) t[4][2] = {{{0}}};
                for (int k = k0; k < k0 + room; k++) {
                    const int64_t at = 8 * first + steps * i + k;
                    i8x32 v[2];
                    for (int c = 0; c < C; c++)
                        v[c] = PATH(load_i8)(x[c].q + 32 * at);
                    for (int r = 0; r < 4; r++) {
                        const u8x32 w = (u8x32)PATH(splat_at)(q[r] + 4 * at);
                        for (int c = 0; c < C; c++)
                            t[r][c] = PATH(mac)(type, t[r][c], w, v[c]);
                    }
                }
                for (int r = 0; r < 4; r++) {
                    const i32x8 scales = GROUPS(type) == 8 ? PATH(splat_at)(heads[r][b].scales + i)
                                                           : PATH(splat_i)(PATH(one));
                    for (int c = 0; c < C; c++)
                        total[r][c] += PATH(widen)(t[r][c], scales);
                }
            }
            if (GROUPS(type) == 8)
                continue;
            for (int c = 0; c < C; c++) {
                const f32x8 d = PATH(load_f)(x[c].d + 8 * (first + i));
                for (int r = 0; r < 4; r++) {
                    made[r][c] += PATH(to_f)(total[r][c]) * (d * heads[r][b].each[i]);
                    total[r][c] = (i32x8){0};
                }
            }
        }
        if (GROUPS(type) == 1)
            continue;
        for (int c = 0; c < C; c++) {
            const f32x8 d = PATH(load_f)(x[c].d + 8 * b);
            const int16_t *sums = type == Q6_K ? x[c].sum16 + 128 * b : x[c].sum32 + 64 * b;
            for (int r = 0; r < 4; r++) {
                i32x8 low = {0};
                for (int i = 0; i < 4 * halves; i++)
                    low += PATH(pairs)(PATH(load_i16)(sums + 16 * i),
                                       (i16x16)PATH(splat_at)(heads[r][b].minima + 2 * i));
                if (type == Q6_K)
                    total[r][c] -= low * 32;
                made[r][c] += PATH(to_f)(total[r][c]) * (d * heads[r][b].d);
                if (type != Q6_K)
                    made[r][c] -= PATH(to_f)(low) * (d * heads[r][b].dmin);
            }
        }
    }
    for (int r = 0; r < 4; r++)
        for (int c = 0; c < C; c++)
            PATH(store_f)(y[r] + 8 * c, made[r][c]);
}

#if PATH_IS_AVX512
/* Of 16 rows, one in each lane: what is before a block's numbers. The scales are four in 32 bits; of
 * Q4_K and Q5_K the second two are the minima. */
typedef struct {
    f32x16 d, dmin;
    i32x16 scales[4];
} PATH(heads);

INLINE i32x16 PATH(gather)(const uint8_t *p, i32x16 places)
{
    return (i32x16)_mm512_i32gather_epi32((__m512i)places, p, 1);
}
INLINE f32x16 PATH(halves)(i32x16 v) /* from the low 16 bits */
{
    return (f32x16)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)v));
}
INLINE i32x16 PATH(dots)(i32x16 t, __m512i w, const int8_t *x) /* the same 4 activations for all */
{
    int32_t four;
    memcpy(&four, x, 4);
    return (i32x16)_mm512_dpbusd_epi32((__m512i)t, w, _mm512_set1_epi32(four));
}

/* Scale i, and scales or minima 2 * i and 2 * i + 1 in 16 bits each. */
INLINE i32x16 PATH(scale_of)(int type, const PATH(heads) *h, int i)
{
    const i32x16 v = h->scales[i / 4] << (24 - i % 4 * 8);
    return type == Q6_K ? v >> 24 : (i32x16)_mm512_srli_epi32((__m512i)v, 24);
}
INLINE __m512i PATH(two_of)(int type, const PATH(heads) *h, int i)
{
    const i32x16 v = h->scales[(type == Q6_K ? 0 : 2) + i / 2] >> (i % 2 * 16);
    const __m512i high = (__m512i)((v & 0xff) << 8 | (v & 0xff00) << 16);
    return type == Q6_K ? _mm512_srai_epi16(high, 8) : _mm512_srli_epi16(high, 8);
}

/* 16 bytes of each row from p on: v[i] is their word i, a row in each lane. */
INLINE void PATH(four_words)(const uint8_t *p, const int32_t *place, __m512i *v)
{
    __m512i t[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; r++) {
        __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *)(p + place[r])));
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + place[4 + r])), 1);
        x = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + place[8 + r])), 2);
        t[r] = _mm512_inserti32x4(x, _mm_loadu_si128((const __m128i *)(p + place[12 + r])), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(t[0], t[1]), b = _mm512_unpackhi_epi32(t[0], t[1]);
    const __m512i c = _mm512_unpacklo_epi32(t[2], t[3]), d = _mm512_unpackhi_epi32(t[2], t[3]);
    v[0] = _mm512_unpacklo_epi64(a, c);
    v[1] = _mm512_unpackhi_epi64(a, c);
    v[2] = _mm512_unpacklo_epi64(b, d);
    v[3] = _mm512_unpackhi_epi64(b, d);
}

INLINE void PATH(read_heads)(int type, const uint8_t *p, const int32_t *place, PATH(heads) *to)
{
    __m512i v[4];
    PATH(four_words)(p + (type == Q6_K ? 192 : 0), place, v);
    if (type == Q6_K) {
        i32x16 places;
        memcpy(&places, place, 64);
        to->d = PATH(halves)(PATH(gather)(p + 206, places) >> 16); /* not beyond the block */
        memcpy(to->scales, v, sizeof v);
        return;
    }
    to->d = PATH(halves)((i32x16)v[0]);
    to->dmin = PATH(halves)((i32x16)v[0] >> 16);
    for (int i = 0; i < 2; i++) { /* scales, then minima; see `six_bits` */
        const i32x16 w = (i32x16)v[1 + i], high = (i32x16)v[3];
        to->scales[2 * i] = w & 0x3f3f3f3f;
        to->scales[2 * i + 1] = ((high >> (4 * i)) & 0x0f0f0f0f) | ((w >> 2) & 0x30303030);
    }
}

/* What Q5_K and Q6_K have above the 4 low bits of group g, from the words v. */
INLINE __m512i PATH(high_bits)(int type, int g, __m512i v)
{
    const int by = type == Q5_K ? 4 - g : 4 - 2 * (g % 4);
    const __m512i moved = by > 0 ? _mm512_slli_epi32(v, by) : _mm512_srli_epi32(v, -by);
    return _mm512_and_si512(moved, _mm512_set1_epi8(type == Q5_K ? 16 : 48));
}

/* `count` rows, at most TILE: whole numbers q [columns / 4][TILE][4], and heads for each 256. Rows
 * are turned into lanes as they are packed, a word at a time, and taken apart then. */
INLINE void PATH(decode_rows)(int type, const uint8_t *rows, int64_t stride, int count,
                              int64_t columns, uint8_t *q, PATH(heads) *heads)
{
    const int low = type == Q4_K ? 16 : type == Q5_K ? 48 : 0, high = type == Q5_K ? 16 : 128;
    const __m512i nibble = _mm512_set1_epi8(15);
    int32_t place[TILE];
    for (int r = 0; r < TILE; r++)
        place[r] = (int32_t)(stride * (r < count ? r : count - 1));
    for (int64_t b = 0; b < columns / 256; b++, rows += BYTES(type), q += 256 * TILE) {
        PATH(read_heads)(type, rows, place, heads + b);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) { /* 16 bytes each, of half a group and half of another */
            /* The groups of the low and of the high nibbles, and which half. */
            const int g = type == Q6_K ? i / 4 * 4 + i / 2 % 2 : i / 2 * 2, half = i % 2;
            const int other = type == Q6_K ? g + 2 : g + 1;
            __m512i v[4], above[4];
            PATH(four_words)(rows + low + 16 * i, place, v);
            if (type != Q4_K)
                PATH(four_words)(rows + high + (type == Q6_K ? i / 4 * 32 : 0) + 16 * half, place, above);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                __m512i first = _mm512_and_si512(v[k], nibble);
                __m512i second = _mm512_and_si512(_mm512_srli_epi32(v[k], 4), nibble);
                if (type != Q4_K) {
                    first = _mm512_or_si512(first, PATH(high_bits)(type, g, above[k]));
                    second = _mm512_or_si512(second, PATH(high_bits)(type, other, above[k]));
                }
                _mm512_storeu_si512(q + 64 * (8 * g + 4 * half + k), first);
                _mm512_storeu_si512(q + 64 * (8 * other + 4 * half + k), second);
            }
        }
    }
}

/* 16 decoded rows times the first N of 8 tokens in lanes: to [N][TILE]. The rows that come next are
 * fetched meanwhile, a few lines at a time, as memory can only have so many under way. */
INLINE void PATH(rows_in_lanes)(int type, int N, const uint8_t *q, const PATH(heads) *heads,
                                int64_t columns, activation x, const uint8_t *next, f32x16 *to)
{
    const int halves = HALVES(type), steps = 8 / halves;
    const int share = TILE * BYTES(type) / (8 * halves); /* bytes of a block of each row, by scale */
    f32x16 made[LANES] = {{0}};
    for (int64_t b = 0; b < columns / 256; b++) {
        const PATH(heads) *h = heads + b;
        i32x16 total[LANES] = {{0}};
        for (int i = 0; i < 8 * halves; i++, next += share) {
            i32x16 t[LANES] = {{0}};
            for (int line = 0; line < share; line += 64)
                __builtin_prefetch(next + line);
#pragma GCC unroll 8
            for (int k = 0; k < steps; k++) {
                const int64_t at = 64 * b + steps * i + k;
                const __m512i w = _mm512_loadu_si512(q + 64 * at);
#pragma GCC unroll 8
                for (int n = 0; n < N; n++)
                    t[n] = PATH(dots)(t[n], w, x.q + 32 * at + 4 * n);
            }
            const i32x16 scale = PATH(scale_of)(type, h, i);
#pragma GCC unroll 8
            for (int n = 0; n < N; n++)
                total[n] += t[n] * scale;
        }
        const int16_t *sums = type == Q6_K ? x.sum16 + 128 * b : x.sum32 + 64 * b;
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) {
            i32x16 low = {0};
            for (int i = 0; i < 4 * halves; i++) {
                int32_t two;
                memcpy(&two, sums + 16 * i + 2 * n, 4);
                low = (i32x16)_mm512_dpwssd_epi32((__m512i)low, PATH(two_of)(type, h, i),
                                                  _mm512_set1_epi32(two));
            }
            const float d = x.d[8 * b + n];
            if (type == Q6_K) {
                made[n] += __builtin_convertvector(total[n] - low * 32, f32x16) * (h->d * d);
            } else {
                made[n] += __builtin_convertvector(total[n], f32x16) * (h->d * d);
                made[n] -= __builtin_convertvector(low, f32x16) * (h->dmin * d);
            }
        }
    }
    memcpy(to, made, sizeof made);
}

/* `count` rows of a K type times the tokens of a panel's groups; as `lanes`, to the bit. */
INLINE void PATH(wide_tile)(int type, const uint8_t *rows, const uint8_t *next, int64_t stride,
                            int count, int64_t columns, const panel *x, float *y, uint8_t *scratch)
{
    PATH(heads) *heads = (PATH(heads) *)(scratch + TILE * columns);
    PATH(decode_rows)(type, rows, stride, count, columns, scratch, heads);
    for (int g = 0; g < x->groups; g++) {
        f32x16 made[LANES];
        const activation x8 = x->lanes[g];
        switch (x->tokens - LANES * g) { /* no time for lanes that are nobody's */
        case 1: PATH(rows_in_lanes)(type, 1, scratch, heads, columns, x8, next, made); break;
        case 2: PATH(rows_in_lanes)(type, 2, scratch, heads, columns, x8, next, made); break;
        case 3: PATH(rows_in_lanes)(type, 3, scratch, heads, columns, x8, next, made); break;
        case 4: PATH(rows_in_lanes)(type, 4, scratch, heads, columns, x8, next, made); break;
        case 5: PATH(rows_in_lanes)(type, 5, scratch, heads, columns, x8, next, made); break;
        case 6: PATH(rows_in_lanes)(type, 6, scratch, heads, columns, x8, next, made); break;
        case 7: PATH(rows_in_lanes)(type, 7, scratch, heads, columns, x8, next, made); break;
        default: PATH(rows_in_lanes)(type, LANES, scratch, heads, columns, x8, next, made);
        }
        for (int r = 0; r < count; r++)
            for (int n = 0; n < LANES; n++)
                y[r * width_of(x) + LANES * g + n] = made[n][r];
    }
}
#endif

/* `count` rows, decoded once (then at most TILE), times all tokens of a panel: y [count][width_of(x)]. */
INLINE void PATH(tile_of)(int type, const uint8_t *rows, const uint8_t *next, int64_t stride,
                          int count, int64_t columns, const panel *x, float *y, uint8_t *scratch)
{
    const int64_t blocks = (columns + 255) / 256, width = width_of(x);
    PATH(head) *heads = (PATH(head) *)(scratch + TILE * columns);
    int groups = x->groups;
#if PATH_IS_AVX512
    if (groups && GROUPS(type) == 8) {
        PATH(wide_tile)(type, rows, next, stride, count, columns, x, y, scratch);
        groups = 0;
    }
#endif
    if (groups)
        for (int r = 0; r < count; r++)
            PATH(decode)(type, rows + r * stride, columns, scratch + r * columns, heads + r * blocks);
    for (int g = 0; g < groups; g += 2)
        for (int first = 0; first < count; first += 4) {
            const uint8_t *q4[4];
            const PATH(head) *heads4[4];
            float *y4[4], unused[16];
            for (int64_t line = first * stride; g == 0 && line < (first + 4) * stride; line += 64)
                __builtin_prefetch(next + line);
            for (int r = 0; r < 4; r++) {
                const int row = first + r < count ? first + r : first;
                q4[r] = scratch + row * columns;
                heads4[r] = heads + row * blocks;
                y4[r] = first + r < count ? y + row * width + 8 * g : unused;
            }
            if (g + 1 < groups)
                PATH(lanes)(type, 2, q4, heads4, columns, x->lanes + g, y4);
            else
                PATH(lanes)(type, 1, q4, heads4, columns, x->lanes + g, y4);
        }
    for (int r = 0; r < count; r++)
        for (int t = 0; t < x->rest; t++)
            y[r * width + 8 * x->groups + t] = PATH(row)(type, rows + r * stride, columns, x->apart[t]);
}

static void PATH(tile)(int type, const uint8_t *rows, const uint8_t *next, int64_t stride, int count,
                       int64_t columns, const panel *x, float *y, uint8_t *scratch)
{
    switch (type) {
    case Q4_0: PATH(tile_of)(Q4_0, rows, next, stride, count, columns, x, y, scratch); break;
    case Q8_0: PATH(tile_of)(Q8_0, rows, next, stride, count, columns, x, y, scratch); break;
    case Q4_K: PATH(tile_of)(Q4_K, rows, next, stride, count, columns, x, y, scratch); break;
    case Q5_K: PATH(tile_of)(Q5_K, rows, next, stride, count, columns, x, y, scratch); break;
    default: PATH(tile_of)(Q6_K, rows, next, stride, count, columns, x, y, scratch); break;
    }
}

/* A row as floats. */
static void PATH(to_floats)(int type, const uint8_t *row, int64_t columns, float *to)
{
    for (int64_t g = 0; g < columns / 32; g += 8, row += BYTES(type) * (8 / GROUPS(type))) {
        const int groups = columns / 32 - g < 8 ? (int)(columns / 32 - g) : 8;
        uint8_t q[256];
        PATH(head) head = {0};
        PATH(decode)(type, row, 32 * groups, q, &head);
        for (int i = 0; i < 32 * groups; i++, to++) {
            const int16_t scale = (int16_t)head.scales[i * HALVES(type) / 32];
            if (GROUPS(type) == 1)
                *to = head.each[i / 32] * (float)(int8_t)q[i];
            else if (type == Q6_K)
                *to = head.d * (float)scale * (float)(q[i] - 32);
            else
                *to = head.d * (float)scale * (float)q[i] - head.dmin * (float)head.minima[i / 32];
        }
    }
}

static const path PATH(path) = {
    PATH(quantise), PATH(tile), PATH(dot), PATH(norm), PATH(rotate), PATH(softmax), PATH(attend),
    PATH(swiglu), PATH(to_floats),
};

#undef PATH
#undef INLINE
#undef ROOM
#undef PATH_IS_AVX512
#undef PATH_IS_AVX2
