/* Populations of toys: who moves when, that dealing does not matter, the pull, the pairs, stopping. */
#include "check.h"

#include "base/rng.h"
#include "train/population.h"
#include "train/schedule.h"

#include <stdlib.h>
#include <unistd.h>

enum { P = 5, N = 3 * PAPA_MIX_BLOCK + 48, STEPS = 23, EVERY = 4 };

typedef struct Toy {
    float *stores[P];
    int64_t seen[P];    /* the step that comes next, by member */
    int workers[P];     /* that ran the member's last step */
    atomic_int migrations;
    int64_t stop_at, fail_at; /* total steps; 0: never */
    volatile sig_atomic_t stop;
    PapaCrew *crew;
} Toy;

static atomic_int out_of_order, overlapping;
static atomic_int inside[P];

/* A step that depends on its member and number alone, and takes longer for some members. */
static PapaStatus toy_step(void *context, int worker, int member, int64_t step)
{
    Toy *toy = context;
    overlapping += atomic_exchange(&inside[member], 1);
    out_of_order += toy->seen[member] != step;
    toy->seen[member] = step + 1;
    toy->migrations += toy->workers[member] != worker;
    toy->workers[member] = worker;
    if (toy->fail_at && step + 1 == toy->fail_at && member == 2)
        return papa_fail(PAPA_ERR_NUMERIC, "member %d fails at step %d", member, (int)step);
    if (toy->stop_at && step + 1 == toy->stop_at && member == 1)
        toy->stop = 1;
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, member, (uint32_t)step, 0);
    if (papa_rng_below(&rng, 3) == 0)
        usleep(100 * (useconds_t)(1 + member));
    for (int i = 0; i < N; i++)
        toy->stores[member][i] = .9f * toy->stores[member][i] + papa_rng_float(&rng) * (float)(i % 7);
    atomic_store(&inside[member], 0);
    return PAPA_OK;
}

static void toy_free(Toy *toy)
{
    for (int j = 0; j < P; j++)
        free(toy->stores[j]);
}

static void toy_new(Toy *toy)
{
    *toy = (Toy){0};
    for (int j = 0; j < P; j++) {
        toy->stores[j] = aligned_alloc(64, N * sizeof(float));
        for (int i = 0; i < N; i++)
            toy->stores[j][i] = (float)j;
    }
}

/* The whole of a run with pulls, as the training loop does it. */
static void run(Toy *toy, int threads)
{
    toy_new(toy);
    PapaCrew crew;
    CHECK_OK(papa_crew_open(&crew, &(PapaCrewPlan){.threads = threads, .deterministic = true}, P));
    CHECK(crew.n_workers == (threads < P ? threads : P));
    PapaPopulation population = {.crew = &crew, .n_members = P, .step = toy_step, .context = toy};
    CHECK_OK(papa_population_start(&population, 0));
    PapaSpan spans[] = {{0, 2 * PAPA_MIX_BLOCK}, {2 * PAPA_MIX_BLOCK + 16, N - 2 * PAPA_MIX_BLOCK - 16}};
    PapaRatePlan plan = {.schedule = PAPA_SCHEDULE_COSINE, .peak = .1, .n_steps = STEPS};
    for (int64_t at = 0; at < STEPS;) {
        int64_t until = at + EVERY < STEPS ? at + EVERY : STEPS;
        CHECK_OK(papa_population_advance(&population, until, &at));
        CHECK(at == until, "%d of %d", (int)at, (int)until);
        if (at % EVERY == 0)
            CHECK_OK(papa_population_pull(&crew, toy->stores, P, spans, 2, papa_pull_strength(&plan, .5, at)));
    }
    CHECK(atomic_load(&population.n_finished) == P * STEPS, "counted");
    papa_population_end(&population);
    papa_crew_close(&crew);
}

/* The same by one thread without any of it, in double. */
static void check_against_loop(const Toy *toy)
{
    static double w[P][N];
    for (int j = 0; j < P; j++)
        for (int i = 0; i < N; i++)
            w[j][i] = j;
    for (int step = 0; step < STEPS; step++) {
        for (int j = 0; j < P; j++) {
            PapaRng rng = papa_rng(1, PAPA_RNG_TEST, j, (uint32_t)step, 0);
            papa_rng_below(&rng, 3);
            for (int i = 0; i < N; i++)
                w[j][i] = .9f * w[j][i] + papa_rng_float(&rng) * (double)(i % 7);
        }
        if ((step + 1) % EVERY)
            continue;
        double pull = .5 * (1 + cos(M_PI * (step + 1) / STEPS)) / 2;
        for (int i = 0; i < N; i++) {
            double mean = 0;
            for (int j = 0; j < P; j++)
                mean += w[j][i] / P;
            for (int j = 0; j < P && (i < 2 * PAPA_MIX_BLOCK || i >= 2 * PAPA_MIX_BLOCK + 16); j++)
                w[j][i] += pull * (mean - w[j][i]);
        }
    }
    double worst = 0;
    for (int j = 0; j < P; j++)
        for (int i = 0; i < N; i++)
            worst = fmax(worst, fabs(w[j][i] - toy->stores[j][i]));
    CHECK(worst < 2e-5, "off by %g where values reach 60", worst); /* some roundings of 4e-6 each */
}

static void dealing_does_not_matter(void)
{
    Toy toys[4];
    for (int t = 0; t < 4; t++)
        run(&toys[t], t + 1);
    check_against_loop(&toys[0]);
    for (int t = 1; t < 4; t++)
        for (int j = 0; j < P; j++)
            CHECK(!memcmp(toys[0].stores[j], toys[t].stores[j], N * sizeof(float)), "member %d with %d workers", j, t + 1);
    CHECK(out_of_order == 0 && overlapping == 0, "%d out of order, %d at once", (int)out_of_order, (int)overlapping);
    CHECK(toys[1].migrations > 2 * P, "members that never change worker leave cores idle: %d", (int)toys[1].migrations);
    for (int t = 0; t < 4; t++)
        toy_free(&toys[t]);
}

/* Stopped in the middle, all members end at one step, and not at the end. */
static void stopping(void)
{
    for (int threads = 1; threads <= 3; threads++) {
        Toy toy;
        PapaCrew crew;
        toy_new(&toy);
        toy.stop_at = 7;
        CHECK_OK(papa_crew_open(&crew, &(PapaCrewPlan){.threads = threads, .deterministic = false}, P));
        PapaPopulation population = {.crew = &crew, .n_members = P, .step = toy_step, .context = &toy, .stop = &toy.stop};
        int64_t reached;
        CHECK_OK(papa_population_start(&population, 0));
        CHECK_OK(papa_population_advance(&population, STEPS, &reached));
        CHECK(reached >= 7 && reached <= 8, "%d threads: stopped at %d", threads, (int)reached);
        for (int j = 0; j < P; j++)
            CHECK(toy.seen[j] == reached, "member %d ended at %d", j, (int)toy.seen[j]);
        papa_population_end(&population);
        papa_crew_close(&crew);
        toy_free(&toy);
    }
}

static void failing(void)
{
    Toy toy;
    PapaCrew crew;
    toy_new(&toy);
    toy.fail_at = 5;
    CHECK_OK(papa_crew_open(&crew, &(PapaCrewPlan){.threads = 3, .deterministic = false}, P));
    PapaPopulation population = {.crew = &crew, .n_members = P, .step = toy_step, .context = &toy};
    int64_t reached;
    CHECK_OK(papa_population_start(&population, 0));
    CHECK_FAILS(papa_population_advance(&population, STEPS, &reached), PAPA_ERR_NUMERIC, "member 2 fails at step 4");
    CHECK(toy.seen[0] < STEPS, "the others went on");
    papa_population_end(&population);
    papa_crew_close(&crew);
    toy_free(&toy);
    for (int j = 0; j < P; j++)
        atomic_store(&inside[j], 0);
}

static void count_waits(void *context)
{
    ++*(int *)context;
}

static PapaStatus sleep_step(void *context, int worker, int member, int64_t step)
{
    (void)context, (void)worker, (void)member, (void)step;
    usleep(70000);
    return PAPA_OK;
}

/* The calling thread hears of a long run while it waits. */
static void waiting(void)
{
    PapaCrew crew;
    int waits = 0;
    int64_t reached;
    CHECK_OK(papa_crew_open(&crew, &(PapaCrewPlan){.threads = 2, .deterministic = false}, 2));
    papa_pool_on_wait(crew.pool, count_waits, &waits);
    PapaPopulation population = {.crew = &crew, .n_members = 2, .step = sleep_step};
    CHECK_OK(papa_population_start(&population, 0));
    CHECK_OK(papa_population_advance(&population, 6, &reached));
    CHECK(waits >= 2 && waits <= 60, "called %d times in half a second", waits);
    papa_population_end(&population);
    papa_crew_close(&crew);
}

static void threads_inside(void)
{
    PapaCrew crew;
    CHECK_OK(papa_crew_open(&crew, &(PapaCrewPlan){.threads = 5, .deterministic = false}, 2));
    CHECK(crew.n_workers == 2 && crew.devs[0]->n_threads == 2 && crew.devs[1]->n_threads == 2 && crew.main->n_threads == 5, "5 threads, 2 members");
    papa_crew_close(&crew);
    CHECK_OK(papa_crew_open(&crew, &(PapaCrewPlan){.threads = 5, .deterministic = true}, 2));
    CHECK(crew.n_workers == 2 && crew.devs[0]->n_threads == 1 && crew.main->n_threads == 1, "deterministic");
    papa_crew_close(&crew);
}

/* p distinct pairs out of all of them: over many epochs each of the ten pairs of five members comes up equally often. */
static void pairs(void)
{
    int drawn[P][P] = {0}, pair[P][2], again[P][2];
    enum { EPOCHS = 2000 };
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        CHECK_OK(papa_population_pairs(pair, P, 42, epoch));
        for (int i = 0; i < P; i++) {
            CHECK(pair[i][0] >= 0 && pair[i][0] < pair[i][1] && pair[i][1] < P, "(%d, %d)", pair[i][0], pair[i][1]);
            drawn[pair[i][0]][pair[i][1]]++;
            for (int k = 0; k < i; k++)
                CHECK(pair[i][0] != pair[k][0] || pair[i][1] != pair[k][1], "a pair twice in epoch %d", epoch);
        }
    }
    for (int a = 0; a < P; a++)
        for (int b = a + 1; b < P; b++)
            CHECK(abs(drawn[a][b] - EPOCHS / 2) < 5 * 23, "pair (%d, %d) drawn %d times", a, b, drawn[a][b]); /* 5 sigma */
    CHECK_OK(papa_population_pairs(again, P, 42, EPOCHS - 1));
    CHECK(!memcmp(pair, again, sizeof pair), "the same epoch gives other pairs");
    CHECK_OK(papa_population_pairs(pair, 2, 42, 0));
    CHECK(pair[0][0] == 0 && pair[0][1] == 1 && pair[1][0] == 0 && pair[1][1] == 1, "two members");
}

int main(void)
{
    dealing_does_not_matter();
    stopping();
    failing();
    waiting();
    threads_inside();
    pairs();
    return check_result();
}
