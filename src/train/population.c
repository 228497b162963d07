#include "train/population.h"

#include "base/rng.h"

#include <assert.h>
#include <stdlib.h>

PapaStatus papa_population_start(PapaPopulation *population, int64_t at)
{
    size_t n = (size_t)population->n_members;
    population->started = calloc(n, sizeof(int64_t));
    population->finished = calloc(n, sizeof(int64_t));
    population->worker = calloc(n, sizeof(int));
    if (!population->started || !population->finished || !population->worker) {
        papa_population_end(population);
        return papa_fail_memory(n * sizeof(int64_t), "the population's counters");
    }
    for (size_t i = 0; i < n; i++)
        population->started[i] = population->finished[i] = at;
    atomic_store(&population->n_finished, (long long)n * at);
    return PAPA_OK;
}

void papa_population_end(PapaPopulation *population)
{
    free(population->started);
    free(population->finished);
    free(population->worker);
    population->started = population->finished = NULL;
    population->worker = NULL;
}

/* ---------------------------------------------------------------- dealing steps to workers */

typedef struct Advance {
    PapaPopulation *population;
    int64_t until;
    bool stopped;
} Advance;

static void look_at_stop(Advance *advance)
{
    const PapaPopulation *p = advance->population;
    if (advance->stopped || !p->stop || !*p->stop)
        return;
    advance->stopped = true;
    int64_t furthest = 0;
    for (int j = 0; j < p->n_members; j++)
        furthest = p->started[j] > furthest ? p->started[j] : furthest;
    advance->until = furthest;
}

/* The member that is furthest behind goes first, so that all reach the meeting together; of equals the one this worker knows. */
static int next_step(void *context, int worker)
{
    Advance *advance = context;
    look_at_stop(advance);
    PapaPopulation *p = advance->population;
    int best = -1;
    bool behind = false;
    for (int j = 0; j < p->n_members; j++) {
        if (p->started[j] >= advance->until)
            continue;
        behind = true;
        if (p->started[j] != p->finished[j] || (papa_crew_has_homes(p->crew) && papa_crew_home(p->crew, j) != worker))
            continue;
        if (best < 0 || p->started[j] < p->started[best] ||
            (p->started[j] == p->started[best] && p->worker[j] == worker && p->worker[best] != worker))
            best = j;
    }
    if (best < 0)
        return behind ? PAPA_POOL_WAIT : PAPA_POOL_DONE;
    p->started[best]++;
    p->worker[best] = worker;
    return best;
}

/* Nobody writes to a member's counters while one of its steps is under way, so they are read without the lock. */
static PapaStatus run_step(void *context, int worker, int member)
{
    const Advance *advance = context;
    const PapaPopulation *p = advance->population;
    return p->step(p->context, worker, member, p->finished[member]);
}

static void step_done(void *context, int worker, int member)
{
    (void)worker;
    PapaPopulation *p = ((Advance *)context)->population;
    p->finished[member]++;
    atomic_fetch_add(&p->n_finished, 1);
}

PapaStatus papa_population_advance(PapaPopulation *population, int64_t until, int64_t *reached)
{
    Advance advance = {.population = population, .until = until};
    PAPA_TRY(papa_pool_run(population->crew->pool, next_step, run_step, step_done, &advance));
    *reached = population->finished[0];
    for (int j = 0; j < population->n_members; j++)
        assert(population->finished[j] == *reached);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- the pull */

#define SMALL_PULL ((int64_t)1 << 16) /* elements that one thread moves sooner than the others wake up */

typedef struct Pull {
    PapaCrew *crew;
    float *const *stores;
    int n_members;
    const PapaSpan *spans;
    int n_spans;
} Pull;

/* n elements of all members from `first` on, which begins a block of the kernel's. */
static PapaStatus pull_piece(const Pull *pull, PapaDevice *dev, int place, int64_t first, int64_t n)
{
    float *at[PAPA_MIX_MAX];
    for (int j = 0; j < pull->n_members; j++)
        at[j] = pull->stores[j] + first;
    return PAPA_KERNEL(dev, papa_mix_pull)(dev, at, pull->n_members, pull->crew->mix[place].device, n);
}

/* Part `part` of `n_parts` of every span, cut at the kernel's blocks. */
static PapaStatus pull_part(const Pull *pull, PapaDevice *dev, int64_t part, int64_t n_parts)
{
    for (int s = 0; s < pull->n_spans; s++) {
        PapaSpan span = pull->spans[s];
        int64_t blocks = (span.n + PAPA_MIX_BLOCK - 1) / PAPA_MIX_BLOCK;
        int64_t begin = blocks * part / n_parts * PAPA_MIX_BLOCK, end = blocks * (part + 1) / n_parts * PAPA_MIX_BLOCK;
        end = end < span.n ? end : span.n;
        if (begin < end)
            PAPA_TRY(pull_piece(pull, dev, 0, span.offset + begin, end - begin));
    }
    return PAPA_OK;
}

static PapaStatus pull_task(void *context, int worker, int task)
{
    (void)task;
    const Pull *pull = context;
    return pull_part(pull, pull->crew->devs[worker], worker, pull->crew->n_workers);
}

/* The host's threads share the work, and have nothing to wait for before or after. */
static PapaStatus pull_on_cpu(const Pull *pull)
{
    int64_t n = 0;
    for (int s = 0; s < pull->n_spans; s++)
        n += pull->spans[s].n * pull->n_members;
    return n > SMALL_PULL ? papa_crew_each(pull->crew, pull_task, (void *)pull) : pull_part(pull, pull->crew->main, 0, 1);
}

/* A piece whose members live at several places: those from elsewhere come on a visit and go home changed. Each place does its share of the
 * pieces, so that every link carries its part. */
static PapaStatus pull_visited(const Pull *pull, int place, int64_t first, int64_t n)
{
    PapaCrew *crew = pull->crew;
    PapaDevice *hub = crew->hubs[place];
    float *at[PAPA_MIX_MAX];
    for (int j = 0; j < pull->n_members; j++) {
        at[j] = pull->stores[j] + first;
        if (crew->place[papa_crew_home(crew, j)] == place)
            continue;
        at[j] = crew->visitors[place] + j * PAPA_PULL_PIECE;
        PAPA_TRY(papa_device_copy(hub, at[j], pull->stores[j] + first, (size_t)n * sizeof(float)));
    }
    PAPA_TRY(PAPA_KERNEL(hub, papa_mix_pull)(hub, at, pull->n_members, crew->mix[place].device, n));
    for (int j = 0; j < pull->n_members; j++)
        if (crew->place[papa_crew_home(crew, j)] != place)
            PAPA_TRY(papa_device_copy(hub, pull->stores[j] + first, at[j], (size_t)n * sizeof(float)));
    return PAPA_OK;
}

static PapaStatus pull_across(const Pull *pull)
{
    PapaCrew *crew = pull->crew;
    int place = 0;
    for (int s = 0; s < pull->n_spans; s++)
        for (int64_t at = 0; at < pull->spans[s].n; at += PAPA_PULL_PIECE, place = (place + 1) % crew->n_places) {
            int64_t n = pull->spans[s].n - at;
            PAPA_TRY(papa_device_enter(crew->hubs[place]));
            PAPA_TRY(pull_visited(pull, place, pull->spans[s].offset + at, n < PAPA_PULL_PIECE ? n : PAPA_PULL_PIECE));
        }
    return PAPA_OK;
}

static PapaStatus send_numbers(PapaCrew *crew, double strength)
{
    for (int p = 0; p < crew->n_places; p++) {
        PAPA_TRY(papa_device_enter(crew->hubs[p]));
        PAPA_TRY(papa_event_wait(crew->mix_read[p])); /* of the last pull: long ago */
        *(PapaMixNumbers *)crew->mix[p].host = (PapaMixNumbers){.pull = (float)strength};
        PAPA_TRY(papa_stage_upload(crew->hubs[p], &crew->mix[p]));
    }
    return papa_device_enter(crew->main);
}

PapaStatus papa_population_pull(PapaCrew *crew, float *const *stores, int n_members, const PapaSpan *spans, int n_spans, double strength)
{
    Pull pull = {.crew = crew, .stores = stores, .n_members = n_members, .spans = spans, .n_spans = n_spans};
    PAPA_TRY(send_numbers(crew, strength));
    if (crew->main->kind == PAPA_CPU)
        return pull_on_cpu(&pull);
    PAPA_TRY(papa_crew_gather(crew));
    PAPA_TRY(crew->n_places == 1 ? pull_part(&pull, crew->main, 0, 1) : pull_across(&pull));
    for (int p = 0; p < crew->n_places; p++) {
        PAPA_TRY(papa_device_enter(crew->hubs[p]));
        PAPA_TRY(papa_event_record(crew->mix_read[p], crew->hubs[p]));
    }
    return papa_crew_release(crew);
}

/* ---------------------------------------------------------------- pairs */

PapaStatus papa_population_pairs(int (*pairs)[2], int n, uint64_t seed, int epoch)
{
    assert(n >= 2);
    if (n == 2) {
        for (int i = 0; i < 2; i++)
            pairs[i][0] = 0, pairs[i][1] = 1;
        return PAPA_OK;
    }
    uint32_t n_all = (uint32_t)n * (uint32_t)(n - 1) / 2, at = 0;
    int (*all)[2] = malloc(n_all * sizeof *all);
    uint32_t *order = malloc(n_all * sizeof *order);
    if (!all || !order) {
        free(all);
        free(order);
        return papa_fail_memory(n_all * sizeof *all, "the list of pairs");
    }
    for (int a = 0; a < n; a++)
        for (int b = a + 1; b < n; b++, at++)
            all[at][0] = a, all[at][1] = b, order[at] = at;
    PapaRng rng = papa_rng(seed, PAPA_RNG_PAIRS, -1, (uint32_t)epoch, 0);
    papa_rng_shuffle(&rng, order, n_all);
    for (int i = 0; i < n; i++)
        pairs[i][0] = all[order[i]][0], pairs[i][1] = all[order[i]][1];
    free(all);
    free(order);
    return PAPA_OK;
}
