/* The loss kernel against a double-precision reference and finite differences; how answers are counted. */
#include "check.h"

#include "base/rng.h"
#include "kernels/loss.h"

#include <stdlib.h>

static double row_loss(const double *x, const float *t, int64_t C)
{
    double most = x[0], sum = 0, loss = 0;
    for (int64_t c = 1; c < C; c++)
        most = fmax(most, x[c]);
    for (int64_t c = 0; c < C; c++)
        sum += exp(x[c] - most);
    for (int64_t c = 0; c < C; c++)
        loss += t[c] * (most + log(sum) - x[c]);
    return loss;
}

/* Every gradient element against a central difference of the reference, in double; h^2 and cancellation stay below 1e-8. */
static void against_reference(int64_t N, int64_t C, int64_t n_valid, int n_threads)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = n_threads};
    PapaRng rng = papa_rng(7, PAPA_RNG_TEST, 0, (uint32_t)N, (uint32_t)C);
    float *x = malloc((size_t)(N * C) * sizeof *x), *t = malloc((size_t)(N * C) * sizeof *t), *dx = malloc((size_t)(N * C) * sizeof *dx);
    double *rows = malloc((size_t)N * sizeof *rows), *wide = malloc((size_t)C * sizeof *wide);
    for (int64_t i = 0; i < N * C; i++) {
        x[i] = (float)(3 * papa_rng_normal(&rng));
        t[i] = papa_rng_float(&rng);
        dx[i] = 99;
    }
    for (int64_t i = 0; i < N; i++) {
        float sum = 0;
        for (int64_t c = 0; c < C; c++)
            sum += t[i * C + c];
        for (int64_t c = 0; c < C; c++)
            t[i * C + c] /= sum;
    }
    float loss = -1;
    PapaStatus status = papa_loss_train_cpu(&dev, &loss, dx, x, t, &n_valid, rows, N, C);
    CHECK(status == PAPA_OK);
    double want = 0;
    for (int64_t i = 0; i < N; i++) {
        for (int64_t c = 0; c < C; c++)
            wide[c] = x[i * C + c];
        want += i < n_valid ? row_loss(wide, t + i * C, C) / (double)n_valid : 0;
        for (int64_t c = 0; c < C; c++) {
            double h = 1e-4, up, down, slope = 0;
            wide[c] = x[i * C + c] + h, up = row_loss(wide, t + i * C, C);
            wide[c] = x[i * C + c] - h, down = row_loss(wide, t + i * C, C);
            wide[c] = x[i * C + c];
            if (i < n_valid)
                slope = (up - down) / (2 * h) / (double)n_valid;
            CHECK_NEAR(dx[i * C + c], slope, 4e-7);
        }
    }
    CHECK_NEAR(loss, want, 1e-6 * fabs(want));
    free(x), free(t), free(dx), free(rows), free(wide);
}

static void by_hand(void)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 1};
    float x[] = {0, 0, 0, 0}, t[] = {1, 0, 0, 0}, dx[4], loss;
    double rows[1];
    int64_t n = 1;
    CHECK_OK(papa_loss_train_cpu(&dev, &loss, dx, x, t, &n, rows, 1, 4));
    CHECK_NEAR(loss, log(4), 1e-7);
    CHECK_NEAR(dx[0], -.75, 1e-7);
    CHECK_NEAR(dx[1], .25, 1e-7);

    /* Far from zero: no overflow. In place. */
    float far[] = {1000, 1001, -1000, 999};
    CHECK_OK(papa_loss_train_cpu(&dev, &loss, far, far, t, &n, rows, 1, 4));
    CHECK_NEAR(loss, 1 + log(1 + exp(-1) + exp(-2)), 1e-6);
    CHECK_NEAR(far[1], 1 / (1 + exp(-1) + exp(-2)), 1e-6);

    /* A class ruled out by -infinity costs nothing where it is not the target, everything where it is. */
    float out[] = {0, -INFINITY, 0, 0};
    CHECK_OK(papa_loss_train_cpu(&dev, &loss, dx, out, t, &n, rows, 1, 4));
    CHECK_NEAR(loss, log(3), 1e-7);
    CHECK(dx[1] == 0, "%g", dx[1]);
    float on_it[] = {0, 1, 0, 0};
    CHECK_OK(papa_loss_train_cpu(&dev, &loss, dx, out, on_it, &n, rows, 1, 4));
    CHECK(loss == INFINITY, "%g", loss);
}

static void not_a_number(void)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 1};
    double rows[1];
    int64_t n = 1;
    float bad[] = {NAN, INFINITY}, loss;
    for (int b = 0; b < 2; b++)
        for (int at = 0; at < 3; at++) {
            float x[] = {1, 2, 3}, t[] = {0, 1, 0}, dx[3];
            int32_t label = 1;
            PapaScoreSums sums;
            x[at] = bad[b];
            CHECK_OK(papa_loss_train_cpu(&dev, &loss, dx, x, t, &n, rows, 1, 3));
            CHECK(!isfinite(loss), "bad value %d in class %d gave %g", b, at, loss);
            CHECK(isnan(dx[0]) || isnan(dx[1]) || isnan(dx[2]));
            CHECK_OK(papa_loss_score_cpu(&dev, &sums, x, &label, &n, rows, 1, 3));
            CHECK(!isfinite(sums.loss));
            if (b == 0)
                CHECK(sums.top1 == 0 && sums.top5 == 0 && sums.n == 1);
        }
}

static void counting(void)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 1};
    /* A tie goes to the first class: row 0 is right, row 1 is not. Row 2: six tie, label is the sixth, out of the five. Row 3 is padding. */
    float x[4 * 6] = {
        1, 5, 5, 0, 0, 0,
        1, 5, 5, 0, 0, 0,
        2, 2, 2, 2, 2, 2,
        9, 0, 0, 0, 0, 0,
    };
    int32_t labels[] = {1, 2, 5, 0};
    int64_t n_valid = 3;
    double rows[4];
    PapaScoreSums sums;
    CHECK_OK(papa_loss_score_cpu(&dev, &sums, x, labels, &n_valid, rows, 4, 6));
    CHECK(sums.top1 == 1 && sums.top5 == 2 && sums.n == 3, "%d %d %d", (int)sums.top1, (int)sums.top5, (int)sums.n);
    double row = log(2 + exp(-4) + 3 * exp(-5));
    CHECK_NEAR(sums.loss, 2 * row + log(6), 1e-6);
    labels[2] = 4;
    CHECK_OK(papa_loss_score_cpu(&dev, &sums, x, labels, &n_valid, rows, 4, 6));
    CHECK(sums.top5 == 3);
    n_valid = 0;
    CHECK_OK(papa_loss_score_cpu(&dev, &sums, x, labels, &n_valid, rows, 4, 6));
    CHECK(sums.loss == 0 && sums.n == 0);
}

/* One, two and three threads give the same bits. */
static void threads(void)
{
    enum { N = 131, C = 10 };
    static float x[N * C], t[N * C], dx[3][N * C];
    float loss[3];
    double rows[N];
    int64_t n = N;
    PapaRng rng = papa_rng(8, PAPA_RNG_TEST, 0, 0, 0);
    for (int i = 0; i < N * C; i++)
        x[i] = (float)papa_rng_normal(&rng), t[i] = .1f;
    for (int k = 0; k < 3; k++) {
        PapaDevice dev = {.kind = PAPA_CPU, .n_threads = k + 1};
        CHECK_OK(papa_loss_train_cpu(&dev, &loss[k], dx[k], x, t, &n, rows, N, C));
        CHECK(loss[k] == loss[0] && !memcmp(dx[k], dx[0], sizeof dx[0]));
    }
}

int main(void)
{
    by_hand();
    against_reference(1, 1, 1, 1);
    against_reference(5, 10, 5, 1);
    against_reference(7, 3, 4, 1);
    against_reference(64, 101, 63, 3);
    not_a_number();
    counting();
    threads();
    return check_result();
}
