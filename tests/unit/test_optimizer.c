/* Optimiser steps against the formulas evaluated in double, step after step; clipping; what decays and what does not. */
#include "check.h"

#include "base/rng.h"
#include "kernels/optimizer.h"

#include <stdlib.h>

enum { N = 3 * 4096 + 37, DECAYED = 4096 + 1001, STEPS = 7 };

typedef struct Settings {
    PapaSgd sgd;
    PapaAdam adam;
    bool is_adam;
    float max_norm; /* 0: no clipping */
} Settings;

static double gradient(int i, int step)
{
    return sin(0.37 * i + step) * (1 + i % 5);
}

static double initial(int i)
{
    return cos(0.11 * i);
}

/* The textbook, in double. */
static void reference(double *w, const Settings *s)
{
    for (int i = 0; i < N; i++)
        w[i] = initial(i);
    static double m[N], v[N], moved_by[N];
    memset(m, 0, sizeof m), memset(v, 0, sizeof v), memset(moved_by, 0, sizeof moved_by);
    for (int step = 0; step < STEPS; step++) {
        double lr = 0.1 / (step + 1), norm = 0, scale = 1;
        for (int i = 0; i < N; i++)
            norm += pow((float)gradient(i, step), 2);
        if (s->max_norm > 0)
            scale = fmin(1, s->max_norm / (sqrt(norm) + 1e-6));
        for (int i = 0; i < N; i++) {
            double g = scale * (float)gradient(i, step), decays = i < DECAYED;
            if (s->is_adam) {
                PapaAdam a = s->adam;
                if (a.decoupled)
                    w[i] -= lr * a.weight_decay * decays * w[i];
                else
                    g += a.weight_decay * decays * w[i];
                m[i] = a.beta1 * m[i] + (1.0 - a.beta1) * g;
                v[i] = a.beta2 * v[i] + (1.0 - a.beta2) * g * g;
                double m_hat = m[i] / (1 - pow(a.beta1, step + 1)), v_hat = v[i] / (1 - pow(a.beta2, step + 1));
                w[i] -= lr * m_hat / (sqrt(v_hat) + a.eps);
            } else {
                g += s->sgd.weight_decay * decays * w[i];
                m[i] = step ? s->sgd.momentum * m[i] + g : g;
                w[i] -= lr * (s->sgd.nesterov ? g + s->sgd.momentum * m[i] : m[i]);
            }
        }
    }
}

static void run(float *w, const Settings *s, int n_threads)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = n_threads};
    float *dw = aligned_alloc(64, (N + 15) / 16 * 64), *m = calloc(N, sizeof *m), *v = calloc(N, sizeof *v);
    double blocks[(N + PAPA_CLIP_BLOCK - 1) / PAPA_CLIP_BLOCK];
    for (int i = 0; i < N; i++)
        w[i] = (float)initial(i);
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < N; i++)
            dw[i] = (float)gradient(i, step);
        PapaClip clip = {0};
        if (s->max_norm > 0)
            CHECK(papa_optimizer_clip_cpu(&dev, &clip, blocks, dw, s->max_norm, N) == PAPA_OK);
        PapaOptimizerNumbers numbers = {
            .lr = (float)(0.1 / (step + 1)),
            .correction1 = (float)(1 - pow(s->adam.beta1, step + 1)),
            .root_correction2 = (float)sqrt(1 - pow(s->adam.beta2, step + 1)),
        };
        const PapaClip *scale = s->max_norm > 0 ? &clip : NULL;
        if (s->is_adam)
            CHECK(papa_optimizer_adam_cpu(&dev, w, m, v, dw, scale, &numbers, s->adam, DECAYED, N) == PAPA_OK);
        else
            CHECK(papa_optimizer_sgd_cpu(&dev, w, s->sgd.momentum > 0 ? m : NULL, dw, scale, &numbers, s->sgd, DECAYED, N) == PAPA_OK);
    }
    free(dw), free(m), free(v);
}

/* Weights move by about 1 over the steps: float32 leaves some units in the last place of that. */
static void against_reference(const char *name, Settings s)
{
    static double want[N];
    static float got[3][N + 16] __attribute__((aligned(64)));
    reference(want, &s);
    double worst = 0;
    for (int t = 0; t < 3; t++)
        run(got[t], &s, t + 1);
    for (int i = 0; i < N; i++)
        worst = fmax(worst, fabs(got[0][i] - want[i]));
    CHECK(worst < 2e-6, "%s: off by %g", name, worst);
    CHECK(!memcmp(got[0], got[1], N * sizeof **got) && !memcmp(got[0], got[2], N * sizeof **got), "%s: threads change the result", name);
}

/* Momentum on a constant gradient has a closed form: after t steps w has moved by lr * sum_{s<=t} (1 - mu^s) / (1 - mu). */
static void closed_form(void)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 1};
    float w[16] __attribute__((aligned(64))) = {0}, m[16] __attribute__((aligned(64))) = {0}, dw[16] __attribute__((aligned(64)));
    for (int i = 0; i < 16; i++)
        dw[i] = 1;
    PapaOptimizerNumbers numbers = {.lr = .5f};
    double want = 0;
    for (int t = 1; t <= 10; t++) {
        CHECK_OK(papa_optimizer_sgd_cpu(&dev, w, m, dw, NULL, &numbers, (PapaSgd){.momentum = .9f}, 16, 16));
        want -= .5 * (1 - pow(.9, t)) / .1;
        CHECK_NEAR(w[7], want, 1e-5);
    }
}

static void clipping(void)
{
    PapaDevice dev = {.kind = PAPA_CPU, .n_threads = 2};
    enum { LONG = 2 * PAPA_CLIP_BLOCK + 5 };
    static float dw[LONG + 16] __attribute__((aligned(64)));
    double blocks[3];
    PapaClip clip;
    for (int i = 0; i < LONG; i++)
        dw[i] = 2;
    CHECK_OK(papa_optimizer_clip_cpu(&dev, &clip, blocks, dw, 1e9f, LONG));
    CHECK_NEAR(clip.norm, 2 * sqrt(LONG), 1e-4);
    CHECK(clip.scale == 1);
    CHECK_OK(papa_optimizer_clip_cpu(&dev, &clip, blocks, dw, 3, LONG));
    CHECK_NEAR(clip.scale, 3 / (2 * sqrt(LONG)), 1e-8);
    dw[LONG - 1] = NAN;
    CHECK_OK(papa_optimizer_clip_cpu(&dev, &clip, blocks, dw, 3, LONG));
    CHECK(isnan(clip.scale));
}

int main(void)
{
    closed_form();
    clipping();
    against_reference("sgd", (Settings){.sgd = {.weight_decay = .01f}});
    against_reference("momentum", (Settings){.sgd = {.momentum = .9f, .weight_decay = .01f}});
    against_reference("nesterov", (Settings){.sgd = {.momentum = .9f, .weight_decay = .01f, .nesterov = true}});
    against_reference("clipped", (Settings){.sgd = {.momentum = .9f, .weight_decay = .01f}, .max_norm = 1});
    PapaAdam adam = {.beta1 = .9f, .beta2 = .999f, .eps = 1e-8f, .weight_decay = .1f};
    against_reference("adam", (Settings){.is_adam = true, .adam = adam});
    adam.decoupled = true;
    against_reference("adamw", (Settings){.is_adam = true, .adam = adam});
    against_reference("adamw, clipped", (Settings){.is_adam = true, .adam = adam, .max_norm = 2});
    return check_result();
}
