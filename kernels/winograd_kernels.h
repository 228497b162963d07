/* The inner loops of winograd.h for one instruction set. Included once by each winograd_<set>.c, which defines
 *
 *     VECTOR_BYTES   the vector register: 64, 32 or 16
 *     UNIT           the PapaWinogradUnit to define, and UNIT_NAME its name
 *
 * and is compiled for that set: vectors wider than the machine's would be taken to pieces badly. Plain C on GCC's vector types. */
#include "kernels/winograd.h"

#include <string.h>

#define GROUP PAPA_WINOGRAD_GROUP
#define LANES (VECTOR_BYTES / 4)
#define PER_GROUP (GROUP / LANES) /* vectors in a group of channels */
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 36")

typedef float Vec __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef float LooseVec __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(VECTOR_BYTES), may_alias));

INLINE Vec load(const float *p) /* anywhere */
{
    return *(const LooseVec *)p;
}

INLINE void store(float *p, Vec v)
{
    *(LooseVec *)p = v;
}

/* ---------------------------------------------------------------- transforms in one dimension
 * With the points 0, +-P, +-Q, infinity. Elements of a column of a matrix are `step` vectors apart. */

#define P 0.625f
#define Q 1.5f
#define P2 (P * P)
#define Q2 (Q * Q)
#define P3 (P2 * P)
#define Q3 (Q2 * Q)
#define AT_0 (1 / (P2 * Q2))              /* 1 / product of the differences to the other finite points */
#define AT_P (1 / (2 * P2 * (P2 - Q2)))
#define AT_Q (1 / (2 * Q2 * (Q2 - P2)))

/* Bt: 6 inputs to 6 points. Row i holds the coefficients of the product of (x - the other points). */
INLINE void input_1d(Vec *out, int out_step, const Vec *d)
{
    Vec even_p = d[4] - Q2 * d[2], odd_p = P * (d[3] - Q2 * d[1]);
    Vec even_q = d[4] - P2 * d[2], odd_q = Q * (d[3] - P2 * d[1]);
    out[0] = P2 * Q2 * d[0] + (d[4] - (P2 + Q2) * d[2]);
    out[out_step] = even_p + odd_p;
    out[2 * out_step] = even_p - odd_p;
    out[3 * out_step] = even_q + odd_q;
    out[4 * out_step] = even_q - odd_q;
    out[5 * out_step] = P2 * Q2 * d[1] + (d[5] - (P2 + Q2) * d[3]);
}

/* At: 6 points to 4 outputs. Column i holds the powers of point i. */
INLINE void output_1d(Vec *out, int out_step, const Vec *d)
{
    Vec sum_p = d[1] + d[2], diff_p = d[1] - d[2], sum_q = d[3] + d[4], diff_q = d[3] - d[4];
    out[0] = d[0] + (sum_p + sum_q);
    out[out_step] = P * diff_p + Q * diff_q;
    out[2 * out_step] = P2 * sum_p + Q2 * sum_q;
    out[3 * out_step] = P3 * diff_p + (Q3 * diff_q + d[5]);
}

/* A: 4 outputs' gradients to 6 points. */
INLINE void gradient_1d(Vec *out, int out_step, const Vec *d)
{
    Vec even_p = d[0] + P2 * d[2], odd_p = P * d[1] + P3 * d[3], even_q = d[0] + Q2 * d[2], odd_q = Q * d[1] + Q3 * d[3];
    out[0] = d[0];
    out[out_step] = even_p + odd_p;
    out[2 * out_step] = even_p - odd_p;
    out[3 * out_step] = even_q + odd_q;
    out[4 * out_step] = even_q - odd_q;
    out[5 * out_step] = d[3];
}

/* G: 3 taps to 6 points. */
INLINE void filter_1d(Vec *out, int out_step, const Vec *d)
{
    Vec even_p = AT_P * d[0] + (AT_P * P2) * d[2], odd_p = (AT_P * P) * d[1];
    Vec even_q = AT_Q * d[0] + (AT_Q * Q2) * d[2], odd_q = (AT_Q * Q) * d[1];
    out[0] = AT_0 * d[0];
    out[out_step] = even_p + odd_p;
    out[2 * out_step] = even_p - odd_p;
    out[3 * out_step] = even_q + odd_q;
    out[4 * out_step] = even_q - odd_q;
    out[5 * out_step] = d[2];
}

/* Gt: 6 points to the gradients of 3 taps. */
INLINE void filter_gradient_1d(Vec *out, int out_step, const Vec *d)
{
    Vec sum_p = d[1] + d[2], diff_p = d[1] - d[2], sum_q = d[3] + d[4], diff_q = d[3] - d[4];
    out[0] = AT_0 * d[0] + (AT_P * sum_p + AT_Q * sum_q);
    out[out_step] = (AT_P * P) * diff_p + (AT_Q * Q) * diff_q;
    out[2 * out_step] = (AT_P * P2) * sum_p + ((AT_Q * Q2) * sum_q + d[5]);
}

/* ---------------------------------------------------------------- tiles in and out */

typedef struct Spot {
    int64_t image, row, column; /* of a tile's first pixel */
} Spot;

INLINE Spot spot_of(const PapaWinogradMap *map, int64_t tile)
{
    int64_t per_image = map->tiles_down * map->tiles_across, rest = tile % per_image;
    return (Spot){tile / per_image, rest / map->tiles_across * 4 - map->top, rest % map->tiles_across * 4 - map->left};
}

INLINE int64_t offset_of(const PapaWinogradMap *map, Spot s)
{
    return ((s.image * map->H + s.row) * map->W + s.column) * map->C;
}

/* Asks for the 4x4 pixels that no earlier tile has read: tiles jump through memory too far for the hardware to foresee. */
INLINE void prefetch_tile(const PapaWinogradMap *map, const float *x, int64_t tile)
{
    if (tile >= map->N * map->tiles_down * map->tiles_across)
        return;
    Spot s = spot_of(map, tile);
    int64_t row = s.row < 0 ? 0 : s.row, column = s.column < 0 ? 0 : s.column;
    int64_t last_row = s.row + 4 < map->H ? s.row + 4 : map->H, last_column = s.column + 4 < map->W ? s.column + 4 : map->W;
    for (; row < last_row; row++) {
        const float *first = x + offset_of(map, (Spot){s.image, row, column});
        for (int64_t i = 0; i < (last_column - column) * map->C; i += 16)
            __builtin_prefetch(first + i, 0, 2);
    }
}

/* out = forward transform of size x size pixels. inside: they lie `row` and `C` floats apart from corner on; else pixel
 * says where each is. */
INLINE void transform_tile(const int size, const bool inside, const float *corner, int64_t row, const float *const *pixel, int64_t C,
    PapaWinogradTiles out)
{
    for (int64_t c = 0; c < C; c += LANES) {
        Vec half[36], d[6], points[6];
        UNROLL for (int j = 0; j < size; j++) {
            UNROLL for (int i = 0; i < size; i++)
                d[i] = load((inside ? corner + i * row + j * C : pixel[i * size + j]) + c);
            if (size == 6)
                input_1d(half + j, size, d);
            else
                gradient_1d(half + j, size, d);
        }
        float *to = out.data + c / GROUP * out.group + c % GROUP;
        UNROLL for (int i = 0; i < 6; i++) {
            if (size == 6)
                input_1d(points, 1, half + i * size);
            else
                gradient_1d(points, 1, half + i * size);
            UNROLL for (int j = 0; j < 6; j++)
                *(Vec *)(to + (i * 6 + j) * out.frequency) = points[j];
        }
    }
}

INLINE void transform_tiles(const int size, const PapaWinogradMap *map, const float *x, int64_t first, int64_t count,
    PapaWinogradTiles out, const float *zeros)
{
    const int64_t ahead = 8, n_tiles = map->N * map->tiles_down * map->tiles_across;
    for (int64_t t = 0; t < count; t++, out.data += GROUP) {
        Spot s = spot_of(map, first + t < n_tiles ? first + t : n_tiles - 1);
        int64_t corner = offset_of(map, s), row = map->W * map->C; /* corner may lie outside x */
        prefetch_tile(map, x, first + t + ahead);
        if (s.row >= 0 && s.column >= 0 && s.row + size <= map->H && s.column + size <= map->W) {
            transform_tile(size, true, x + corner, row, NULL, map->C, out);
            continue;
        }
        const float *pixel[36];
        for (int i = 0; i < size; i++)
            for (int j = 0; j < size; j++) {
                bool exists = s.row + i >= 0 && s.row + i < map->H && s.column + j >= 0 && s.column + j < map->W;
                pixel[i * size + j] = exists ? x + (corner + i * row + j * map->C) : zeros;
            }
        transform_tile(size, false, NULL, 0, pixel, map->C, out);
    }
}

static void transform_input(const PapaWinogradMap *map, const float *x, int64_t first, int64_t count, PapaWinogradTiles v,
    const float *zeros)
{
    transform_tiles(6, map, x, first, count, v, zeros);
}

static void transform_gradient(const PapaWinogradMap *map, const float *dy, int64_t first, int64_t count, PapaWinogradTiles z,
    const float *zeros)
{
    transform_tiles(4, map, dy, first, count, z, zeros);
}

/* One vector of channels of one tile: at m, 36 frequencies apart, to 16 pixels. */
INLINE void invert_tile(Vec y[16], const float *m, int64_t frequency, Vec bias, bool relu)
{
    Vec half[24], d[6];
    UNROLL for (int j = 0; j < 6; j++) {
        UNROLL for (int i = 0; i < 6; i++)
            d[i] = *(const Vec *)(m + (i * 6 + j) * frequency);
        output_1d(half + j, 6, d);
    }
    UNROLL for (int i = 0; i < 4; i++)
        output_1d(y + i * 4, 1, half + i * 6);
    UNROLL for (int i = 0; i < 16; i++) {
        y[i] += bias;
        if (relu) /* a NaN stays one */
            y[i] = (Vec)((Mask)y[i] & ~(Mask)(y[i] < 0));
    }
}

INLINE void write_tiles(const bool relu, const bool accumulate, const PapaWinogradMap *map, float *y, int64_t first, int64_t count,
    PapaWinogradTiles m, const float *bias)
{
    int64_t row = map->W * map->C;
    for (int64_t t = 0; t < count; t++, m.data += GROUP) {
        Spot s = spot_of(map, first + t);
        float *corner = y + offset_of(map, s);
        int64_t height = map->H - s.row < 4 ? map->H - s.row : 4, width = map->W - s.column < 4 ? map->W - s.column : 4;
        for (int64_t c = 0; c < map->C; c += LANES) {
            Vec tile[16];
            invert_tile(tile, m.data + c / GROUP * m.group + c % GROUP, m.frequency, bias ? load(bias + c) : (Vec){0}, relu);
            if (height == 4 && width == 4) {
                UNROLL for (int i = 0; i < 16; i++) {
                    float *to = corner + i / 4 * row + i % 4 * map->C + c;
                    if (accumulate)
                        tile[i] += load(to);
                    store(to, tile[i]);
                }
                continue;
            }
            for (int i = 0; i < height; i++)
                for (int j = 0; j < width; j++) {
                    float *to = corner + i * row + j * map->C + c;
                    if (accumulate)
                        tile[i * 4 + j] += load(to);
                    store(to, tile[i * 4 + j]);
                }
        }
    }
}

static void transform_output(const PapaWinogradMap *map, float *y, int64_t first, int64_t count, PapaWinogradTiles m, const float *bias,
    bool relu, bool accumulate)
{
    if (accumulate) /* only gradients are, and they have no ReLU */
        write_tiles(false, true, map, y, first, count, m, bias);
    else if (relu)
        write_tiles(true, false, map, y, first, count, m, bias);
    else
        write_tiles(false, false, map, y, first, count, m, bias);
}

/* ---------------------------------------------------------------- filters */

static void transform_filter(float *u, int64_t frequency, int64_t width, const float *w, int64_t row_stride, int64_t column_stride,
    bool rotate, int64_t first, int64_t last, int64_t n_rows, int64_t n_columns)
{
    for (int64_t panel = 0; panel < n_columns; panel += width, u += n_rows * width) /* in the order in which u is written */
        for (int64_t r = first; r < last; r++)
            for (int64_t c = 0; c < width; c += LANES) {
                float taps[9][LANES] __attribute__((aligned(VECTOR_BYTES)));
                const float *from = w + r * row_stride + (panel + c) * column_stride;
                for (int lane = 0; lane < LANES; lane++, from += column_stride)
                    for (int i = 0; i < 9; i++)
                        taps[i][lane] = from[rotate ? 8 - i : i];
                Vec half[18], d[3], points[6];
                UNROLL for (int j = 0; j < 3; j++) {
                    UNROLL for (int i = 0; i < 3; i++)
                        d[i] = *(const Vec *)taps[i * 3 + j];
                    filter_1d(half + j, 3, d);
                }
                float *to = u + r * width + c;
                UNROLL for (int i = 0; i < 6; i++) {
                    filter_1d(points, 1, half + i * 3);
                    UNROLL for (int j = 0; j < 6; j++)
                        *(Vec *)(to + (i * 6 + j) * frequency) = points[j];
                }
            }
}

static void transform_filter_gradient(float *dw, const float *d, int64_t frequency, int64_t part, int64_t n_parts, int64_t rows,
    int64_t columns, bool accumulate)
{
    for (int64_t at = 0; at < rows * columns; at += LANES) {
        Vec half[18], points[6], taps[9];
        UNROLL for (int j = 0; j < 6; j++) {
            UNROLL for (int i = 0; i < 6; i++) {
                const float *from = d + (i * 6 + j) * frequency + at;
                points[i] = *(const Vec *)from;
                for (int64_t p = 1; p < n_parts; p++)
                    points[i] += *(const Vec *)(from + p * part);
            }
            filter_gradient_1d(half + j, 6, points);
        }
        UNROLL for (int i = 0; i < 3; i++)
            filter_gradient_1d(taps + i * 3, 1, half + i * 6);
        float *to = dw + at * 9;
        for (int lane = 0; lane < LANES; lane++, to += 9)
            for (int i = 0; i < 9; i++)
                to[i] = accumulate ? to[i] + taps[i][lane] : taps[i][lane];
    }
}

/* ---------------------------------------------------------------- products, from registers
 * rows x vectors accumulators; `vectors` vectors of one operand are held, elements of the other are broadcast from memory. */

INLINE void multiply_tile(const int rows, const int vectors, float *m, int64_t m_group, const float *v, int64_t v_group, const float *u,
    int64_t C)
{
    Vec sum[28];
    UNROLL for (int i = 0; i < rows * vectors; i++)
        sum[i] = (Vec){0};
    for (int64_t c = 0; c < C; c += GROUP, v += v_group) {
        _Pragma("GCC unroll 2") for (int k = 0; k < GROUP; k++, u += vectors * LANES) {
            Vec held[4];
            UNROLL for (int j = 0; j < vectors; j++)
                held[j] = *(const Vec *)(u + j * LANES);
            UNROLL for (int i = 0; i < rows; i++) {
                float factor = v[i * GROUP + k];
                UNROLL for (int j = 0; j < vectors; j++)
                    sum[i * vectors + j] += factor * held[j];
            }
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++)
            *(Vec *)(m + j / PER_GROUP * m_group + i * GROUP + j % PER_GROUP * LANES) = sum[i * vectors + j];
}

INLINE void multiply_panels(const int rows, const int vectors, float *m, int64_t m_group, const float *v, int64_t v_group, const float *u,
    int64_t count, int64_t C, int64_t K)
{
    const int64_t width = vectors * LANES;
    for (int64_t k = 0; k < K; k += width, u += C * width)
        for (int64_t t = 0; t < count; t += rows)
            multiply_tile(rows, vectors, m + k / GROUP * m_group + t * GROUP, m_group, v + t * GROUP, v_group, u, C);
}

static void multiply(float *m, int64_t m_group, const float *v, int64_t v_group, const float *u, int64_t width, int64_t count, int64_t C,
    int64_t K)
{
#if VECTOR_BYTES == 64
    if (width == 64)
        multiply_panels(6, 4, m, m_group, v, v_group, u, count, C, K);
    else if (width == 32)
        multiply_panels(14, 2, m, m_group, v, v_group, u, count, C, K);
    else
        multiply_panels(14, 1, m, m_group, v, v_group, u, count, C, K);
#else
    (void)width;
    multiply_panels(VECTOR_BYTES == 32 ? 6 : 4, PER_GROUP, m, m_group, v, v_group, u, count, C, K);
#endif
}

INLINE void correlate_tile(const int rows, const int vectors, float *d, int64_t columns, const float *z, const float *v, int64_t v_group,
    int64_t count, bool accumulate)
{
    Vec sum[16];
    UNROLL for (int i = 0; i < rows * vectors; i++)
        sum[i] = (Vec){0};
    _Pragma("GCC unroll 2") for (int64_t t = 0; t < count; t++, z += GROUP, v += GROUP) {
        Vec held[4];
        UNROLL for (int j = 0; j < vectors; j++)
            held[j] = *(const Vec *)(v + j / PER_GROUP * v_group + j % PER_GROUP * LANES);
        UNROLL for (int i = 0; i < rows; i++) {
            float factor = z[i];
            UNROLL for (int j = 0; j < vectors; j++)
                sum[i * vectors + j] += factor * held[j];
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < vectors; j++) {
            Vec *to = (Vec *)(d + i * columns + j * LANES);
            if (accumulate)
                sum[i * vectors + j] += *to;
            *to = sum[i * vectors + j];
        }
}

static void correlate(float *d, const float *z, int64_t z_group, const float *v, int64_t v_group, int64_t rows, int64_t columns,
    int64_t count, bool accumulate)
{
    int64_t column = 0;
#if VECTOR_BYTES == 64
    for (; column + 2 * GROUP <= columns; column += 2 * GROUP)
        for (int64_t row = 0; row < rows; row += 8)
            correlate_tile(8, 2, d + row * columns + column, columns, z + row / GROUP * z_group + row % GROUP, v + column / GROUP * v_group,
                v_group, count, accumulate);
#endif
    enum { ROWS = PER_GROUP == 1 ? 16 : 4 };
    for (; column < columns; column += GROUP)
        for (int64_t row = 0; row < rows; row += ROWS)
            correlate_tile(ROWS, PER_GROUP, d + row * columns + column, columns, z + row / GROUP * z_group + row % GROUP,
                v + column / GROUP * v_group, v_group, count, accumulate);
}

const PapaWinogradUnit UNIT = {
    .name = UNIT_NAME,
#if VECTOR_BYTES == 64
    .shapes = {{64, 6}, {32, 14}, {16, 14}},
#else
    .shapes = {{16, VECTOR_BYTES == 32 ? 6 : 4}},
#endif
    .transform_input = transform_input,
    .transform_gradient = transform_gradient,
    .transform_filter = transform_filter,
    .multiply = multiply,
    .transform_output = transform_output,
    .correlate = correlate,
    .transform_filter_gradient = transform_filter_gradient,
};
