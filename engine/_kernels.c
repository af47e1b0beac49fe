/* Products with quantised blocks as they lie in a GGUF file, and what else a token's pass needs.
 *
 * Weights stay as the file has them (layouts: ggml-common.h). Activations are rounded to 8 bits with
 * a scale for every 32, so that products are whole numbers; see `quantise`. The arithmetic is in
 * _kernels_path.h, once for each instruction path; here are the loops over rows, tokens and experts.
 * Called by engine/kernels.py, which checks every shape first. Threads are OpenMP's, so torch's own
 * where torch brings that library. Each row is made by one thread and in one order, whichever it is.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi" /* vectors never cross a call that is not inlined */
#endif

typedef uint8_t u8x32 __attribute__((vector_size(32)));
typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef int8_t i8x32 __attribute__((vector_size(32)));
typedef int8_t i8x16 __attribute__((vector_size(16)));
typedef uint64_t u64x2 __attribute__((vector_size(16)));
typedef int16_t i16x16 __attribute__((vector_size(32)));
typedef int16_t i16x8 __attribute__((vector_size(16)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x8 __attribute__((vector_size(32)));
typedef int32_t i32x16 __attribute__((vector_size(64), aligned(4)));
typedef float f32x16 __attribute__((vector_size(64), aligned(4)));

/* engine/kernels.py has the same numbers. A block is GROUPS times 32 weights in BYTES bytes. */
enum { Q4_0, Q8_0, Q4_K, Q5_K, Q6_K };
#define BYTES(type) \
    ((type) == Q4_0 ? 18 : (type) == Q8_0 ? 34 : (type) == Q4_K ? 144 : (type) == Q5_K ? 176 : 210)
#define GROUPS(type) ((type) == Q4_0 || (type) == Q8_0 ? 1 : 8)
#define HALVES(type) ((type) == Q6_K ? 2 : 1) /* a scale for every 32 / HALVES weights */
#define SIGNED(type) (GROUPS(type) == 1)

/* Tokens that are multiplied at once; rows that are decoded at once for them, and rows that a thread
 * takes where there are too few tokens for that: long runs, as memory is quickest in those. */
enum { LANES = 8, TILE = 16, RUN = 128 };
enum { TURN = 4 }; /* tiles that a thread takes at a time, so that what it fetched ahead is its own */
enum { TOGETHER = 8 };  /* query heads that read a key at the same time, at most */
enum { AHEAD = 3072 }; /* bytes that are fetched ahead: the processor's own guess ends with a page */

/* Numbers in 8 bits: x = d * q, a d for every 256, or 32 where weights come in blocks of 32; sums of
 * q for every 16 and every 32. */
typedef struct {
    int8_t *q;
    float *d;
    int16_t *sum16, *sum32;
} activation;

/* The tokens that some rows meet: groups of 8 in lanes, q [columns / 4][8][4], d [..][8], sum16 and
 * sum32 [../ 2][8][2], of which the last may not be full; or a few that are multiplied one by one. */
typedef struct {
    int64_t tokens;
    int groups, rest;
    activation *lanes;
    activation apart[3];
} panel;

/* Columns of what a panel makes: its last group may have a few that are nobody's. */
static inline int64_t width_of(const panel *x)
{
    return LANES * x->groups + x->rest;
}

/* Kernels of one instruction path. `next` is where the rows lie that come after a tile. */
typedef struct {
    void (*quantise)(const float *x, int64_t n, int64_t size, activation to);
    void (*tile)(int type, const uint8_t *rows, const uint8_t *next, int64_t stride, int count,
                 int64_t columns, const panel *x, float *y, uint8_t *scratch);
    float (*dot)(const float *a, const float *b, int64_t n);
    void (*norm)(const float *x, const float *gain, float epsilon, int64_t n, float *to);
    void (*rotate)(float *x, const float *cos, const float *sin, int64_t half);
    float (*softmax)(float *x, int64_t n);
    void (*attend)(const float *q, int64_t count, const float *keys, const float *values, int64_t n,
                   int64_t size, float *scores, float *to);
    void (*swiglu)(const float *gate, const float *up, int64_t n, float *to);
    void (*to_floats)(int type, const uint8_t *row, int64_t columns, float *to);
} path;

#define PATH(name) portable_##name
#define PATH_IS_AVX2 0
#define PATH_IS_AVX512 0
#include "_kernels_path.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,f16c")
#endif
#define PATH(name) avx2_##name
#define PATH_IS_AVX2 1
#define PATH_IS_AVX512 0
#include "_kernels_path.h"
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push( \
    __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512vl,avx512vnni"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,f16c,avx512f,avx512bw,avx512vl,avx512vnni")
#endif
#define PATH(name) avx512_##name
#define PATH_IS_AVX2 0
#define PATH_IS_AVX512 1
#include "_kernels_path.h"
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

/* The paths by number, as engine/kernels.py has them. */
static const path *path_of(int number)
{
#if defined(__x86_64__)
    if (number == 1)
        return &avx2_path;
    if (number == 2)
        return &avx512_path;
#endif
    return &portable_path;
}

/* Whether this processor has what a path needs. */
int engine_has_path(int number)
{
    if (number == 0)
        return 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
    if (number == 1)
        return avx2;
    if (number == 2)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#endif
    return 0;
}

/* --- scratch memory --------------------------------------------------------------------------- */

/* Hands out parts of the caller's scratch memory; what does not fit is counted and is NULL. */
typedef struct {
    uint8_t *base;
    size_t room, used;
} arena;

static void *take(arena *a, size_t bytes)
{
    uint8_t *p = a->base + a->used;
    a->used += (bytes + 63) / 64 * 64;
    return a->used <= a->room ? p : NULL;
}

/* Room for `count` tokens of `columns` numbers. */
static activation take_activation(arena *a, int64_t count, int64_t columns)
{
    const size_t n = (size_t)(count * columns);
    activation x;
    x.q = take(a, n);
    x.d = take(a, n / 32 * 4);
    x.sum16 = take(a, n / 16 * 2);
    x.sum32 = take(a, n / 32 * 2);
    return x;
}

static activation at(activation x, int64_t token, int64_t columns)
{
    const int64_t g = token * (columns / 32); /* places for d are left out where it is for 256 */
    return (activation){x.q + token * columns, x.d + g, x.sum16 + 2 * g, x.sum32 + g};
}

static int groups_of(int64_t tokens)
{
    return tokens > 3 ? (int)((tokens + LANES - 1) / LANES) : 0;
}

/* What a thread needs to multiply `rows` at once of at most `columns` by `tokens` tokens, twice. */
typedef struct {
    uint8_t *decoded;
    float *y[2];
    int64_t rows;
} workspace;

static workspace take_workspace(arena *a, int64_t columns, int64_t tokens)
{
    workspace w;
    const size_t width = (size_t)(tokens + LANES);
    w.rows = groups_of(tokens) ? TILE : RUN;
    w.decoded = take(a, (size_t)(TILE * (2 * columns + 256))); /* whole numbers, and their heads */
    w.y[0] = take(a, (size_t)w.rows * width * 4);
    w.y[1] = take(a, (size_t)w.rows * width * 4);
    return w;
}

/* --- panels ----------------------------------------------------------------------------------- */

static void lay_in_lanes(activation x, const int32_t *tokens, int count, int64_t columns, activation to)
{
    const int64_t groups = columns / 32;
    for (int lane = 0; lane < LANES; lane++) {
        const int used = lane < count;
        const activation from = used ? at(x, tokens[lane], columns) : to;
        for (int64_t i = 0; i < columns / 4; i++)
            if (used)
                memcpy(to.q + 4 * (LANES * i + lane), from.q + 4 * i, 4);
            else
                memset(to.q + 4 * (LANES * i + lane), 0, 4);
        for (int64_t g = 0; g < groups; g++) {
            to.d[LANES * g + lane] = used ? from.d[g] : 0.0f; /* for blocks of 256, too many */
            to.sum32[2 * (LANES * (g / 2) + lane) + g % 2] = used ? from.sum32[g] : 0;
        }
        for (int64_t g = 0; g < 2 * groups; g++)
            to.sum16[2 * (LANES * (g / 2) + lane) + g % 2] = used ? from.sum16[g] : 0;
    }
}

/* The panel of `count` tokens of x; `lanes` is room for groups_of(count) groups. */
static panel make_panel(activation x, const int32_t *tokens, int64_t count, int64_t columns,
                        activation *lanes)
{
    panel p;
    p.tokens = count;
    p.groups = groups_of(count);
    p.lanes = lanes;
    p.rest = 0;
    for (int g = 0; g < p.groups; g++) {
        const int64_t left = count - LANES * g;
        lay_in_lanes(x, tokens + LANES * g, left < LANES ? (int)left : LANES, columns, lanes[g]);
    }
    for (int64_t t = LANES * p.groups; t < count; t++)
        p.apart[p.rest++] = at(x, tokens[t], columns);
    return p;
}

static activation *take_lanes(arena *a, int64_t groups, int64_t columns)
{
    activation *lanes = take(a, (size_t)groups * sizeof(activation));
    for (int64_t g = 0; g < groups; g++) {
        const activation x = take_activation(a, LANES, columns);
        if (lanes)
            lanes[g] = x;
    }
    return lanes;
}

/* --- what engine/kernels.py calls ------------------------------------------------------------- */

typedef struct {
    const uint8_t *data; /* [rows][columns], or [experts][rows][columns] */
    int64_t type, rows, columns;
} matrix;

static int64_t block_of(const matrix *m)
{
    return 32 * GROUPS(m->type);
}

static int64_t row_bytes(const matrix *m)
{
    return m->columns / block_of(m) * BYTES(m->type);
}

/* y[i] [tokens][rows] = x [tokens][columns] times matrices[i] transposed; all have the same columns
 * and the same size of block.
 * Each function with a scratch returns the bytes that it needs there; if `room` is less, it does
 * no more. */
size_t engine_linear(void *scratch, size_t room, int path_number, int threads, int count,
                     const matrix *matrices, const float *x, int64_t tokens, float *const *y)
{
    const path *k = path_of(path_number);
    const int64_t columns = matrices[0].columns;
    arena a = {scratch, room, 0};
    const activation whole = take_activation(&a, tokens, columns);
    int32_t *all = take(&a, (size_t)tokens * 4);
    activation *lanes = take_lanes(&a, groups_of(tokens), columns);
    workspace *spaces = take(&a, (size_t)threads * sizeof(workspace));
    for (int t = 0; t < threads; t++) {
        const workspace w = take_workspace(&a, columns, tokens);
        if (spaces)
            spaces[t] = w;
    }
    if (a.used > room)
        return a.used;

    const int64_t at_once = spaces[0].rows;
    const int turn = at_once == TILE ? TURN : 1;
    int64_t chunks = 0;
    for (int i = 0; i < count; i++)
        chunks += (matrices[i].rows + at_once - 1) / at_once;
    panel p = {0};
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for
        for (int64_t t = 0; t < tokens; t++) {
            k->quantise(x + t * columns, columns, block_of(matrices), at(whole, t, columns));
            all[t] = (int32_t)t;
        }
#pragma omp for
        for (int g = 0; g < groups_of(tokens); g++) {
            const int64_t left = tokens - LANES * g;
            lay_in_lanes(whole, all + LANES * g, left < LANES ? (int)left : LANES, columns, lanes[g]);
        }
#pragma omp single
        {
            p.tokens = tokens;
            p.groups = groups_of(tokens);
            p.lanes = lanes;
            for (int64_t t = LANES * p.groups; t < tokens; t++)
                p.apart[p.rest++] = at(whole, t, columns);
        }
        const workspace w = spaces[omp_get_thread_num()];
#pragma omp for schedule(dynamic, turn)
        for (int64_t chunk = 0; chunk < chunks; chunk++) {
            int i = 0;
            int64_t first = chunk;
            while (first >= (matrices[i].rows + at_once - 1) / at_once)
                first -= (matrices[i++].rows + at_once - 1) / at_once;
            const matrix *m = matrices + i;
            first *= at_once;
            const int rows = (int)(m->rows - first < at_once ? m->rows - first : at_once);
            const int64_t stride = row_bytes(m);
            const uint8_t *mine = m->data + first * stride;
            k->tile((int)m->type, mine, mine + at_once * stride, stride, rows, columns, &p, w.y[0],
                    w.decoded);
            for (int64_t t = 0; t < tokens; t++)
                for (int r = 0; r < rows; r++)
                    y[i][t * m->rows + first + r] = w.y[0][r * width_of(&p) + t];
        }
    }
    return a.used;
}

/* The `used` largest of `count` logits, the largest first, of equal ones the lowest index; their
 * softmax among themselves is their weights. */
static void choose(const path *k, const float *logits, int count, int used, int32_t *experts,
                   float *weights)
{
    for (int r = 0; r < used; r++) {
        int best = -1;
        for (int e = 0; e < count; e++) {
            int taken = 0;
            for (int i = 0; i < r; i++)
                taken |= experts[i] == e;
            if (!taken && (best < 0 || logits[e] > logits[best]))
                best = e;
        }
        experts[r] = best;
        weights[r] = logits[best];
    }
    const float total = k->softmax(weights, used);
    for (int r = 0; r < used; r++)
        weights[r] /= total;
}

/* out [tokens][hidden]: x through `used` of `experts` SwiGLU experts by the router [experts][hidden];
 * without a router all go through the only expert. gate and up are [experts][width][hidden], down
 * [experts][hidden][width]. */
size_t engine_experts(void *scratch, size_t room, int path_number, int threads, const float *x,
                      int64_t tokens, const float *router, int experts, int used,
                      const matrix *gate, const matrix *up, const matrix *down, float *out)
{
    const path *k = path_of(path_number);
    const int64_t hidden = gate->columns, width = gate->rows, slots = tokens * used;
    /* Each expert fills up its last group, so there is a group more for each that may be used. */
    const int64_t groups = slots / LANES + (slots < experts ? slots : experts);
    arena a = {scratch, room, 0};
    const activation whole = take_activation(&a, tokens, hidden);
    const activation inner = take_activation(&a, slots, width);
    float *logits = take(&a, (size_t)(tokens * experts) * 4);
    float *weights = take(&a, (size_t)slots * 4);
    int32_t *chosen = take(&a, (size_t)slots * 4);
    int32_t *slot = take(&a, (size_t)slots * 4);  /* by expert */
    int32_t *token = take(&a, (size_t)slots * 4); /* of that slot */
    int64_t *start = take(&a, (size_t)(experts + 1) * 8);
    int64_t *first_group = take(&a, (size_t)(experts + 1) * 8);
    int32_t *active = take(&a, (size_t)experts * 4);
    panel *panels = take(&a, (size_t)experts * sizeof(panel));
    float *made = take(&a, (size_t)(slots * width) * 4);
    activation *lanes = take_lanes(&a, groups, hidden > width ? hidden : width);
    workspace *spaces = take(&a, (size_t)threads * sizeof(workspace));
    for (int t = 0; t < threads; t++) {
        const workspace w = take_workspace(&a, hidden > width ? hidden : width, tokens);
        if (spaces)
            spaces[t] = w;
    }
    if (a.used > room)
        return a.used;

    const int64_t gate_stride = row_bytes(gate), up_stride = row_bytes(up), down_stride = row_bytes(down);
    const int64_t at_once = spaces[0].rows;
    const int turn = at_once == TILE ? TURN : 1;
    const int64_t wide = (width + at_once - 1) / at_once, tall = (hidden + at_once - 1) / at_once;
    int count = 0;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const workspace w = spaces[omp_get_thread_num()];
#pragma omp for nowait
        for (int64_t t = 0; t < tokens; t++)
            k->quantise(x + t * hidden, hidden, block_of(gate), at(whole, t, hidden));
        if (router) {
#pragma omp for
            for (int64_t i = 0; i < tokens * experts; i++)
                logits[i] = k->dot(x + i / experts * hidden, router + i % experts * hidden, hidden);
        }
#pragma omp for
        for (int64_t t = 0; t < tokens; t++) {
            if (router) {
                choose(k, logits + t * experts, experts, used, chosen + t * used, weights + t * used);
            } else {
                chosen[t] = 0;
                weights[t] = 1.0f;
            }
        }
#pragma omp single
        {
            memset(start, 0, (size_t)(experts + 1) * 8);
            for (int64_t s = 0; s < slots; s++)
                start[chosen[s] + 1]++;
            first_group[0] = 0;
            for (int e = 0; e < experts; e++) {
                if (start[e + 1])
                    active[count++] = e;
                first_group[e + 1] = first_group[e] + groups_of(start[e + 1]);
                start[e + 1] += start[e];
            }
            for (int64_t s = 0; s < slots; s++) {
                const int64_t place = start[chosen[s]]++;
                slot[place] = (int32_t)s;
                token[place] = (int32_t)(s / used);
            }
            for (int e = experts; e > 0; e--)
                start[e] = start[e - 1];
            start[0] = 0;
        }
#pragma omp for schedule(dynamic)
        for (int i = 0; i < count; i++) {
            const int e = active[i];
            panels[e] = make_panel(whole, token + start[e], start[e + 1] - start[e], hidden,
                                   lanes + first_group[e]);
        }
#pragma omp for schedule(dynamic, turn)
        for (int64_t chunk = 0; chunk < count * wide; chunk++) {
            const int e = active[chunk / wide];
            const int64_t first = chunk % wide * at_once, mine = start[e + 1] - start[e];
            const int rows = (int)(width - first < at_once ? width - first : at_once);
            const int64_t across = width_of(panels + e);
            const uint8_t *gates = gate->data + (e * width + first) * gate_stride;
            const uint8_t *ups = up->data + (e * width + first) * up_stride;
            k->tile((int)gate->type, gates, ups, gate_stride, rows, hidden, panels + e, w.y[0],
                    w.decoded);
            k->tile((int)up->type, ups, gates + at_once * gate_stride, up_stride, rows, hidden,
                    panels + e, w.y[1], w.decoded);
            k->swiglu(w.y[0], w.y[1], rows * across, w.y[0]);
            for (int64_t t = 0; t < mine; t++)
                for (int r = 0; r < rows; r++)
                    made[slot[start[e] + t] * width + first + r] = w.y[0][r * across + t];
        }
#pragma omp for
        for (int64_t s = 0; s < slots; s++)
            k->quantise(made + s * width, width, block_of(down), at(inner, s, width));
#pragma omp for schedule(dynamic)
        for (int i = 0; i < count; i++) {
            const int e = active[i];
            panels[e] = make_panel(inner, slot + start[e], start[e + 1] - start[e], width,
                                   lanes + first_group[e]);
        }
#pragma omp for schedule(dynamic)
        for (int64_t chunk = 0; chunk < tall; chunk++) {
            const int64_t first = chunk * at_once;
            const int rows = (int)(hidden - first < at_once ? hidden - first : at_once);
            for (int64_t t = 0; t < tokens; t++)
                memset(out + t * hidden + first, 0, (size_t)rows * 4);
            for (int i = 0; i < count; i++) {
                const int e = active[i], next = active[i + 1 < count ? i + 1 : 0];
                k->tile((int)down->type, down->data + (e * hidden + first) * down_stride,
                        down->data + (next * hidden + first) * down_stride, down_stride, rows, width,
                        panels + e, w.y[0], w.decoded);
                for (int64_t t = start[e]; t < start[e + 1]; t++)
                    for (int r = 0; r < rows; r++)
                        out[token[t] * hidden + first + r] +=
                            weights[slot[t]] * w.y[0][r * width_of(panels + e) + t - start[e]];
            }
        }
    }
    return a.used;
}

/* to = x + delta (or x), and its RMSNorm; [tokens][n]. */
void engine_norm(int path_number, int threads, const float *x, const float *delta, const float *gain,
                 float epsilon, int64_t tokens, int64_t n, float *to, float *normed)
{
    const path *k = path_of(path_number);
#pragma omp parallel for num_threads(threads) if (threads > 1 && tokens > 8)
    for (int64_t t = 0; t < tokens; t++) {
        for (int64_t i = t * n; i < (t + 1) * n; i++)
            to[i] = delta ? x[i] + delta[i] : x[i];
        k->norm(to + t * n, gain, epsilon, n, normed + t * n);
    }
}

/* Where the heads of one layer lie. Keys and values are [kv_heads][..][size], a head every `stride`
 * floats; `length` positions are filled. q_gain and k_gain may be NULL. */
typedef struct {
    int64_t heads, kv_heads, size, window, length, stride;
    const float *q_gain, *k_gain;
    float epsilon;
} attention;

/* Norms and turns q [tokens][heads * size] and k [tokens][kv_heads * size] in place, by angles
 * [tokens][size / 2], and puts k and v into the cache. A single token is also attended, into
 * out [heads * size]. */
size_t engine_attend(void *scratch, size_t room, int path_number, int threads, const attention *c,
                     int64_t tokens, float *q, float *k, const float *v, const float *cos,
                     const float *sin, float *keys, float *values, float *out)
{
    const path *p = path_of(path_number);
    const int64_t n = c->size, half = n / 2, each = c->heads + c->kv_heads;
    const int64_t end = c->length + tokens;
    const int64_t from = c->window && end > c->window ? end - c->window : 0;
    arena a = {scratch, room, 0};
    float *scores = take(&a, (size_t)(c->heads * (end - from) * 4));
    if (a.used > room)
        return a.used;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for
        for (int64_t i = 0; i < tokens * each; i++) {
            const int64_t t = i / each, head = i % each, kv = head - c->heads;
            float *x = kv < 0 ? q + (t * c->heads + head) * n : k + (t * c->kv_heads + kv) * n;
            const float *gain = kv < 0 ? c->q_gain : c->k_gain;
            if (gain)
                p->norm(x, gain, c->epsilon, n, x);
            p->rotate(x, cos + t * half, sin + t * half, half);
            if (kv >= 0) {
                const int64_t place = kv * c->stride + (c->length + t) * n;
                memcpy(keys + place, x, (size_t)n * 4);
                memcpy(values + place, v + (t * c->kv_heads + kv) * n, (size_t)n * 4);
            }
        }
        if (tokens == 1) {
            const int64_t group = c->heads / c->kv_heads;
            const int64_t most = threads > c->kv_heads ? TOGETHER / 2 : TOGETHER;
            const int64_t parts = (group + most - 1) / most;
#pragma omp for schedule(dynamic)
            for (int64_t i = 0; i < c->kv_heads * parts; i++) {
                const int64_t first = i % parts * most, head = i / parts * group + first;
                const int64_t count = group - first < most ? group - first : most;
                const int64_t place = i / parts * c->stride + from * n;
                p->attend(q + head * n, count, keys + place, values + place, end - from, n,
                          scores + head * (end - from), out + head * n);
            }
        }
    }
    return a.used;
}

/* Rows `ids` of an encoded matrix as floats: [count][columns]. */
void engine_rows(int path_number, const matrix *m, const int64_t *ids, int64_t count, float *to)
{
    for (int64_t i = 0; i < count; i++)
        path_of(path_number)->to_floats((int)m->type, m->data + ids[i] * row_bytes(m), m->columns,
                                        to + i * m->columns);
}

/* The weights of a layer; biases and router may be NULL. */
typedef struct {
    const float *attn_norm, *ffn_norm, *bias[3], *router;
    matrix projection[3], output, gate, up, down;
    attention attention;
    int64_t experts, used;
} layer;

/* One token through all layers: x [hidden] is the residual stream, made [hidden] what the last block
 * adds to it; both are changed. A layer has `layer_stride` floats of keys and of values. */
size_t engine_layers(void *scratch, size_t room, int path_number, int threads, const layer *layers,
                     int64_t count, int64_t length, int64_t stride, int64_t layer_stride, float *x,
                     float *made, const float *cos, const float *sin, float *keys, float *values)
{
    const int64_t hidden = layers[0].output.rows, wide = layers[0].output.columns;
    const int64_t narrow = layers[0].projection[1].rows;
    arena a = {scratch, room, 0};
    float *normed = take(&a, (size_t)hidden * 4), *mixed = take(&a, (size_t)wide * 4);
    float *projected[3];
    for (int i = 0; i < 3; i++)
        projected[i] = take(&a, (size_t)(i ? narrow : wide) * 4);
    uint8_t *rest = a.base + a.used;
    size_t left = a.used < room ? room - a.used : 0, most = 0;
    /* The first round has no room, so that each function only tells what it needs. */
    for (int64_t i = -count; i < count; i++) {
        const int dry = i < 0;
        const layer *l = layers + (dry ? i + count : i);
        attention c = l->attention;
        c.length = length;
        c.stride = stride;
        if (i == 0 && most > left)
            break;
        const size_t own = dry ? 0 : left;
        size_t needs[4];
        if (!dry)
            engine_norm(path_number, 1, x, made, l->attn_norm, c.epsilon, 1, hidden, x, normed);
        needs[0] = engine_linear(rest, own, path_number, threads, 3, l->projection, normed, 1, projected);
        for (int part = 0; !dry && part < 3; part++)
            for (int64_t j = 0; l->bias[part] && j < (part ? narrow : wide); j++)
                projected[part][j] += l->bias[part][j];
        needs[1] = engine_attend(rest, own, path_number, threads, &c, 1, projected[0], projected[1],
                                 projected[2], cos, sin, keys + (l - layers) * layer_stride,
                                 values + (l - layers) * layer_stride, mixed);
        needs[2] = engine_linear(rest, own, path_number, threads, 1, &l->output, mixed, 1, &made);
        if (!dry)
            engine_norm(path_number, 1, x, made, l->ffn_norm, c.epsilon, 1, hidden, x, normed);
        needs[3] = engine_experts(rest, own, path_number, threads, normed, 1, l->router,
                                  (int)l->experts, (int)l->used, &l->gate, &l->up, &l->down, made);
        for (int part = 0; dry && part < 4; part++)
            most = needs[part] > most ? needs[part] : most;
    }
    return a.used + most;
}
