#include "jobs/diagnose.h"

#include <limits.h>
#include <math.h>

/* Standard deviations above random permutations. Independent networks stay within three or four, however their draws are distributed; one from the same
 * initialisation, or an aligned one, reaches hundreds. */
#define SAME_INIT_EXCESS 6.0

/* Where nothing can be permuted there are no draws: independent weights of n numbers have a cosine of about 1 / sqrt(n). */
#define SAME_INIT_COSINE 0.5

/* Matching is idempotent but for ties and dead units, which move and change nothing. */
#define ALIGNED_MOVED 0.02
#define ALIGNED_GAIN 0.01

/* The mean of two vectors of equal length and cosine c has (1 + c) / 2 of their square: at .8 each layer of a plain mean is 5 % too weak, which ten layers
 * bear; at .5 it is 13 %, and a few layers are left with a constant answer. */
#define SOUP_COSINE 0.8

/* After matching. Units that only happen to be alike, of random weights, come to .10 to .15. An MLP trained twice from scratch comes to .24, and nearly all of
 * its barrier goes; a narrow ResNet-8 to .16, and half of it stays. */
#define ALIGN_COSINE 0.2

/* Loss at the midpoint over the ends' mean: a tenth of what the ends lose themselves, and a hundredth of a nat, is what other seeds make of it too. */
#define BARRIER_SHARE 0.1
#define BARRIER_LEAST 0.01

/* What alignment must take away of the barrier to be worth it. */
#define BARRIER_FALL 0.5

/* REPAIR makes up for a loss half-way of up to about twice that of the ends; of more, too little is left to be put right. */
#define REPAIR_SHARE 1.0

static bool is_low(double barrier, const PapaFindings *f)
{
    return barrier <= BARRIER_SHARE * f->ends + BARRIER_LEAST;
}

static bool is_bearable(double barrier, const PapaFindings *f)
{
    return barrier <= REPAIR_SHARE * f->ends + BARRIER_LEAST;
}

/* As it is printed with two digits; a trifle below 0 is 0. */
static double two_digits(double x)
{
    const double rounded = round(100 * x) / 100;
    return rounded == 0 ? 0 : rounded;
}

static const char *judge_by_images(PapaDiagnosisModel *m, const PapaFindings *f, PapaArena *arena)
{
    const double plain = two_digits(m->barrier), aligned = two_digits(m->barrier_aligned);
    const bool falls = m->barrier_aligned <= BARRIER_FALL * m->barrier;
    if (is_low(m->barrier, f)) {
        m->advice = PAPA_ADVICE_SOUP;
        return papa_arena_printf(arena, "the loss half-way is %.2f above that of the ends: average them as they are", plain);
    }
    if (is_low(m->barrier_aligned, f) || (falls && is_bearable(m->barrier_aligned, f))) {
        m->advice = PAPA_ADVICE_ALIGN;
        return papa_arena_printf(arena, "aligning brings the barrier down from %.2f to %.2f: align, average, then REPAIR", plain, aligned);
    }
    if (is_bearable(m->barrier, f)) {
        m->advice = PAPA_ADVICE_REPAIR;
        return papa_arena_printf(arena, "the loss half-way is %.2f above that of the ends, and aligning gains little (%.2f): average, then REPAIR", plain, aligned);
    }
    m->advice = PAPA_ADVICE_ENSEMBLE;
    return papa_arena_printf(arena, "the loss half-way is %.2f above that of the ends, and %.2f after aligning: make an ensemble", plain, aligned);
}

static const char *judge_by_weights(PapaDiagnosisModel *m, PapaArena *arena)
{
    if (m->cosine >= SOUP_COSINE) {
        m->advice = PAPA_ADVICE_SOUP;
        return papa_arena_printf(arena, "weights agree as they are (cosine %.2f): average them", m->cosine);
    }
    if (m->cosine_aligned >= SOUP_COSINE || (m->cosine_aligned >= ALIGN_COSINE && !m->aligned)) {
        m->advice = PAPA_ADVICE_ALIGN;
        return papa_arena_printf(arena, "units are in another order: aligning raises the cosine from %.2f to %.2f; then average and REPAIR", m->cosine,
            m->cosine_aligned);
    }
    if (m->cosine_aligned >= ALIGN_COSINE) {
        m->advice = PAPA_ADVICE_REPAIR;
        return papa_arena_printf(arena, "units are in the same order, but weights far apart (cosine %.2f): average, then REPAIR, and compare with an ensemble",
            m->cosine);
    }
    m->advice = PAPA_ADVICE_ENSEMBLE;
    return papa_arena_printf(arena, "weights have little in common (cosine %.2f, %.2f after aligning): make an ensemble, or see with images", m->cosine,
        m->cosine_aligned);
}

PapaStatus papa_diagnose_judge(PapaDiagnosisModel *m, const PapaFindings *f, PapaArena *arena)
{
    if (f->first) {
        *m = (PapaDiagnosisModel){.path = m->path, .tensors = m->tensors, .cosine = 1, .cosine_aligned = 1, .same_init = true, .aligned = true,
            .barrier = isnan(m->barrier) ? NAN : 0, .barrier_aligned = isnan(m->barrier) ? NAN : 0, .advice = PAPA_ADVICE_SOUP,
            .why = "it is what the others are compared with"};
        return PAPA_OK;
    }
    m->same_init = isnan(f->excess) ? m->cosine >= SAME_INIT_COSINE : f->excess >= SAME_INIT_EXCESS;
    m->aligned = m->moved <= ALIGNED_MOVED || m->cosine_aligned - m->cosine <= ALIGNED_GAIN;
    m->why = isnan(m->barrier) ? judge_by_weights(m, arena) : judge_by_images(m, f, arena);
    return m->why ? PAPA_OK : PAPA_ERR_MEMORY;
}

static int caution(PapaAdvice advice)
{
    return advice == PAPA_ADVICE_NONE ? INT_MAX : (int)advice; /* the others stand in this order */
}

void papa_diagnose_all(PapaDiagnosis *d)
{
    d->advice = PAPA_ADVICE_SOUP;
    for (int k = 0; k < d->n_models; k++) {
        PapaDiagnosisModel *m = &d->models[k];
        if (m->difference) {
            m->advice = PAPA_ADVICE_NONE;
            m->why = "it is not the same network";
        }
        if (caution(m->advice) > caution(d->advice))
            d->advice = m->advice;
    }
}
