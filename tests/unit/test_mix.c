/* The pull and the mean on numbers that can be worked out by hand, and their exactness. */
#include "check.h"

#include "base/rng.h"
#include "kernels/mix.h"

#include <stdlib.h>

enum { N = 40 * PAPA_MIX_BLOCK + 19, MOST = 10 };

static float *member[MOST], *copy[MOST];

static void fill(int p)
{
    PapaRng rng = papa_rng(3, PAPA_RNG_TEST, p, 0, 0);
    for (int j = 0; j < p; j++)
        for (int i = 0; i < N; i++)
            copy[j][i] = member[j][i] = (float)papa_rng_normal(&rng);
}

static void by_hand(void)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 1};
    PapaMixNumbers numbers = {.pull = .25f};
    for (int i = 0; i < 4; i++)
        member[0][i] = 1, member[1][i] = 2, member[2][i] = 6; /* mean 3 */
    CHECK_OK(papa_mix_pull_cpu(&dev, member, 3, &numbers, 4));
    for (int i = 0; i < 4; i++)
        CHECK(member[0][i] == 1.5f && member[1][i] == 2.25f && member[2][i] == 5.25f, "%g %g %g", member[0][i], member[1][i], member[2][i]);
    numbers.pull = 1; /* all to the mean */
    CHECK_OK(papa_mix_pull_cpu(&dev, member, 3, &numbers, 4));
    for (int j = 0; j < 3; j++)
        CHECK(member[j][0] == 3);
    numbers.pull = 0; /* nothing moves */
    member[1][0] = 8;
    CHECK_OK(papa_mix_pull_cpu(&dev, member, 3, &numbers, 4));
    CHECK(member[0][0] == 3 && member[1][0] == 8);
}

/* Relative to the largest of the members: 2 units in the last place of float32. */
static void pull(int p)
{
    fill(p);
    PapaMixNumbers numbers = {.pull = .1f};
    for (int threads = 1; threads <= 3; threads++) {
        PapaDevice dev = {.kind = PAPA_CPU, .n_threads = threads};
        for (int j = 0; j < p; j++)
            memcpy(member[j], copy[j], N * sizeof(float));
        CHECK_OK(papa_mix_pull_cpu(&dev, member, p, &numbers, N));
        double worst = 0, drift = 0;
        for (int i = 0; i < N; i++) {
            double mean = 0, after = 0, most = 0;
            for (int j = 0; j < p; j++) {
                mean += copy[j][i] / (double)p, after += member[j][i] / (double)p;
                most = fmax(most, fabs(copy[j][i]));
            }
            for (int j = 0; j < p; j++)
                worst = fmax(worst, fabs(member[j][i] - ((1 - .1f) * (double)copy[j][i] + .1f * mean)) / most);
            drift = fmax(drift, fabs(after - mean) / most);
        }
        CHECK(worst < 3e-7, "p = %d: off by %g", p, worst);
        CHECK(drift < 1.5e-7, "p = %d: the mean drifts by %g", p, drift);
        static float first[N];
        if (threads == 1)
            memcpy(first, member[p - 1], sizeof first);
        CHECK(!memcmp(first, member[p - 1], sizeof first), "%d threads differ", threads);
    }
}

static void mean(int p)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 2};
    double weights[MOST], sum = 0;
    fill(p);
    for (int j = 0; j < p; j++)
        sum += weights[j] = j + 1;
    for (int j = 0; j < p; j++)
        weights[j] /= sum;
    float *to = aligned_alloc(64, (N + 15) / 16 * 64);
    CHECK(papa_mix_mean_cpu(&dev, to, (const float *const *)member, weights, p, N) == PAPA_OK);
    int wrong = 0;
    for (int i = 0; i < N; i++) {
        double want = 0;
        for (int j = 0; j < p; j++)
            want += weights[j] * copy[j][i];
        wrong += fabs(to[i] - want) > 6e-8 * fabs(want) + 1e-15; /* one rounding */
    }
    CHECK(wrong == 0, "p = %d: %d values are not the rounded mean", p, wrong);
    CHECK(papa_mix_mean_cpu(&dev, member[p - 1], (const float *const *)member, weights, p, N) == PAPA_OK);
    CHECK(!memcmp(to, member[p - 1], N * sizeof *to), "in place it differs");
    free(to);
}

/* Frozen tensors, and a population that starts equal, must not drift. */
static void equal_stays(int p)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 1};
    PapaMixNumbers numbers = {.pull = .01f};
    fill(1);
    for (int j = 1; j < p; j++)
        memcpy(member[j], copy[0], N * sizeof(float));
    CHECK_OK(papa_mix_pull_cpu(&dev, member, p, &numbers, N));
    for (int j = 0; j < p; j++)
        CHECK(!memcmp(member[j], copy[0], N * sizeof(float)), "pull of %d equal members", p);
    CHECK_OK(papa_mix_mean_cpu(&dev, member[0], (const float *const *)member, NULL, p, N));
    CHECK(!memcmp(member[0], copy[0], N * sizeof(float)), "mean of %d equal members", p);
}

/* Cut into calls at block boundaries, as the population deals it to its workers. */
static void cut(void)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 1};
    PapaMixNumbers numbers = {.pull = .5f};
    fill(3);
    CHECK_OK(papa_mix_pull_cpu(&dev, member, 3, &numbers, N));
    float *head[3], *tail[3];
    int64_t at = 7 * PAPA_MIX_BLOCK;
    for (int j = 0; j < 3; j++)
        head[j] = copy[j], tail[j] = copy[j] + at;
    CHECK_OK(papa_mix_pull_cpu(&dev, tail, 3, &numbers, N - at));
    CHECK_OK(papa_mix_pull_cpu(&dev, head, 3, &numbers, at));
    for (int j = 0; j < 3; j++)
        CHECK(!memcmp(copy[j], member[j], N * sizeof(float)));
}

int main(void)
{
    for (int j = 0; j < MOST; j++) {
        member[j] = aligned_alloc(64, (N + 15) / 16 * 64);
        copy[j] = aligned_alloc(64, (N + 15) / 16 * 64);
    }
    by_hand();
    for (int p = 1; p <= MOST; p += 2 + p / 4) {
        pull(p);
        mean(p);
        equal_stays(p);
    }
    cut();
    for (int j = 0; j < MOST; j++)
        free(member[j]), free(copy[j]);
    return check_result();
}
