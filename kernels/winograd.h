/* Convolution of 3x3 filters with stride 1 by Winograd's minimal filtering, F(4x4, 3x3), on NHWC float32.
 *
 * An output tile of 4x4 needs an input tile of 6x6. With the matrices of winograd_kernels.h (Toom-Cook at the points 0, +-5/8,
 * +-3/2 and infinity, which round half as badly as 0, +-1, +-2) and for each of 36 "frequencies" f a matrix product:
 *
 *     forward, data gradient:  Y = At [ sum over c of (G g Gt)[f] . (Bt d B)[f] ] A      36 products for 144
 *     weight gradient:         dg = Gt [ sum over tiles of (A dy At)[f] . (Bt d B)[f] ] G
 *
 * winograd.c has the blocking and the threads; winograd_kernels.h the loops, compiled once for each instruction set and
 * gathered in a PapaWinogradUnit. Channels go in groups of 16, so both counts must be multiples of it. Results don't depend
 * on the number of threads. */
#ifndef PAPA_WINOGRAD_H
#define PAPA_WINOGRAD_H

#include "device/device.h"
#include "kernels/conv.h"

enum { PAPA_WINOGRAD_GROUP = 16, PAPA_WINOGRAD_FREQUENCIES = 36 };

/* A map (N, H, W, C), dense NHWC, covered by tiles: tile t = (n * tiles_down + i) * tiles_across + j starts at row
 * 4 i - top, column 4 j - left. */
typedef struct PapaWinogradMap {
    int64_t N, H, W, C;
    int64_t tiles_down, tiles_across;
    int64_t top, left; /* padding; 0 for the side that has the 4x4 tiles */
} PapaWinogradMap;

/* Transformed tiles: element (f, c, t) of C channels and any number of tiles stands at
 * f * frequency + (c / 16) * group + t * 16 + c % 16. Both strides are multiples of 16. */
typedef struct PapaWinogradTiles {
    float *data;
    int64_t frequency, group;
} PapaWinogradTiles;

/* The loops for one instruction set. */
typedef struct PapaWinogradUnit {
    const char *name;
    /* Register tiles of the product: output channels and tiles at once; widest first, the last is 16 wide. */
    struct {
        int64_t width, rows;
    } shapes[3];

    /* Tiles [first, first + count) of x, 6x6 pixels each, into rows [0, count) of v. Tiles beyond the map's last repeat
     * that one. zeros: map->C of them. */
    void (*transform_input)(const PapaWinogradMap *map, const float *x, int64_t first, int64_t count, PapaWinogradTiles v,
        const float *zeros);

    /* The same of dy, 4x4 pixels each; all the tiles exist. */
    void (*transform_gradient)(const PapaWinogradMap *map, const float *dy, int64_t first, int64_t count, PapaWinogradTiles z,
        const float *zeros);

    /* u[f * frequency + (panel * n_rows + row) * width + column % width], panel = column / width, = transformed 3x3 filter at
     * w + row * row_stride + column * column_stride (turned by 180 degrees if rotate), for rows [first, last), all columns. */
    void (*transform_filter)(float *u, int64_t frequency, int64_t width, const float *w, int64_t row_stride, int64_t column_stride,
        bool rotate, int64_t first, int64_t last, int64_t n_rows, int64_t n_columns);

    /* One frequency: m[t][k] = sum over c < C of v[t][c] u[c][k], for t in [0, count), count a multiple of width's rows. */
    void (*multiply)(float *m, int64_t m_group, const float *v, int64_t v_group, const float *u, int64_t width, int64_t count,
        int64_t C, int64_t K);

    /* Tiles [first, first + count) of y = (what was there, if accumulate) + bias (may be NULL) + transformed m, or max(0, that). */
    void (*transform_output)(const PapaWinogradMap *map, float *y, int64_t first, int64_t count, PapaWinogradTiles m, const float *bias,
        bool relu, bool accumulate);

    /* One frequency: d[row * columns + column] (+)= sum over t < count of z[t][row] v[t][column]. rows, columns: multiples of 16. */
    void (*correlate)(float *d, const float *z, int64_t z_group, const float *v, int64_t v_group, int64_t rows, int64_t columns,
        int64_t count, bool accumulate);

    /* dw[(row * columns + column) * 9 + tap] (+)= transformed sum of n_parts parts of d, part and frequency strides apart. */
    void (*transform_filter_gradient)(float *dw, const float *d, int64_t frequency, int64_t part, int64_t n_parts, int64_t rows,
        int64_t columns, bool accumulate);
} PapaWinogradUnit;

/* The best unit for this processor; NULL if oneDNN would be faster. */
const PapaWinogradUnit *papa_winograd_unit(void);

/* All units that this processor can run, for the tests; ends with NULL. */
const PapaWinogradUnit *const *papa_winograd_units(void);

/* How one pass over one shape is done. */
typedef struct PapaWinograd {
    const PapaWinogradUnit *unit;
    PapaConvPass pass;
    PapaWinogradMap in, out;     /* FWD: x, y; BWD_DATA: dy, dx; BWD_WEIGHTS: x, dy */
    int64_t n_tiles, block;      /* tiles in all; tiles that are transformed and multiplied at a time */
    int64_t width, rows;         /* the product's shape */
    int64_t n_shards, slice;     /* BWD_WEIGHTS: partial sums, or (n_shards = 0) rows of dw at a time */
    int64_t n_slots;             /* threads, each with scratch memory of its own */
    int64_t filter_frequency;    /* floats between the frequencies of the transformed filters or their gradient */
    size_t shared, slot, zeros;  /* floats: what all threads share, what each has, zeros behind all */
} PapaWinograd;

/* True if this pass can be done; then *out says how. unit: one of papa_winograd_units. */
bool papa_winograd_plan(PapaWinograd *out, const PapaConvDesc *desc, PapaConvPass pass, int n_threads, const PapaWinogradUnit *unit);

/* True if it is expected to be faster than direct convolution. */
bool papa_winograd_pays(const PapaWinograd *plan);

/* Bytes of workspace, aligned to 64 bytes. */
size_t papa_winograd_workspace(const PapaWinograd *plan);

/* FWD: y = conv(x, w) + b, then max(0, .) if relu; BWD_DATA: y is dx, x is dy. b may be NULL. */
void papa_winograd_conv(PapaDevice *dev, const PapaWinograd *plan, float *y, const float *x, const float *w, const float *b, bool relu,
    bool accumulate, void *workspace);

void papa_winograd_bwd_weights(PapaDevice *dev, const PapaWinograd *plan, float *dw, const float *x, const float *dy, bool accumulate,
    void *workspace);

#endif
