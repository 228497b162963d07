#include "train/budget.h"

#include "soup/repair.h"

#include <stdio.h>

static const double GiB = 1 << 30;

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t arena_bytes(const PapaTrainerNets *nets)
{
    int64_t train = (int64_t)papa_net_arena_bytes(nets->train), infer = (int64_t)papa_net_arena_bytes(nets->infer);
    return larger(larger(train, infer), nets->last ? (int64_t)papa_net_arena_bytes(nets->last) : 0);
}

/* All batches in one pass where they fit REPAIR's arena; and its copy of a parent. */
static int64_t repair_bytes(const PapaTrainer *t)
{
    if (!t->options->repair || t->options->population < 2)
        return 0;
    int batches = t->options->repair_batches ? t->options->repair_batches : 5;
    int64_t one = (int64_t)papa_net_arena_bytes(t->nets[0].infer), all = batches * one;
    return larger(one, all < PAPA_REPAIR_ARENA ? all : PAPA_REPAIR_ARENA) + t->model->store.n_total * (int64_t)sizeof(float);
}

PapaBudget papa_budget(const PapaTrainer *t, int place)
{
    const PapaCrew *crew = t->crew;
    const PapaTrainOptions *o = t->options;
    PapaStoreLayout store = t->model->store;
    const int64_t width = sizeof(float);
    int p = o->population, n_elsewhere = 0;
    PapaBudget b = {.member = (store.n_total + papa_trainer_states(t) * store.n_trained) * width};
    for (int w = 0; w < crew->n_workers; w++)
        b.n_workers += crew->place[w] == place;
    for (int j = 0; j < p; j++) {
        bool here = crew->place[papa_crew_home(crew, j)] == place;
        b.n_members += here;
        n_elsewhere += !here;
    }
    b.arena = arena_bytes(&t->nets[place]) + PAPA_SLOTS * papa_seat_slot_bytes(t->batch, papa_trainer_fetch_bytes(t)) + t->batch * t->n_classes * width;
    b.worker = b.arena + (store.n_trained + (crew->n_places > 1 ? store.n_total : 0)) * width;
    int n_soups = o->method == PAPA_METHOD_2 && p > 3 ? p : 3;
    b.shared = place ? 0 : (n_soups + n_elsewhere) * store.n_total * width + repair_bytes(t);
    return b;
}

/* What of batch and population would fit, in words; "" where nothing would. */
static const char *what_fits(const PapaTrainer *t, const PapaBudget *b, int64_t n_free, char *text, size_t size)
{
    int64_t fixed = b->n_members * b->member + b->n_workers * (b->worker - b->arena) + b->shared;
    int64_t batch = n_free > fixed ? t->batch * (n_free - fixed) / (b->n_workers * b->arena) : 0;
    int64_t members = b->member ? (n_free - b->worker - b->shared) / b->member : 0; /* one after the other */
    int64_t population = members > 0 ? members * t->crew->n_places : 0;
    bool fewer = population > 0 && population < t->options->population;
    if (batch > 0 && fewer)
        snprintf(text, size, "; a batch of about %lld would fit, or a population of %lld", (long long)batch, (long long)population);
    else if (batch > 0)
        snprintf(text, size, "; a batch of about %lld would fit", (long long)batch);
    else if (fewer)
        snprintf(text, size, "; a population of %lld would fit", (long long)population);
    else
        *text = 0;
    return text;
}

PapaStatus papa_budget_check(const PapaTrainer *t)
{
    for (int place = 0; place < t->crew->n_places; place++) {
        int64_t n_free;
        char fits[160];
        PapaDevice *hub = t->crew->hubs[place];
        PapaBudget b = papa_budget(t, place);
        PAPA_TRY(papa_device_free_bytes(hub, &n_free));
        if (papa_budget_total(&b) <= n_free)
            continue;
        return papa_fail(PAPA_ERR_MEMORY, "%s: training needs %.2f GiB (%d members of %.3f, %d at a time with %.3f each, %.3f for soups), %.2f are free%s",
            papa_device_name(hub), (double)papa_budget_total(&b) / GiB, b.n_members, (double)b.member / GiB, b.n_workers, (double)b.worker / GiB,
            (double)b.shared / GiB, (double)n_free / GiB, what_fits(t, &b, n_free, fits, sizeof fits));
    }
    return PAPA_OK;
}
