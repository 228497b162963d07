/* Trains one network on given batches by plain SGD with momentum and writes down what PyTorch can be asked for too.
 *
 *   train_trace MODEL.onnx BATCHES.bin OUTDIR --steps N --lr LR --momentum M --weight-decay WD [--threads T]
 *
 * BATCHES.bin: int32 n_batches, N, C, H, W; then per batch N*C*H*W float32, (N, C, H, W), and N int32 labels. Used in turn, again from
 * the first when they run out. Written: OUTDIR/loss.txt, one loss a line; OUTDIR/grad-first/NAME.f32, the first step's gradients of
 * the trained tensors; OUTDIR/final/NAME.f32, every parameter after the last step. '/' in a name becomes '_'. */
#include "base/file.h"
#include "helpers/feed.h"
#include "kernels/loss.h"
#include "kernels/optimizer.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct Settings {
    const char *model, *batches, *out;
    int steps, threads;
    PapaSgd sgd;
    float lr;
} Settings;

typedef struct Batches {
    PapaMapped file;
    int32_t n, N, C, H, W;
} Batches;

typedef struct Trace {
    const Settings *settings;
    Batches batches;
    PapaModel *model;
    PapaDevice *dev;
    PapaNet *net;
    PapaWorker *worker;
    int64_t n_classes;
    float *params, *grads, *momentum, *targets;
    double *rows;
    FILE *losses;
} Trace;

/* ---------------------------------------------------------------- input and output */

static PapaStatus read_batches(Batches *b, const char *path)
{
    PAPA_TRY(papa_file_map(&b->file, path));
    int32_t head[5];
    if (b->file.size < sizeof head)
        return papa_fail(PAPA_ERR_FORMAT, "%s: too short", path);
    memcpy(head, b->file.data, sizeof head);
    b->n = head[0], b->N = head[1], b->C = head[2], b->H = head[3], b->W = head[4];
    size_t batch = ((size_t)b->N * (size_t)(b->C * b->H * b->W) + (size_t)b->N) * 4;
    if (b->file.size != sizeof head + (size_t)b->n * batch)
        return papa_fail(PAPA_ERR_FORMAT, "%s: has %zu bytes, expected %zu", path, b->file.size, sizeof head + (size_t)b->n * batch);
    return PAPA_OK;
}

static const float *batch_images(const Batches *b, int i, const int32_t **labels)
{
    size_t images = (size_t)b->N * (size_t)(b->C * b->H * b->W), at = 5 + (size_t)(i % b->n) * (images + (size_t)b->N);
    *labels = (const int32_t *)b->file.data + at + images;
    return (const float *)b->file.data + at;
}

static PapaStatus write_tensors(const Trace *t, const char *folder, const float *values, bool trained_only)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", t->settings->out, folder);
    PAPA_TRY(papa_file_make_folder(path));
    for (int i = 0; i < t->model->n_params; i++) {
        const PapaParam *param = &t->model->params[i];
        if (!param->tensor || (trained_only && !param->trained))
            continue;
        size_t used = (size_t)snprintf(path, sizeof path, "%s/%s/", t->settings->out, folder);
        snprintf(path + used, sizeof path - used, "%s.f32", param->name);
        for (char *c = path + used; *c; c++)
            if (*c == '/')
                *c = '_';
        PapaWriter writer;
        PAPA_TRY(papa_writer_open(&writer, path));
        PapaStatus status = papa_writer_write(&writer, values + param->offset, (size_t)param->count * sizeof *values);
        if (status != PAPA_OK) {
            papa_writer_abort(&writer);
            return status;
        }
        PAPA_TRY(papa_writer_commit(&writer));
    }
    return PAPA_OK;
}

/* ---------------------------------------------------------------- training */

static float *new_floats(int64_t n)
{
    size_t bytes = ((size_t)n * sizeof(float) + 63) / 64 * 64;
    float *memory = aligned_alloc(64, bytes + 64);
    return memory ? memset(memory, 0, bytes + 64) : NULL;
}

static PapaStatus open_all(Trace *t)
{
    const Settings *s = t->settings;
    const Batches *b = &t->batches;
    PAPA_TRY(read_batches(&t->batches, s->batches));
    PAPA_TRY(papa_model_open(&t->model, s->model));
    PAPA_TRY(papa_model_select(t->model, &(PapaModelSelection){.decay_all = true}));
    PAPA_TRY(papa_device_open_cpu(&t->dev, s->threads));
    PapaNetOptions options = {.mode = PAPA_MODE_TRAIN, .batch = b->N, .size = {b->C, b->H, b->W}, .no_dropout = true};
    PAPA_TRY(papa_net_compile(&t->net, t->model, &options, t->dev));
    const PapaNet *nets[] = {t->net};
    PAPA_TRY(papa_worker_new(&t->worker, nets, 1, t->dev));
    t->n_classes = papa_net_output_shape(t->net, 0).dim[1];
    t->params = new_floats(t->model->store.n_total);
    t->grads = new_floats(t->model->store.n_trained);
    t->momentum = new_floats(t->model->store.n_trained);
    t->targets = new_floats(b->N * t->n_classes);
    t->rows = calloc((size_t)b->N, sizeof *t->rows);
    if (!t->params || !t->grads || !t->momentum || !t->targets || !t->rows)
        return papa_fail(PAPA_ERR_MEMORY, "out of memory");
    PAPA_TRY(papa_model_read_params(t->model, t->params));
    char path[4096];
    PAPA_TRY(papa_file_make_folder(s->out));
    snprintf(path, sizeof path, "%s/loss.txt", s->out);
    t->losses = fopen(path, "w");
    return t->losses ? PAPA_OK : papa_fail(PAPA_ERR_IO, "%s: cannot be written", path);
}

static PapaStatus step(Trace *t, int i)
{
    const Batches *b = &t->batches;
    const int32_t *labels;
    const float *images = batch_images(b, i, &labels);
    PAPA_TRY(feed(t->net, t->worker, 0, images, &(PapaShape){4, {b->N, b->C, b->H, b->W}}));
    for (int64_t k = 0; k < b->N * t->n_classes; k++)
        t->targets[k] = labels[k / t->n_classes] == k % t->n_classes;
    int64_t n_valid = b->N;
    float loss;
    PapaStepNumbers numbers = {0};
    PapaOptimizerNumbers rate = {.lr = t->settings->lr};
    PapaStoreLayout store = t->model->store;
    PAPA_TRY(papa_net_forward(t->net, t->worker, t->params, &numbers));
    PAPA_TRY(papa_loss_train_cpu(t->dev, &loss, papa_net_output_grad(t->net, t->worker), papa_net_output(t->net, t->worker, 0),
        t->targets, &n_valid, t->rows, b->N, t->n_classes));
    PAPA_TRY(papa_net_backward(t->net, t->worker, t->params, t->grads, &numbers));
    if (i == 0)
        PAPA_TRY(write_tensors(t, "grad-first", t->grads, true));
    fprintf(t->losses, "%.9g\n", (double)loss);
    return papa_optimizer_sgd_cpu(t->dev, t->params, t->momentum, t->grads, NULL, &rate, t->settings->sgd, store.n_decayed, store.n_trained);
}

static PapaStatus run(Trace *t)
{
    PAPA_TRY(open_all(t));
    for (int i = 0; i < t->settings->steps; i++)
        PAPA_TRY(step(t, i));
    PAPA_TRY(write_tensors(t, "final", t->params, false));
    FILE *losses = t->losses;
    t->losses = NULL;
    return fclose(losses) ? papa_fail(PAPA_ERR_IO, "loss.txt: cannot be written") : PAPA_OK;
}

static void close_all(Trace *t)
{
    if (t->losses)
        fclose(t->losses);
    free(t->params), free(t->grads), free(t->momentum), free(t->targets), free(t->rows);
    papa_worker_free(t->worker);
    if (t->dev)
        papa_net_free(t->net, t->dev);
    papa_device_close(t->dev);
    papa_model_close(t->model);
    papa_file_unmap(&t->batches.file);
}

int main(int argc, char **argv)
{
    static const struct option table[] = {
        {"steps", required_argument, NULL, 's'}, {"lr", required_argument, NULL, 'l'}, {"momentum", required_argument, NULL, 'm'},
        {"weight-decay", required_argument, NULL, 'w'}, {"threads", required_argument, NULL, 't'}, {0},
    };
    Settings s = {.steps = 50, .threads = 1, .sgd = {.momentum = .9f}, .lr = .01f};
    for (int c; (c = getopt_long(argc, argv, "", table, NULL)) != -1;) {
        switch (c) {
        case 's': s.steps = (int)strtol(optarg, NULL, 10); break;
        case 'l': s.lr = strtof(optarg, NULL); break;
        case 'm': s.sgd.momentum = strtof(optarg, NULL); break;
        case 'w': s.sgd.weight_decay = strtof(optarg, NULL); break;
        case 't': s.threads = (int)strtol(optarg, NULL, 10); break;
        default: return 2;
        }
    }
    if (argc - optind != 3) {
        fprintf(stderr, "usage: train_trace MODEL.onnx BATCHES.bin OUTDIR --steps N --lr LR --momentum M --weight-decay WD [--threads T]\n");
        return 2;
    }
    s.model = argv[optind], s.batches = argv[optind + 1], s.out = argv[optind + 2];
    Trace trace = {.settings = &s};
    PapaStatus status = run(&trace);
    close_all(&trace);
    if (status != PAPA_OK)
        fprintf(stderr, "train_trace: %s\n", papa_error());
    return status != PAPA_OK;
}
