/* The random numbers: Philox against Random123's known answers, and the first moments of each distribution. */
#include "base/rng.h"
#include "check.h"

static void known_answers(void)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } kat[] = {
        {{0}, {0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t k = 0; k < sizeof kat / sizeof *kat; k++) {
        uint32_t out[4];
        papa_philox(out, kat[k].counter, kat[k].key);
        for (int i = 0; i < 4; i++)
            CHECK(out[i] == kat[k].out[i], "vector %zu word %d: %08x, not %08x", k, i, out[i], kat[k].out[i]);
    }
}

/* The stream hands out the words of consecutive blocks, and every part of its name matters. */
static void streams(void)
{
    PapaRng rng = papa_rng(7, PAPA_RNG_TEST, 3, 5, 9), copy = rng;
    uint32_t first[8];
    for (uint32_t block = 0; block < 2; block++) {
        uint32_t counter[4] = {block, 5, 9, (uint32_t)PAPA_RNG_TEST << 24 | 4}, key[2] = {7, 0}, expected[4];
        papa_philox(expected, counter, key);
        for (int i = 0; i < 4; i++) {
            first[block * 4 + i] = papa_rng_u32(&rng);
            CHECK(first[block * 4 + i] == expected[i]);
        }
    }
    CHECK(papa_rng_u32(&copy) == first[0]);
    PapaRng others[] = {
        papa_rng(8, PAPA_RNG_TEST, 3, 5, 9), papa_rng(7ull + (1ull << 32), PAPA_RNG_TEST, 3, 5, 9), papa_rng(7, PAPA_RNG_SPLIT, 3, 5, 9),
        papa_rng(7, PAPA_RNG_TEST, -1, 5, 9), papa_rng(7, PAPA_RNG_TEST, 3, 6, 9), papa_rng(7, PAPA_RNG_TEST, 3, 5, 8),
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK(papa_rng_u32(&others[i]) != first[0], "stream %zu equals another", i);
}

typedef struct Moments {
    double mean, variance, low, high;
} Moments;

#define N_DRAWS 200000

static Moments moments(double draw(PapaRng *rng))
{
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
    double sum = 0, squares = 0, low = INFINITY, high = -INFINITY;
    for (int i = 0; i < N_DRAWS; i++) {
        double x = draw(&rng);
        sum += x;
        squares += x * x;
        low = fmin(low, x);
        high = fmax(high, x);
    }
    double mean = sum / N_DRAWS;
    return (Moments){mean, squares / N_DRAWS - mean * mean, low, high};
}

static double draw_float(PapaRng *rng) { return papa_rng_float(rng); }
static double draw_double(PapaRng *rng) { return papa_rng_double(rng); }
static double draw_below(PapaRng *rng) { return papa_rng_below(rng, 6); }
static double draw_normal(PapaRng *rng) { return papa_rng_normal(rng); }
static double draw_gamma_half(PapaRng *rng) { return papa_rng_gamma(rng, 0.5); }
static double draw_gamma_3(PapaRng *rng) { return papa_rng_gamma(rng, 3); }
static double draw_beta_half(PapaRng *rng) { return papa_rng_beta(rng, 0.5, 0.5); }
static double draw_beta_2_5(PapaRng *rng) { return papa_rng_beta(rng, 2, 5); }
static double draw_beta_tiny(PapaRng *rng) { return papa_rng_beta(rng, 1e-4, 1e-4); }

/* The mean of N_DRAWS draws has standard error sqrt(variance / N_DRAWS); 4 of those. The seed is fixed. */
static void distributions(void)
{
    static const struct {
        const char *name;
        double (*draw)(PapaRng *);
        double mean, variance, low, high;
    } table[] = {
        {"float", draw_float, .5, 1. / 12, 0, 1 - 0x1p-24},
        {"double", draw_double, .5, 1. / 12, 0, 1 - 0x1p-53},
        {"below 6", draw_below, 2.5, 35. / 12, 0, 5},
        {"normal", draw_normal, 0, 1, -9, 9},
        {"gamma .5", draw_gamma_half, .5, .5, 0, 50},
        {"gamma 3", draw_gamma_3, 3, 3, 0, 50},
        {"beta .5", draw_beta_half, .5, .125, 0, 1},
        {"beta 2 5", draw_beta_2_5, 2. / 7, 10. / (49 * 8), 0, 1},
        {"beta 1e-4", draw_beta_tiny, .5, .25 / 1.0002, 0, 1},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        Moments m = moments(table[i].draw);
        double error = 4 * sqrt(table[i].variance / N_DRAWS);
        CHECK(fabs(m.mean - table[i].mean) < error, "%s: mean %g, not %g", table[i].name, m.mean, table[i].mean);
        CHECK(fabs(m.variance / table[i].variance - 1) < .03, "%s: variance %g, not %g", table[i].name, m.variance, table[i].variance);
        CHECK(m.low >= table[i].low && m.high <= table[i].high, "%s: from %g to %g", table[i].name, m.low, m.high);
    }
}

/* Every order of 4 items equally often: 24 cells of 1000 expected, standard deviation about 31. */
static void shuffles(void)
{
    int counts[256] = {0};
    PapaRng rng = papa_rng(2, PAPA_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < 24000; i++) {
        uint32_t items[4] = {0, 1, 2, 3};
        papa_rng_shuffle(&rng, items, 4);
        counts[items[0] << 6 | items[1] << 4 | items[2] << 2 | items[3]]++;
    }
    int n_orders = 0;
    for (int i = 0; i < 256; i++)
        if (counts[i]) {
            n_orders++;
            CHECK(counts[i] > 850 && counts[i] < 1150, "order %x came %d times", i, counts[i]);
        }
    CHECK(n_orders == 24, "%d orders", n_orders);
    papa_rng_shuffle(&rng, NULL, 0);
}

int main(void)
{
    known_answers();
    streams();
    distributions();
    shuffles();
    return check_result();
}
