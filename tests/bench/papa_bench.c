/* Training speed and memory of a population on random images, through the code that papa-train runs.
 *
 *   papa_bench MODEL.onnx --batch B -p P --seconds S [--threads T] [--device D] [--precision fp32|tf32|bf16] [--tune]
 *
 * Prints images_per_second=..., steps_per_member=..., peak_rss_anon_mb=..., arena_mb=..., one a line. The first pull's worth of steps is
 * not timed. */
#include "base/rng.h"
#include "data/dataset.h"
#include "train/progress.h"
#include "train/trainer.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Bench {
    const char *path;
    int batch, population;
    PapaDeviceOptions device;
    double seconds;
    PapaModel *model;
    PapaData data;
    uint32_t *indices;
    PapaCrew crew;
    PapaTrainOptions options;
    PapaTrainer trainer;
} Bench;

/* Enough batches that caches do not hold them all. */
static PapaStatus make_data(Bench *b)
{
    PapaImageSize size = b->model->head.size;
    int64_t features = b->model->head.features;
    if (b->model->head.input_rank == 2)
        size = (PapaImageSize){1, 1, features};
    if (!size.channels || !size.height || !size.width)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: the input's size is open", b->path);
    int64_t n = 32 * b->batch, bytes = n * size.channels * size.height * size.width;
    int n_classes = b->model->head.n_classes;
    b->data.info = (PapaDataInfo){.n = n, .channels = size.channels, .height = size.height, .width = size.width, .n_classes = n_classes,
        .name = "random images"};
    b->data.images = malloc((size_t)bytes);
    b->data.labels = malloc((size_t)n * sizeof *b->data.labels);
    b->indices = malloc((size_t)n * sizeof *b->indices);
    if (!b->data.images || !b->data.labels || !b->indices)
        return papa_fail_memory((size_t)bytes, "random images");
    PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 0, 0, 0);
    for (int64_t i = 0; i < bytes; i++)
        b->data.images[i] = (uint8_t)papa_rng_u32(&rng);
    for (int64_t i = 0; i < n; i++) {
        b->data.labels[i] = (int32_t)papa_rng_below(&rng, (uint32_t)n_classes);
        b->indices[i] = (uint32_t)i;
    }
    return PAPA_OK;
}

static PapaStatus open_all(Bench *b)
{
    PAPA_TRY(papa_model_open(&b->model, b->path));
    PAPA_TRY(papa_model_select(b->model, &(PapaModelSelection){.decay_all = true}));
    PAPA_TRY(make_data(b));
    PapaCrewPlan crew;
    PAPA_TRY(papa_crew_choose(&crew, &b->device));
    PAPA_TRY(papa_crew_open(&b->crew, &crew, b->population));
    papa_train_defaults(&b->options);
    b->options.population = b->population;
    b->options.batch = b->batch;
    b->options.init = PAPA_INIT_RANDOM;
    b->options.alpha = .99f;
    b->options.lr = .01f;
    b->options.lr_min = .01f;
    b->options.epochs = 1 << 20;
    b->options.flip = true;
    b->options.crop = b->model->head.input_rank == 4 ? 4 : 0;
    static const double mean[PAPA_MAX_CHANNELS] = {.5, .5, .5, .5}, std[PAPA_MAX_CHANNELS] = {.3, .3, .3, .3};
    PapaTrainerPlan plan = {.model = b->model, .options = &b->options, .data = &b->data, .indices = b->indices, .n_train = b->data.info.n,
        .mean = mean, .std = std, .crew = &b->crew};
    return papa_trainer_open(&b->trainer, &plan);
}

static void close_all(Bench *b)
{
    papa_trainer_close(&b->trainer);
    papa_crew_close(&b->crew);
    papa_model_close(b->model);
    free(b->data.images);
    free(b->data.labels);
    free(b->indices);
}

/* A field of /proc/self/status, in kB; -1 where there is none. */
static long status_kb(const char *field)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long kb = -1;
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, field, strlen(field)) == 0)
            kb = strtol(line + strlen(field), NULL, 10);
    if (file)
        fclose(file);
    return kb;
}

/* Memory is sampled between pulls: it only grows, for nothing is freed while training. */
static PapaStatus run(Bench *b)
{
    PAPA_TRY(open_all(b));
    int64_t at = 0, every = b->options.every;
    PAPA_TRY(papa_trainer_advance(&b->trainer, every, &at));
    double warm = b->trainer.seconds, end = papa_now() + b->seconds;
    int64_t first = at;
    long peak = 0;
    while (papa_now() < end) {
        PAPA_TRY(papa_trainer_advance(&b->trainer, at + every, &at));
        long anonymous = status_kb("RssAnon:");
        peak = anonymous > peak ? anonymous : peak;
    }
    double seconds = b->trainer.seconds - warm;
    printf("images_per_second=%.1f\n", (double)((at - first) * b->batch * b->population) / seconds);
    printf("steps_per_member=%lld\n", (long long)(at - first));
    printf("peak_rss_anon_mb=%.1f\n", (double)peak / 1024);
    printf("arena_mb=%.1f\n", (double)papa_net_arena_bytes(b->trainer.nets[0].train) / 1048576);
    return PAPA_OK;
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"batch", required_argument, NULL, 'b'}, {"population", required_argument, NULL, 'p'}, {"threads", required_argument, NULL, 't'},
        {"seconds", required_argument, NULL, 's'}, {"device", required_argument, NULL, 'd'}, {"precision", required_argument, NULL, 'r'},
        {"tune", no_argument, NULL, 'u'}, {0},
    };
    static const char *const precisions[] = {"fp32", "tf32", "bf16"};
    Bench bench = {.batch = 128, .population = 2, .device = {.device = "cpu"}, .seconds = 5};
    for (int c; (c = getopt_long(argc, argv, "p:", table, NULL)) != -1;) {
        switch (c) {
        case 'b': bench.batch = (int)strtol(optarg, NULL, 10); break;
        case 'p': bench.population = (int)strtol(optarg, NULL, 10); break;
        case 't': bench.device.threads = (int)strtol(optarg, NULL, 10); break;
        case 'd': bench.device.device = optarg; break;
        case 'u': bench.device.tune = true; break;
        case 'r':
            for (int i = 0; i < 3; i++)
                if (strcmp(optarg, precisions[i]) == 0)
                    bench.device.precision = (PapaPrecision)i;
            break;
        case 's': bench.seconds = strtod(optarg, NULL); break;
        default: return 2;
        }
    }
    bool sensible = bench.batch >= 1 && bench.population >= 1 && bench.population <= PAPA_MIX_MAX && bench.device.threads >= 0 && bench.seconds > 0;
    if (argc - optind != 1 || !sensible) {
        fprintf(stderr, "usage: papa_bench MODEL.onnx --batch B -p P --seconds S [--threads T] [--device D] [--precision fp32|tf32|bf16] [--tune]\n");
        return 2;
    }
    bench.path = argv[optind];
    PapaStatus status = run(&bench);
    close_all(&bench);
    if (status != PAPA_OK)
        fprintf(stderr, "papa_bench: %s\n", papa_error());
    return status != PAPA_OK;
}
