/* The exact mean. A sum of doubles is kept as an unevaluated pair, sum + rest, by error-free additions (Knuth 1969). Where even the
 * rest would be rounded, or something overflows, the element is summed again in fixed point, with all bits that doubles have. */
#include "base/simd.h"
#include "soup/merge_math.h"

#include <math.h>
#include <string.h>

#define BLOCK PAPA_MERGE_BLOCK

/* ---------------------------------------------------------------- fixed point */

#define UNIT_EXPONENT (-1074) /* the lowest bit that a double has */
#define WORDS 68              /* of 32 bits: 1074 + 1024 bits, 16 for the number of terms, and the sign */

typedef struct Fixed {
    int64_t words[WORDS]; /* lowest first, each with room above for sums of 2^31 words */
} Fixed;

static void fixed_add(Fixed *sum, double value)
{
    int exponent;
    int64_t mantissa = (int64_t)ldexp(frexp(fabs(value), &exponent), 53);
    int shift = exponent - 53 - UNIT_EXPONENT;
    if (shift < 0) /* subnormal: its low bits are zeros */
        mantissa >>= -shift, shift = 0;
    unsigned __int128 bits = (unsigned __int128)(uint64_t)mantissa << shift % 32;
    for (int i = shift / 32; bits; i++, bits >>= 32)
        sum->words[i] += value < 0 ? -(int64_t)(uint32_t)bits : (int64_t)(uint32_t)bits;
}

/* Brings all words to 32 bits. True if the number is negative; it is then made positive. */
static bool fixed_normalise(Fixed *sum)
{
    bool negative = false;
    for (int pass = 0; pass < 2; pass++) {
        int64_t carry = 0;
        for (int i = 0; i < WORDS; i++) {
            int64_t word = sum->words[i] + carry;
            carry = word >> 32; /* rounds down, for negative ones too */
            sum->words[i] = word & 0xffffffff;
        }
        if (!carry)
            break;
        negative = true;
        for (int i = 0; i < WORDS; i++)
            sum->words[i] = -sum->words[i];
        sum->words[WORDS - 1] -= carry * ((int64_t)1 << 32);
    }
    return negative;
}

/* The number divided by n, as a double. */
static double fixed_divide(Fixed *sum, uint32_t n, bool to_odd)
{
    uint64_t rest = 0, top = 0;
    int high = -1;
    for (int i = WORDS - 1; i >= 0; i--) {
        rest = rest << 32 | (uint64_t)sum->words[i];
        sum->words[i] = (int64_t)(rest / n);
        rest %= n;
        if (high < 0 && sum->words[i])
            high = i;
    }
    if (high < 0)
        return rest && to_odd ? 0x1p-1074 : 0;
    /* The highest 64 bits; the lowest of them stands for all that follow. */
    int leading = high * 32 + 31 - __builtin_clz((unsigned)sum->words[high]), low = leading - 63;
    for (int bit = leading; bit >= low && bit >= 0; bit--)
        top = top << 1 | ((uint64_t)sum->words[bit / 32] >> bit % 32 & 1);
    bool inexact = rest != 0;
    for (int bit = low - 1; bit >= 0 && !inexact; bit--)
        inexact = (uint64_t)sum->words[bit / 32] >> bit % 32 & 1;
    if (low < 0) /* next to nothing, for double itself */
        return ldexp((double)top, UNIT_EXPONENT);
    top |= inexact;
    if (to_odd)
        top = (top >> 11 | ((top & 0x7ff) != 0)) << 11;
    return ldexp((double)top, UNIT_EXPONENT + low);
}

/* The mean of rows[k][i], by all means. */
static double fixed_mean(const double *const *rows, int n, int64_t i, bool to_odd)
{
    Fixed sum = {{0}};
    double special = 0;
    for (int k = 0; k < n; k++) {
        double value = rows[k][i];
        if (isfinite(value))
            fixed_add(&sum, value);
        else
            special += value; /* infinities of both signs make NaN */
    }
    if (special != 0)
        return special;
    bool negative = fixed_normalise(&sum);
    double mean = fixed_divide(&sum, (uint32_t)n, to_odd);
    return negative ? -mean : mean;
}

/* ---------------------------------------------------------------- pairs of doubles */

#define LEAST 0x1p-900 /* below, remainders may have bits that doubles have not */

typedef struct Sums {
    double sum[BLOCK], rest[BLOCK]; /* the exact sum is theirs, unless ... */
    double lost[BLOCK];             /* ... this is not 0 */
} Sums;

/* a + b = *sum + the result, exactly. */
static inline double two_sum(double *sum, double a, double b)
{
    double s = a + b, of_b = s - a, of_a = s - of_b;
    *sum = s;
    return (a - of_a) + (b - of_b);
}

PAPA_SIMD static void begin_sums(Sums *restrict sums, const double *restrict x, const double *restrict y, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        sums->rest[i] = two_sum(&sums->sum[i], x[i], y[i]);
        sums->lost[i] = 0;
    }
}

PAPA_SIMD static void add_row(Sums *restrict sums, const double *restrict x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        double error = two_sum(&sums->sum[i], sums->sum[i], x[i]);
        sums->lost[i] += fabs(two_sum(&sums->rest[i], sums->rest[i], error));
    }
}

/* Whether the divisions below may be trusted with a sum. Not where nearly all of it cancelled, so that the rest is no longer small;
 * nor where it is infinite or NaN, which makes the rest NaN. */
static inline bool is_usual(double sum, double rest, double lost)
{
    double size = fabs(sum);
    return lost == 0 && fabs(rest) <= size * 0x1p-40 && (size >= LEAST || size == 0);
}

/* (sum + rest) / n, rounded to odd at ODD_BITS bits: rounded to nearest at one bit less, and moved half a step to where what is
 * left lies. n times a number of so few bits is exact, and so is what it leaves of the sum. inverse: 1 / n, rounded. */
#define ODD_BITS 37
#define ODD_STEP ((uint64_t)1 << (53 - ODD_BITS))

static inline double quotient_to_odd(double sum, double rest, double n, double inverse)
{
    double near = sum * inverse;
    uint64_t bits;
    memcpy(&bits, &near, sizeof bits);
    bits = (bits + ODD_STEP) & ~(2 * ODD_STEP - 1);
    memcpy(&near, &bits, sizeof near);
    double left = (sum - near * n) + rest;
    uint64_t outward = (left > 0) == (near > 0) ? ODD_STEP : -ODD_STEP;
    bits += left != 0 ? outward : 0;
    memcpy(&near, &bits, sizeof near);
    return near;
}

/* True if all sums were usual. */
PAPA_SIMD static bool divide_to_odd(double *restrict to, Sums *restrict sums, int n, int64_t count)
{
    double terms = n, inverse = 1 / terms;
    uint64_t n_lost = 0;
    for (int64_t i = 0; i < count; i++) {
        double sum = sums->sum[i], rest = sums->rest[i];
        to[i] = quotient_to_odd(sum, rest, terms, inverse);
        bool usual = is_usual(sum, rest, sums->lost[i]);
        sums->lost[i] = usual ? 0 : 1;
        n_lost += !usual;
    }
    return n_lost == 0;
}

/* t - n q, exactly where q is about t / n: n times the halves of q has no rounding, and what is left of t is small. */
static inline double remainder_of(double t, double n, double q)
{
    uint64_t bits;
    double high;
    memcpy(&bits, &q, sizeof bits);
    bits &= ~(((uint64_t)1 << 27) - 1);
    memcpy(&high, &bits, sizeof high);
    return (t - high * n) - (q - high) * n;
}

/* (sum + rest) / n to nearest, but for the rounding of a correction. -0 stays: a correction of 0 is not added. */
PAPA_SIMD static bool divide_to_nearest(double *restrict to, Sums *restrict sums, int n, int64_t count)
{
    double terms = n, inverse = 1 / terms;
    uint64_t n_lost = 0;
    for (int64_t i = 0; i < count; i++) {
        double sum = sums->sum[i], rest = sums->rest[i], near = sum * inverse, left = remainder_of(sum, terms, near) + rest;
        to[i] = left == 0 ? near : near + left * inverse;
        bool usual = is_usual(sum, rest, sums->lost[i]);
        sums->lost[i] = usual ? 0 : 1;
        n_lost += !usual;
    }
    return n_lost == 0;
}

void papa_merge_exact_mean(double *to, const double *const *rows, int n, int64_t count, bool to_odd)
{
    Sums sums;
    if (n == 1) {
        memcpy(to, rows[0], (size_t)count * sizeof *to);
        return;
    }
    begin_sums(&sums, rows[0], rows[1], count);
    for (int k = 2; k < n; k++)
        add_row(&sums, rows[k], count);
    if ((to_odd ? divide_to_odd : divide_to_nearest)(to, &sums, n, count))
        return;
    for (int64_t i = 0; i < count; i++)
        if (sums.lost[i] != 0)
            to[i] = fixed_mean(rows, n, i, to_odd);
}

/* ---------------------------------------------------------------- floats */

/* Floats of exponents that lie close enough have exact sums in double. As patterns without the sign they are ordered by size. */
typedef struct FloatSums {
    double sum[BLOCK];
    uint32_t most[BLOCK], least[BLOCK]; /* patterns of the largest and the least element, less 1 so that zeros don't count */
} FloatSums;

#define INFINITE 0x7f800000u /* the pattern, and the least of those that are no numbers */

/* The i-th float at bytes that may be unaligned. */
#define ELEMENT(raw, i) (((const struct { float value; } __attribute__((packed, may_alias)) *)(raw))[i].value)

static inline uint32_t size_pattern(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & INT32_MAX;
}

static inline uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static inline uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

PAPA_SIMD static void begin_float_sums(FloatSums *restrict sums, const void *restrict x, const void *restrict y, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float a = ELEMENT(x, i), b = ELEMENT(y, i);
        uint32_t size_a = size_pattern(a), size_b = size_pattern(b);
        sums->sum[i] = (double)a + (double)b;
        sums->most[i] = larger(size_a, size_b);
        sums->least[i] = smaller(size_a - 1, size_b - 1);
    }
}

PAPA_SIMD static void add_float_row(FloatSums *restrict sums, const void *restrict x, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        float value = ELEMENT(x, i);
        uint32_t size = size_pattern(value);
        sums->sum[i] += (double)value;
        sums->most[i] = larger(sums->most[i], size);
        sums->least[i] = smaller(sums->least[i], size - 1);
    }
}

/* The spread of exponents that n floats may have: numbers below 2^(e + 1) that are multiples of 2^(f - 23) have exact sums where
 * n 2^(e + 1) <= 2^53 2^(f - 23). */
static uint32_t widest_spread(int n)
{
    return 29 - (32 - (uint32_t)__builtin_clz((unsigned)n - 1));
}

PAPA_SIMD static bool are_exact(const FloatSums *sums, uint32_t spread, int64_t count)
{
    uint32_t widest = spread << 23, lost = 0;
    for (int64_t i = 0; i < count; i++)
        lost |= (sums->most[i] - sums->least[i] > widest) | (sums->most[i] >= INFINITE);
    return !lost;
}

/* Rounding twice does no harm here. The quotient is at most 2^(e + 1), and n times its distance from a middle of two floats is 0, or a
 * multiple of 2^(f - 23) or of the middle's own last bit: so it is a middle, as double too, or further from one than double's rounding goes.
 * Narrower types have fewer middles. */
PAPA_SIMD static void divide_to_floats(float *restrict to, const double *restrict sums, int n, int64_t count)
{
    double terms = n;
    for (int64_t i = 0; i < count; i++)
        to[i] = (float)(sums[i] / terms);
}

PAPA_SIMD static void divide_to_doubles(double *restrict to, const double *restrict sums, int n, int64_t count)
{
    double terms = n;
    for (int64_t i = 0; i < count; i++)
        to[i] = sums[i] / terms;
}

/* False where the sums are not exact. */
static bool add_floats(FloatSums *sums, const void *const *rows, int n, int64_t count)
{
    begin_float_sums(sums, rows[0], rows[1], count);
    for (int k = 2; k < n; k++)
        add_float_row(sums, rows[k], count);
    return are_exact(sums, widest_spread(n), count);
}

bool papa_merge_float_mean(float *to, const void *const *rows, int n, int64_t count)
{
    FloatSums sums;
    if (!add_floats(&sums, rows, n, count))
        return false;
    divide_to_floats(to, sums.sum, n, count);
    return true;
}

bool papa_merge_narrow_mean(double *to, const void *const *rows, int n, int64_t count)
{
    FloatSums sums;
    if (!add_floats(&sums, rows, n, count))
        return false;
    divide_to_doubles(to, sums.sum, n, count);
    return true;
}
