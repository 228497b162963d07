/* papa_train: one run, from options to files. */
#include "train/training.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- opening and closing */

static PapaStatus open_output(PapaTraining *t)
{
    if (!t->options.out)
        return PAPA_OK;
    PAPA_TRY(papa_training_make_folder(t));
    char *path = papa_training_path(t, "metrics.csv");
    PapaStatus status = path ? papa_metrics_open(&t->metrics, path) : PAPA_ERR_MEMORY;
    free(path);
    return status;
}

static void remark_device(PapaTraining *t, const PapaCrewPlan *plan)
{
    static const char *const precisions[] = {[PAPA_PRECISION_FP32] = "fp32", [PAPA_PRECISION_TF32] = "tf32", [PAPA_PRECISION_BF16] = "bf16"};
    const PapaCrew *crew = &t->crew;
    int p = t->options.population, threads = crew->devs[0]->n_threads;
    if (plan->kind == PAPA_CPU)
        papa_remark(t->hooks, "device: cpu, %d of %d members at a time, %d thread%s each", crew->n_workers, p, threads, threads == 1 ? "" : "s");
    else if (crew->n_places == 1)
        papa_remark(t->hooks, "device: cuda:%d (%s), %d of %d members at a time, %s", plan->gpus[0], papa_device_name(crew->main), crew->n_workers, p,
            precisions[plan->precision]);
    else
        papa_remark(t->hooks, "device: %d GPUs (cuda:%d is %s), %d of %d members at a time, %s", crew->n_places, plan->gpus[0],
            papa_device_name(crew->main), crew->n_workers, p, precisions[plan->precision]);
}

/* Members that don't fit a GPU side by side train there one after the other: with half as many workers, if there are several. */
static PapaStatus fewer_workers(PapaTraining *t, PapaStatus why)
{
    PapaCrewPlan *plan = &t->crew_plan;
    int most = plan->n_gpus ? (t->options.population + plan->n_gpus - 1) / plan->n_gpus : 1, now = plan->per_gpu < most ? plan->per_gpu : most;
    if (why != PAPA_ERR_MEMORY || plan->kind != PAPA_CUDA || now < 2)
        return why;
    plan->per_gpu = now / 2;
    return PAPA_OK;
}

static PapaStatus open_crew(PapaTraining *t)
{
    const PapaTrainOptions *o = &t->options;
    for (PapaStatus status; (status = papa_crew_open(&t->crew, &t->crew_plan, o->population)) != PAPA_OK;)
        PAPA_TRY(fewer_workers(t, status));
    remark_device(t, &t->crew_plan);
    papa_pool_on_wait(t->crew.pool, papa_meter_tick, &t->meter);
    return PAPA_OK;
}

static PapaScorer make_scorer(PapaTraining *t, const PapaData *data, const uint32_t *indices, int64_t n)
{
    PapaScorer scorer = {.crew = &t->crew, .seats = t->trainer.seats, .indices = indices, .n = n, .batch = t->trainer.batch,
        .n_store = t->model->store.n_total, .n_done = &t->n_done};
    for (int place = 0; place < t->crew.n_places; place++)
        scorer.nets[place] = t->trainer.nets[place].infer;
    papa_feed_init(&scorer.feed, &t->crew, data, papa_net_input_channels_last(scorer.nets[0]), t->mean, t->std);
    return scorer;
}

static PapaStatus open_smaller_crew(PapaTraining *t, PapaStatus why)
{
    PAPA_TRY(fewer_workers(t, why));
    papa_crew_close(&t->crew);
    return open_crew(t);
}

static PapaStatus open_trainer(PapaTraining *t)
{
    PapaTrainerPlan plan = {.model = t->model, .options = &t->options, .data = t->data, .test = t->test, .indices = t->parts.train,
        .n_train = t->parts.n_train, .mean = t->mean, .std = t->std, .crew = &t->crew, .stop = t->hooks ? t->hooks->stop : NULL};
    for (PapaStatus status; (status = papa_trainer_open(&t->trainer, &plan)) != PAPA_OK;)
        PAPA_TRY(open_smaller_crew(t, status));
    t->val = make_scorer(t, t->data, t->parts.held, t->parts.n_held);
    if (t->test)
        t->on_test = make_scorer(t, t->test, NULL, papa_data_info(t->test).n);
    return PAPA_OK;
}

/* Where members live elsewhere, room for a copy of each. */
static PapaStatus open_near(PapaTraining *t)
{
    size_t p = (size_t)t->options.population;
    t->near = calloc(p, sizeof *t->near);
    t->copies = calloc(p, sizeof *t->copies);
    if (!t->near || !t->copies)
        return papa_fail_memory(p * sizeof *t->near, "the population");
    for (size_t j = 0; j < p; j++) {
        void *copy;
        if (papa_device_reaches(t->crew.main, t->trainer.stores[j]))
            continue;
        PAPA_TRY(papa_device_alloc(t->crew.main, &copy, (size_t)t->model->store.n_total * sizeof(float), "a copy of a member"));
        t->copies[j] = copy;
    }
    return papa_training_bring_near(t);
}

PapaStatus papa_training_bring_near(PapaTraining *t)
{
    for (int j = 0; j < t->options.population; j++) {
        t->near[j] = t->copies[j] ? t->copies[j] : t->trainer.stores[j];
        if (t->copies[j])
            PAPA_TRY(papa_device_copy(t->crew.main, t->near[j], t->trainer.stores[j], (size_t)t->model->store.n_total * sizeof(float)));
    }
    return papa_device_sync(t->crew.main);
}

/* Room for the children of an averaging, which are the soups' at the end. */
static PapaStatus open_spare(PapaTraining *t)
{
    enum { N_SOUPS = 3 };
    int p = t->options.population, n = t->options.method == PAPA_METHOD_2 && p > N_SOUPS ? p : N_SOUPS;
    t->spare = calloc((size_t)n, sizeof *t->spare);
    t->taken = calloc((size_t)p, sizeof *t->taken);
    if (!t->spare || !t->taken)
        return papa_fail_memory((size_t)n * sizeof *t->spare, "the list of soups");
    for (; t->n_spare < n; t->n_spare++) {
        void *store;
        PAPA_TRY(papa_device_alloc(t->crew.main, &store, (size_t)t->model->store.n_total * sizeof(float), "a soup"));
        t->spare[t->n_spare] = store;
    }
    return PAPA_OK;
}

static PapaStatus open_all(PapaTraining *t, const PapaModel *model)
{
    PapaTrainOptions asked = t->options;
    PAPA_TRY(papa_train_options_resolve(&t->options));
    PAPA_TRY(papa_crew_choose(&t->crew_plan, &t->options.device));
    PAPA_TRY(open_crew(t));
    papa_train_options_remark(&t->options, &asked, t->hooks);
    PAPA_TRY(papa_training_open_model(t, model));
    PAPA_TRY(papa_training_open_data(t));
    PAPA_TRY(papa_training_normalize(t));
    PAPA_TRY(open_trainer(t));
    PAPA_TRY(open_near(t));
    PAPA_TRY(open_spare(t));
    PAPA_TRY(papa_training_open_repair(t));
    return open_output(t);
}

static void close_all(PapaTraining *t)
{
    papa_metrics_abort(&t->metrics);
    papa_repair_free(t->repair);
    papa_sampler_close(&t->sampler);
    for (int i = 0; i < t->n_spare; i++)
        papa_device_free(t->crew.main, t->spare[i]);
    free(t->spare);
    free(t->taken);
    for (int j = 0; t->copies && j < t->options.population; j++)
        papa_device_free(t->crew.main, t->copies[j]);
    free(t->copies);
    free(t->near);
    papa_trainer_close(&t->trainer);
    papa_data_unsplit(&t->parts);
    papa_data_close(t->data);
    papa_data_close(t->test);
    papa_crew_close(&t->crew);
    papa_model_close(t->model);
}

/* ---------------------------------------------------------------- training */

/* One epoch's row for every member. */
static PapaStatus write_metrics(PapaTraining *t, int epoch)
{
    int p = t->options.population;
    double losses[PAPA_MIX_MAX];
    PapaScore scores[PAPA_MIX_MAX];
    papa_trainer_losses(&t->trainer, losses);
    if (!t->metrics.open)
        return PAPA_OK;
    PAPA_TRY(papa_score_stores(scores, &t->val, t->trainer.stores, p));
    for (int j = 0; j < p; j++) {
        PapaMetricsRow row = {.epoch = epoch + 1, .step = t->reached, .member = j, .lr = papa_rate(&t->trainer.rates, t->reached - 1),
            .train_loss = losses[j], .val = scores[j]};
        PAPA_TRY(papa_metrics_write(&t->metrics, &row));
    }
    return PAPA_OK;
}

/* What the progress hook shows: between meetings of the members, since only then their losses are at rest. */
static void show(PapaTraining *t, int epoch)
{
    int p = t->options.population;
    double loss = 0;
    for (int j = 0; j < p; j++)
        loss += t->trainer.members[j].last_loss / p;
    t->meter.progress.epoch = epoch + 1;
    t->meter.progress.n_epochs = t->options.epochs;
    t->meter.progress.loss = loss;
    t->meter.progress.learning_rate = t->reached ? papa_rate(&t->trainer.rates, t->reached - 1) : NAN;
    papa_meter_tick(&t->meter);
}

/* In pieces, so that the members' losses can be shown. */
static PapaStatus train_epoch(PapaTraining *t, int epoch)
{
    const int64_t piece = 50; /* steps between two looks at the losses */
    int64_t end = (epoch + 1) * t->trainer.steps_per_epoch;
    while (t->reached < end && !t->stopped) {
        int64_t every = t->options.method == PAPA_METHOD_PAPA && t->options.every < piece ? t->options.every : piece;
        int64_t until = t->reached - t->reached % every + every;
        until = until < end ? until : end;
        PAPA_TRY(papa_trainer_advance(&t->trainer, until, &t->reached));
        t->stopped = t->reached < until || (t->hooks && t->hooks->stop && *t->hooks->stop && t->reached < t->trainer.n_steps);
        show(t, epoch);
    }
    return PAPA_OK;
}

static bool averages_after(const PapaTrainOptions *o, int epoch)
{
    return (o->method == PAPA_METHOD_ALL || o->method == PAPA_METHOD_2) && epoch % o->every_epochs == 0 && epoch + 1 < o->epochs;
}

static PapaStatus train(PapaTraining *t)
{
    const PapaTrainOptions *o = &t->options;
    papa_meter_begin(&t->meter, t->hooks, PAPA_PHASE_TRAIN, t->trainer.n_steps * o->population, &t->trainer.population.n_finished,
        t->trainer.batch);
    for (int epoch = 0; epoch < o->epochs && !t->stopped; epoch++) {
        int64_t before = t->reached;
        PAPA_TRY(train_epoch(t, epoch));
        if (t->reached == 0)
            return papa_fail(PAPA_ERR_STOPPED, "stopped before the first step was done");
        if (t->reached > before)
            PAPA_TRY(write_metrics(t, epoch));
        if (!t->stopped && averages_after(o, epoch))
            PAPA_TRY(papa_training_average(t, epoch));
    }
    papa_meter_end(&t->meter);
    return PAPA_OK;
}

static void fill_report(PapaTrainReport *report, const PapaTraining *t)
{
    size_t arena = papa_net_arena_bytes(t->trainer.nets[0].train), infer = papa_net_arena_bytes(t->trainer.nets[0].infer);
    report->seconds = t->trainer.seconds;
    report->images_per_second = (double)(papa_trainer_images(&t->trainer, t->reached) * t->options.population) / t->trainer.seconds;
    report->n_steps = t->reached;
    report->arena_bytes = (int64_t)(arena > infer ? arena : infer);
    report->member_bytes = papa_trainer_member_bytes(&t->trainer);
    report->stopped = t->stopped;
}

static PapaStatus run(PapaTraining *t, PapaTrainReport *report, const PapaModel *model)
{
    PAPA_TRY(open_all(t, model));
    papa_deferred_release(&t->deferred);
    PAPA_TRY(train(t));
    t->plain = t->spare[0];
    t->soup = t->spare[1];
    t->greedy = t->spare[2];
    PAPA_TRY(papa_training_condense(t, report));
    fill_report(report, t);
    if (!t->options.out)
        return PAPA_OK;
    PAPA_TRY(papa_training_export(t, report));
    return papa_metrics_commit(&t->metrics);
}

PapaStatus papa_train(PapaTrainReport *out, const PapaModel *model, const PapaTrainOptions *options, const PapaHooks *hooks)
{
    *out = (PapaTrainReport){0};
    PapaTraining *t = calloc(1, sizeof *t);
    if (!t)
        return papa_fail_memory(sizeof *t, "a training run");
    t->options = *options;
    papa_deferred_begin(&t->deferred, hooks);
    t->hooks = &t->deferred.hooks;
    PapaStatus status = run(t, out, model);
    close_all(t);
    if (status != PAPA_OK)
        papa_training_remove_folder(t);
    papa_deferred_free(&t->deferred);
    free(t);
    if (status != PAPA_OK)
        papa_train_report_free(out);
    return status;
}

void papa_train_report_free(PapaTrainReport *report)
{
    if (!report)
        return;
    free(report->test.members);
    free(report->held_out.members);
    report->test.members = report->held_out.members = NULL;
    report->n_members = 0;
}
