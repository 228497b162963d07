/* papa-train: an ONNX classifier and a data set in, a population and its soups out. */
#include "tools/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const methods[] = {"papa", "papa-all", "papa-2", "none", NULL};
static const char *const inits[] = {"file", "random", "same", NULL};
static const char *const optimizers[] = {"sgd", "adam", "adamw", NULL};
static const char *const schedules[] = {"cosine", "steps", "constant", NULL};
static const char *const ensembles[] = {"logits", "probabilities", NULL};
static const char *const precisions[] = {"fp32", "tf32", "bf16", NULL};
static const char *const splits[] = {"train", "test", NULL};

typedef struct Settings {
    PapaTrainOptions train;
    int n_mean, n_std;
    bool no_decay, list_tensors;
    const char *plan_for;
} Settings;

#define NORMALIZATION "the file's metadata with --init file, or else measured on the training images"
#define GRID(field) .to = o->field.values, .count = &o->field.n, .max_count = PAPA_MAX_GRID, .value = "LIST", .fallback = "0"

/* The options and where they go. The result is valid while s lives. */
static const CliOption *option_table(Settings *s)
{
    PapaTrainOptions *o = &s->train;
    const CliOption table[] = {
        {CLI_GROUP, .text = "Data"},
        {CLI_STRING, "data", .to = &o->data, .value = "DATA", .fallback = "fashion-mnist where the model fits it",
            .text = "training images: a data set's name, a folder of IDX or CIFAR files, or a folder with one folder of JPEG files per class"},
        {CLI_STRING, "test-data", .to = &o->test_data, .value = "DATA", .fallback = "the training data", .text = "data set for the final scores"},
        {CLI_CHOICE, "split", .to = &o->test_split, .choices = splits, .text = "split of it that is scored"},
        {CLI_FLOAT, "val", .to = &o->val_fraction, .value = "FRACTION", .range = CLI_BELOW(0, 1),
            .text = "fraction of the training images held out for choosing soups"},
        {CLI_LIST, "mean", .to = o->mean, .value = "LIST", .count = &s->n_mean, .max_count = 4, .fallback = NORMALIZATION,
            .text = "per-channel mean that is subtracted, on a scale of 0 to 1"},
        {CLI_LIST, "std", .to = o->std, .value = "LIST", .count = &s->n_std, .max_count = 4, .range = CLI_ABOVE(0),
            .fallback = NORMALIZATION, .text = "per-channel standard deviation that is divided by"},
        {CLI_FLAG, "fold-normalization", .to = &o->fold_normalization, .text = "exported files take pixels from 0 to 1 and normalise them themselves"},
        {CLI_STRING, "output", .to = &o->output, .value = "NAME", .fallback = "the only one, or the first of rank 2",
            .text = "the graph output that classifies"},
        {CLI_STRING, "out", .letter = 'o', .to = &o->out, .value = "FOLDER", .text = "folder for the results"},

        {CLI_GROUP, .text = "Population"},
        {CLI_INT, "population", .letter = 'p', .to = &o->population, .value = "N", .range = CLI_BETWEEN(1, 256), .text = "number of members"},
        {CLI_CHOICE, "method", .to = &o->method, .choices = methods,
            .text = "papa: pull every member to the mean; papa-all: replace all by the mean; papa-2: by means of pairs; none: independent members"},
        {CLI_FLOAT, "alpha", .to = &o->alpha, .value = "A", .range = CLI_BETWEEN(0, 1), .fallback = ".9995 with --init file, .99 otherwise",
            .text = "papa: what a member keeps of itself in a pull at the peak learning rate"},
        {CLI_INT, "every", .to = &o->every, .value = "STEPS", .range = CLI_FROM(1), .text = "papa: steps between pulls"},
        {CLI_INT, "every-epochs", .to = &o->every_epochs, .value = "EPOCHS", .range = CLI_FROM(1), .text = "papa-all and papa-2: epochs between averagings"},
        {CLI_CHOICE, "init", .to = &o->init, .choices = inits,
            .text = "first weights: the file's, random for each member, or the same random ones for all"},

        {CLI_GROUP, .text = "Optimisation"},
        {CLI_INT, "epochs", .to = &o->epochs, .value = "N", .range = CLI_FROM(1), .text = "passes over the training images"},
        {CLI_INT, "batch", .letter = 'b', .to = &o->batch, .value = "N", .range = CLI_FROM(1), .text = "images in a step of one member"},
        {CLI_FLAG, "keep-last", .to = &o->keep_last, .text = "train on an epoch's shorter last batch too"},
        {CLI_CHOICE, "optimizer", .to = &o->optimizer, .choices = optimizers, .text = "adam: L2 decay; adamw: decoupled decay"},
        {CLI_FLOAT, "lr", .to = &o->lr, .value = "RATE", .range = CLI_ABOVE(0),
            .fallback = "sgd .1, from the file .01; adam .001, from the file .0001", .text = "peak learning rate"},
        {CLI_FLOAT, "lr-min", .to = &o->lr_min, .value = "RATE", .range = CLI_FROM(0), .fallback = "lr / 1000", .text = "where the cosine schedule ends"},
        {CLI_CHOICE, "schedule", .to = &o->schedule, .choices = schedules, .text = "course of the learning rate"},
        {CLI_LIST, "milestones", .to = o->milestones, .value = "LIST", .count = &o->n_milestones, .max_count = PAPA_MAX_GRID, .range = CLI_BETWEEN(0, 1),
            .text = "steps: fractions of training at which the rate falls"},
        {CLI_FLOAT, "gamma", .to = &o->gamma, .value = "FACTOR", .range = CLI_ABOVE(0), .text = "steps: what the rate is multiplied by"},
        {CLI_FLOAT, "warmup", .to = &o->warmup_epochs, .value = "EPOCHS", .range = CLI_FROM(0), .text = "epochs of linear warm-up from 0, may be a fraction"},
        {CLI_FLOAT, "momentum", .to = &o->momentum, .value = "M", .range = CLI_BELOW(0, 1), .text = "of sgd"},
        {CLI_FLAG, "nesterov", .to = &o->nesterov, .text = "Nesterov's momentum for sgd"},
        {CLI_FLOAT, "beta1", .to = &o->beta1, .value = "B", .range = CLI_BELOW(0, 1), .text = "decay of adam's first moment"},
        {CLI_FLOAT, "beta2", .to = &o->beta2, .value = "B", .range = CLI_BELOW(0, 1), .text = "decay of adam's second moment"},
        {CLI_FLOAT, "adam-eps", .to = &o->adam_eps, .value = "EPS", .range = CLI_ABOVE(0), .text = "adam's guard against division by zero"},
        {CLI_FLOAT, "weight-decay", .to = &o->weight_decay, .value = "W", .range = CLI_FROM(0), .text = "weight decay"},
        {CLI_FLAG, "no-norm-decay", .to = &s->no_decay, .text = "no weight decay on the tensors of normalisations and on biases"},
        {CLI_FLOAT, "clip", .to = &o->clip, .value = "NORM", .range = CLI_FROM(0), .fallback = "0: off", .text = "largest global norm of a member's gradient"},

        {CLI_GROUP, .text = "Diversity: each member gets one cell of the grid that these lists span"},
        {CLI_LIST, "mixup", GRID(mixup), .range = CLI_FROM(0), .text = "mixup's alpha"},
        {CLI_LIST, "cutmix", GRID(cutmix), .range = CLI_FROM(0), .text = "CutMix's alpha"},
        {CLI_LIST, "smoothing", GRID(smoothing), .range = CLI_BELOW(0, 1), .text = "label smoothing"},
        {CLI_LIST, "erasing", GRID(erasing), .range = CLI_BETWEEN(0, 1), .text = "probability of random erasing"},

        {CLI_GROUP, .text = "Augmentation"},
        {CLI_FLAG, "flip", .to = &o->flip, .text = "flip images from left to right at random"},
        {CLI_INT, "crop", .to = &o->crop, .value = "PIXELS", .range = CLI_FROM(0), .fallback = "0: off", .text = "pad by this much and crop at random"},
        {CLI_FLAG, "random-resized-crop", .to = &o->random_resized_crop, .text = "crop a random part of the image and resize it"},

        {CLI_GROUP, .text = "What is trained"},
        {CLI_STRING, "train", .to = &o->train, .value = "PATTERNS", .fallback = "all", .text = "tensors to train: shell patterns of names, separated by commas"},
        {CLI_STRING, "freeze", .to = &o->freeze, .value = "PATTERNS", .fallback = "none", .text = "tensors not to train; stronger than --train"},
        {CLI_FLAG, "freeze-bn", .to = &o->freeze_bn, .text = "BatchNormalization keeps its tensors and its running statistics"},
        {CLI_SWITCH, "dropout", .to = &o->dropout, .text = "Dropout as the file says"},
        {CLI_FLAG, "list-tensors", .to = &s->list_tensors, .text = "print the model's tensors and what becomes of them, and end"},

        {CLI_GROUP, .text = "Condensing"},
        {CLI_SWITCH, "repair", .to = &o->repair, .text = "REPAIR averages: correct their units' means and variances"},
        {CLI_INT, "repair-batches", .to = &o->repair_batches, .value = "N", .range = CLI_FROM(0), .fallback = "5, or 25 from 100000 images on",
            .text = "batches that REPAIR measures on"},
        {CLI_CHOICE, "ensemble", .to = &o->ensemble, .choices = ensembles, .text = "what the ensemble averages"},

        {CLI_GROUP, .text = "Running"},
        {CLI_SEED, "seed", .to = &o->seed, .value = "N", .text = "of every random number"},
        {CLI_STRING, "device", .to = &o->device.device, .value = "DEVICE", .fallback = "auto", .text = "auto, cpu, cuda or cuda:0,1"},
        {CLI_CHOICE, "precision", .to = &o->device.precision, .choices = precisions,
            .text = "of a GPU's products: tf32: tensor cores; bf16: bfloat16 activations too; weights stay float32"},
        {CLI_FLAG, "tune", .to = &o->device.tune, .text = "cuda: time several plans for each convolution first, and keep the fastest"},
        {CLI_STRING, "plan-for", .to = &s->plan_for, .value = "FILE", .fallback = "off",
            .text = "print what the GPU described in FILE (testdata/gpus) would do in a step and need in memory, and end; no GPU needed"},
        {CLI_INT, "threads", .to = &o->device.threads, .value = "N", .range = CLI_FROM(0), .fallback = "the cores at hand", .text = "CPU threads in all"},
        {CLI_FLAG, "deterministic", .to = &o->device.deterministic, .text = "a result that does not depend on the number of threads"},
        {.text = NULL},
    };
    static CliOption copy[sizeof table / sizeof *table];
    memcpy(copy, table, sizeof table);
    return copy;
}

/* What one option's range can't say. */
static int check_settings(const CliProgram *program, Settings *s)
{
    if (s->n_mean != s->n_std)
        return cli_usage_error(program, "--mean has %d values and --std %d, expected one per channel in both", s->n_mean, s->n_std);
    s->train.n_norm = s->n_mean;
    s->train.decay_all = !s->no_decay;
    return CLI_CONTINUE;
}

/* ---------------------------------------------------------------- results */

static void score_row(CliTable *table, const char *label, const PapaScore *score, bool top5)
{
    cli_table_row(table, label, cli_percent(score->accuracy), cli_number(score->loss, 4), top5 ? cli_percent(score->top5) : NULL, NULL);
}

static void print_scores(const PapaTrainReport *report, const PapaTrainOptions *options)
{
    CliTable table = {0};
    char label[CLI_CELL_BYTES];
    bool tested = !isnan(report->test.mean.accuracy);
    const PapaScores *scores = tested ? &report->test : &report->held_out;
    bool top5 = !isnan(scores->mean.top5);
    cli_table_row(&table, tested ? "" : "on held-out images", "accuracy", "loss", top5 ? "top-5" : NULL, NULL);
    for (int i = 0; i < report->n_members; i++) {
        snprintf(label, sizeof label, "member %d", i);
        score_row(&table, label, &scores->members[i], top5);
    }
    score_row(&table, "mean of the members", &scores->mean, top5);
    score_row(&table, "average soup", &scores->soup_plain, top5);
    if (options->repair && report->n_members > 1)
        score_row(&table, "average soup, REPAIRed", &scores->soup, top5);
    if (report->n_greedy) {
        snprintf(label, sizeof label, "greedy soup of %d", report->n_greedy);
        score_row(&table, label, &scores->greedy, top5);
    }
    snprintf(label, sizeof label, "ensemble (mean of %s)", ensembles[options->ensemble]);
    score_row(&table, label, &scores->ensemble, top5);
    cli_table_print(&table);
}

static void print_report(const PapaTrainReport *report, const PapaTrainOptions *options)
{
    cli_clear();
    if (report->stopped)
        printf("stopped early, after %lld steps of each member\n", (long long)report->n_steps);
    print_scores(report, options);
    printf("%lld steps of each member in %.1f s, %.0f images/s; %.0f MB for each worker, %.0f MB for each member\n", (long long)report->n_steps,
        report->seconds, report->images_per_second, (double)report->arena_bytes / 1e6, (double)report->member_bytes / 1e6);
    printf("results are in %s\n", options->out);
}

static void print_line(void *context, const char *line)
{
    (void)context;
    printf("%s\n", line);
}

static int fail(PapaStatus status)
{
    cli_error("%s", papa_error());
    return cli_finish(status == PAPA_ERR_ARGUMENT ? CLI_USAGE : CLI_FAILED);
}

int main(int argc, char **argv)
{
    Settings s = {0};
    papa_train_defaults(&s.train);
    CliProgram program = {
        .name = "papa-train",
        .usage = "MODEL.onnx [options]",
        .summary = "Trains a population of networks from an ONNX classifier, keeps its members close to their mean,\n"
                   "and condenses them: average soup, greedy soup, ensemble. Writes ONNX files.",
        .options = option_table(&s),
        .min_args = 1,
        .max_args = 1,
        .arg = "the model (an ONNX file)",
        .closing = "Writes member-N.onnx, soup.onnx, greedy.onnx, ensemble.onnx and metrics.csv. Ctrl-C ends training\n"
                   "early and writes what there is; once more, and it stops at once. Exit status: 0 done, early or not;\n"
                   "1 failed; 2 bad usage.",
    };
    int n_args, code = cli_parse(&program, argc, argv, &n_args);
    if (code == CLI_CONTINUE)
        code = check_settings(&program, &s);
    if (code != CLI_CONTINUE)
        return code;

    PapaHooks hooks = cli_start(program.name);
    PapaModel *model;
    PapaStatus status = papa_model_open(&model, argv[1]);
    if (status != PAPA_OK)
        return fail(status);
    if (s.plan_for) {
        status = papa_train_plan(model, &s.train, s.plan_for, &(PapaHooks){.remark = print_line});
    } else if (s.list_tensors) {
        status = papa_model_list_tensors(model, &s.train, &(PapaHooks){.remark = print_line});
    } else {
        PapaTrainReport report;
        status = papa_train(&report, model, &s.train, &hooks);
        if (status == PAPA_OK) {
            print_report(&report, &s.train);
            papa_train_report_free(&report);
        }
    }
    papa_model_close(model);
    return status == PAPA_OK ? cli_finish(CLI_DONE) : fail(status);
}
