/* The arithmetic of merging: blocks of elements in double, one row per model. Knows numbers only.
 *
 * A row has PAPA_MERGE_BLOCK elements, of which the first `count` are used. `to` is none of the rows. Results don't depend on the
 * machine's instruction set: these files are compiled without fused multiply-add (CMakeLists.txt). */
#ifndef PAPA_MERGE_MATH_H
#define PAPA_MERGE_MATH_H

#include <stdbool.h>
#include <stdint.h>

#define PAPA_MERGE_BLOCK 512 /* three rows and their sums lie in a first-level cache */

typedef enum PapaMergeTrim {
    PAPA_TRIM_NONE,
    PAPA_TRIM_MAGNITUDE, /* keeps differences of at least a threshold's size (TIES) */
    PAPA_TRIM_RANDOM,    /* keeps some at random, and scales them up (DARE) */
} PapaMergeTrim;

/* to[i] = (1/n) sum_k rows[k][i], of the exact sum, whatever cancels or overflows. to_odd: rounded to odd, so that the next rounding, to
 * float or a narrower type, gives the correctly rounded mean (onnx/half.h); else to nearest, within one unit in the last place
 * of double. Where all elements agree the mean is their value, negative zero included; NaN and infinite as in a sum of doubles
 * that can't overflow. n <= 65536. */
void papa_merge_exact_mean(double *to, const double *const *rows, int n, int64_t count, bool to_odd);

/* The same of floats, which may lie at any address, rounded to nearest. A few times as fast. False where doubles don't hold the sums, as those of numbers
 * of very different sizes, or something is infinite or NaN: then nothing has been written. 2 <= n <= 65536. */
bool papa_merge_float_mean(float *to, const void *const *rows, int n, int64_t count);

/* The same in double, for rows that came from FLOAT16 or BFLOAT16: rounded so that the next rounding, to these types, gives the correctly rounded mean. */
bool papa_merge_narrow_mean(double *to, const void *const *rows, int n, int64_t count);

/* to[i] = sum_k weights[k] rows[k][i], in double, from k = 0 on. is_mean: the weights sum to 1 (up to rounding); then where all rows
 * agree the result is their value, bit for bit. Rows of weight 0 are not looked at. */
void papa_merge_weighted(double *to, const double *const *rows, const double *weights, int n, int64_t count, bool is_mean);

/* row[i] -= base[i] */
void papa_merge_subtract(double *row, const double *base, int64_t count);

/* row[i] = |row[i]| >= threshold ? row[i] : 0 */
void papa_merge_trim(double *row, double threshold, int64_t count);

/* row[i] = kept(i) ? row[i] / density : 0; kept with probability density, by random number `first + i` of the stream that is named by
 * seed, model and tensor (a hash of its name): papa_rng with use PAPA_RNG_MERGE. first is a multiple of 4. */
void papa_merge_drop(double *row, double density, uint64_t seed, int model, uint32_t tensor, int64_t first, int64_t count);

/* to[i] = base[i] + scale * sum_k weights[k] d_k[i] of differences d_k = deltas[k]. */
void papa_merge_add(double *to, const double *base, const double *const *deltas, const double *weights, double scale, int n, int64_t count);

/* The same with signs elected: s = sign(sum_k weights[k] d_k[i]); the sum goes over the k whose weights[k] d_k[i] has this sign, and is
 * divided by the sum of |weights[k]| over those. Where s = 0, to[i] = base[i]. */
void papa_merge_elect(double *to, const double *base, const double *const *deltas, const double *weights, double scale, int n, int64_t count);

/* The sum of a[i] b[i]. */
double papa_merge_dot(const double *a, const double *b, int64_t count);

#endif
