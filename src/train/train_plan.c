/* papa_train_plan: what a GPU would be given to do in one step, found out by doing it with a GPU that is only described. */
#include "device/gpu.h"
#include "train/budget.h"
#include "train/train_options.h"

#include <stdlib.h>
#include <string.h>

typedef struct Planning {
    PapaTrainOptions options;
    const PapaHooks *hooks;
    PapaGpu gpu;
    PapaLaunchLog log;
    PapaModel *model;
    PapaData *data;
    uint32_t *indices;
    PapaCrew crew;
    PapaTrainer trainer;
} Planning;

static const double MiB = 1 << 20;

/* ---------------------------------------------------------------- opening */

static PapaStatus open_model(Planning *p, const PapaModel *model)
{
    const PapaTrainOptions *o = &p->options;
    PAPA_TRY(papa_model_open(&p->model, papa_onnx_path(model->onnx)));
    PapaModelSelection selection = {.output = o->output, .train = o->train, .freeze = o->freeze, .freeze_bn = o->freeze_bn,
        .decay_all = o->decay_all, .make_biases = true};
    return papa_model_select(p->model, &selection);
}

/* Without a data set, a few blank images of the size that the model takes. */
static PapaStatus open_data(Planning *p)
{
    const PapaTrainOptions *o = &p->options;
    const PapaHead *head = &p->model->head;
    PapaImageSize size = head->input_rank == 2 ? (PapaImageSize){1, 1, head->features} : head->size;
    if (o->data)
        return papa_data_open(&p->data, o->data, PAPA_SPLIT_TRAIN, head->size, p->hooks);
    if (size.channels < 1 || size.height < 1 || size.width < 1 || head->n_classes < 1)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: leaves the size of its input or its classes open: name a data set", papa_onnx_path(p->model->onnx));
    return papa_data_blank(&p->data, size, head->n_classes, 2 * (int64_t)o->batch);
}

static PapaStatus open_trainer(Planning *p)
{
    static const double mean[PAPA_MAX_CHANNELS] = {.5, .5, .5, .5}, std[PAPA_MAX_CHANNELS] = {.25, .25, .25, .25};
    int64_t n = papa_data_info(p->data).n;
    p->indices = malloc((size_t)n * sizeof *p->indices);
    if (!p->indices)
        return papa_fail_memory((size_t)n * sizeof *p->indices, "image numbers");
    for (int64_t i = 0; i < n; i++)
        p->indices[i] = (uint32_t)i;
    PapaTrainerPlan plan = {.model = p->model, .options = &p->options, .data = p->data, .indices = p->indices, .n_train = n, .mean = mean, .std = std,
        .crew = &p->crew};
    return papa_trainer_open(&p->trainer, &plan);
}

static PapaStatus open_all(Planning *p, const PapaModel *model, const char *gpu_file)
{
    const PapaDeviceOptions *device = &p->options.device;
    PAPA_TRY(papa_train_options_resolve(&p->options));
    PAPA_TRY(papa_gpu_read(&p->gpu, gpu_file));
    PAPA_TRY(open_model(p, model));
    PAPA_TRY(open_data(p));
    /* Everybody at a time: that a smaller crew would fit is told, not done. */
    PapaCrewPlan plan = {.kind = PAPA_CUDA, .n_gpus = 1, .described = &p->gpu, .log = &p->log, .precision = device->precision, .threads = 1,
        .per_gpu = p->options.population};
    PAPA_TRY(papa_crew_open(&p->crew, &plan, p->options.population));
    return open_trainer(p);
}

static void close_all(Planning *p)
{
    papa_trainer_close(&p->trainer);
    papa_crew_close(&p->crew);
    papa_data_close(p->data);
    papa_model_close(p->model);
    papa_gpu_clear(&p->gpu);
    free(p->indices);
    free(p->log.launches);
}

/* ---------------------------------------------------------------- telling */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const PapaLaunch *)a)->what, ((const PapaLaunch *)b)->what);
}

static int by_weight(const void *a, const void *b)
{
    const PapaLaunch *x = a, *y = b; /* `blocks` holds the count */
    if (x->flops != y->flops)
        return x->flops < y->flops ? 1 : -1;
    return (x->blocks < y->blocks) - (x->blocks > y->blocks);
}

/* Joins launches of the same name: blocks becomes their number, flops their sum. Returns how many there are. */
static int64_t join(PapaLaunch *launches, int64_t n)
{
    int64_t kept = 0;
    qsort(launches, (size_t)n, sizeof *launches, by_name);
    for (int64_t i = 0; i < n; i++) {
        if (!kept || strcmp(launches[kept - 1].what, launches[i].what) != 0) {
            launches[kept] = launches[i];
            launches[kept].blocks = 0;
            launches[kept++].flops = 0;
        }
        launches[kept - 1].blocks++;
        launches[kept - 1].flops += launches[i].flops;
    }
    qsort(launches, (size_t)kept, sizeof *launches, by_weight);
    return kept;
}

static void tell_step(const Planning *p)
{
    static const char *const names[] = {[PAPA_PRECISION_FP32] = "fp32", [PAPA_PRECISION_TF32] = "tf32", [PAPA_PRECISION_BF16] = "bf16"};
    const PapaLaunchLog *log = &p->log;
    PapaPrecision precision = p->options.device.precision;
    double flops = 0, peak[] = {p->gpu.peak_fp32, p->gpu.peak_tf32, p->gpu.peak_bf16};
    for (int64_t i = 0; i < log->n; i++)
        flops += log->launches[i].flops;
    double bytes = (double)papa_net_traffic(p->trainer.nets[0].train);
    papa_remark(p->hooks, "%s, %s, batch %lld: one step of one member is %lld launches, %.3f GFLOP of products, %.1f MiB moved", p->gpu.name, names[precision],
        (long long)p->trainer.batch, (long long)log->n, flops / 1e9, bytes / MiB);
    if (peak[precision] > 0 && p->gpu.bandwidth > 0)
        papa_remark(p->hooks, "at the card's peak: %.3f ms for the products, %.3f ms for the memory", 1e3 * flops / peak[precision], 1e3 * bytes / p->gpu.bandwidth);
    int64_t n = join(log->launches, log->n);
    for (int64_t i = 0; i < n; i++) {
        const PapaLaunch *l = &log->launches[i];
        bool bracketed = l->what[0] == '('; /* as PAPA_LAUNCH wants the names of some kernels */
        int length = (int)strlen(l->what) - 2 * bracketed;
        if (l->flops > 0)
            papa_remark(p->hooks, "%6lld  %.*s  (%.3f GFLOP)", (long long)l->blocks, length, l->what + bracketed, l->flops / 1e9);
        else
            papa_remark(p->hooks, "%6lld  %.*s", (long long)l->blocks, length, l->what + bracketed);
    }
}

static void tell_memory(const Planning *p)
{
    PapaBudget b = papa_budget(&p->trainer, 0);
    PapaStoreLayout store = p->model->store;
    const double width = sizeof(float);
    papa_remark(p->hooks, "memory of a member: %.1f MiB of weights and statistics, %.1f MiB of optimiser state", (double)store.n_total * width / MiB,
        (double)(papa_trainer_states(&p->trainer) * store.n_trained) * width / MiB);
    papa_remark(p->hooks, "memory of a worker: %.1f MiB of activations, gradients of activations and workspace, %.1f MiB of weights' gradients and batches",
        (double)papa_net_arena_bytes(p->trainer.nets[0].train) / MiB, ((double)b.worker - (double)papa_net_arena_bytes(p->trainer.nets[0].train)) / MiB);
    papa_remark(p->hooks, "memory in all: %.1f MiB for %d members, all at a time, and their soups, of %.1f MiB", (double)papa_budget_total(&b) / MiB,
        b.n_members, (double)p->gpu.memory / MiB);
}

static PapaStatus plan(Planning *p, const PapaModel *model, const char *gpu_file)
{
    PAPA_TRY(open_all(p, model, gpu_file));
    p->log.n = 0;
    PAPA_TRY(papa_member_step(&p->trainer, 0, 0, 0));
    if (p->log.failed)
        return papa_fail_memory(sizeof(PapaLaunch), "the list of launches");
    tell_step(p);
    tell_memory(p);
    return PAPA_OK;
}

PapaStatus papa_train_plan(const PapaModel *model, const PapaTrainOptions *options, const char *gpu_file, const PapaHooks *hooks)
{
    Planning p = {.options = *options, .hooks = hooks};
    PapaStatus status = plan(&p, model, gpu_file);
    close_all(&p);
    return status;
}
