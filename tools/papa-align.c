/* papa-align: permutes the units of trained ONNX files so that they match, and tells what moved. */
#include "tools/cli.h"
#include "tools/cli_reports.h"

#include <stdlib.h>
#include <string.h>

/* As PapaAlignMethod, PapaAlignTo and PapaSplit count them. */
static const char *const methods[] = {"weights", "activations", NULL};
static const char *const goals[] = {"first", "mean", "cycle", NULL};
static const char *const splits[] = {"train", "test", NULL};
static const char *const precisions[] = {"fp32", "tf32", "bf16", NULL};

typedef struct Settings {
    PapaAlignOptions align;
    int n_mean, n_std;
    bool json, list_groups;
    struct { /* on the command line */
        bool method, to, restarts, max_sweeps, data, val_data, val, test_data, split, norm, output, flip, crop, batches;
    } given;
} Settings;

#define GIVEN(name) .given = &s->given.name

static const CliOption *option_table(Settings *s)
{
    PapaAlignOptions *o = &s->align;
    PapaJudgeOptions *j = &o->judge;
    const CliOption table[] = {
        {CLI_GROUP, .text = "Aligning"},
        {CLI_STRING, "out", .letter = 'o', .to = &o->out, .value = "DIR", .fallback = "",
            .text = "folder for the aligned files, made where it is missing; they keep their names, and the first one is copied there"},
        {CLI_CHOICE, "method", .letter = 'm', .to = &o->method, .choices = methods, GIVEN(method),
            .text = "match weights, or what the layers read on training images (--data)"},
        {CLI_CHOICE, "to", .to = &o->to, .choices = goals, GIVEN(to), .text = "each to the first model, to the mean of the others in turn, or all at once"},
        {CLI_INT, "restarts", .to = &o->restarts, .value = "N", .range = CLI_FROM(1), GIVEN(restarts), .text = "searches for a matching; the best one counts"},
        {CLI_INT, "max-sweeps", .to = &o->max_sweeps, .value = "N", .range = CLI_FROM(1), GIVEN(max_sweeps),
            .text = "sweeps over the groups in one search, at most; it ends when nothing is gained"},
        {CLI_FLAG, "list-groups", .to = &s->list_groups, .text = "prove and print one model's groups, and what must stay and why"},

        {CLI_GROUP, .text = "Data: with it the models are scored, and half-way to the first before and after"},
        {CLI_STRING, "data", .to = &j->data, .value = "DATA", GIVEN(data), .fallback = "",
            .text = "training images: a data set's name, a folder of IDX or CIFAR files, or a folder with one folder of JPEG files per class"},
        {CLI_STRING, "val-data", .to = &j->val_data, .value = "DATA", GIVEN(val_data), .fallback = "held out from --data",
            .text = "images to score on where there are no test images: its training images"},
        {CLI_FLOAT, "val", .to = &j->val_fraction, .value = "FRACTION", .range = CLI_BELOW(0, 1), GIVEN(val),
            .text = "fraction of --data's training images that is held out"},
        {CLI_STRING, "test-data", .to = &j->test_data, .value = "DATA", GIVEN(test_data), .fallback = "--data", .text = "data set for the scores"},
        {CLI_CHOICE, "split", .to = &j->test_split, .choices = splits, GIVEN(split), .text = "split of it"},
        {CLI_LIST, "mean", .to = j->mean, .value = "LIST", .count = &s->n_mean, .max_count = 4, GIVEN(norm),
            .fallback = "the first file's metadata, or else measured on the training images", .text = "per-channel mean that is subtracted, on a scale of 0 to 1"},
        {CLI_LIST, "std", .to = j->std, .value = "LIST", .count = &s->n_std, .max_count = 4, .range = CLI_ABOVE(0), GIVEN(norm), .fallback = "likewise",
            .text = "per-channel standard deviation that is divided by"},
        {CLI_STRING, "output", .to = &j->output, .value = "NAME", GIVEN(output), .fallback = "the only one, or the first of rank 2",
            .text = "the graph output that classifies"},
        {CLI_FLAG, "flip", .to = &j->flip, GIVEN(flip), .text = "measure statistics and activations on images that are flipped at random, as in training"},
        {CLI_INT, "crop", .to = &j->crop, .value = "PIXELS", .range = CLI_FROM(0), GIVEN(crop), .fallback = "0: off",
            .text = "likewise, padded by this much and cropped at random"},
        {CLI_INT, "repair-batches", .to = &j->repair_batches, .value = "N", .range = CLI_FROM(0), GIVEN(batches),
            .fallback = "5, or 25 from 100000 images on", .text = "batches that statistics and activations are measured on"},

        {CLI_GROUP, .text = "Running"},
        {CLI_INT, "batch", .letter = 'b', .to = &j->batch, .value = "N", .range = CLI_FROM(1), .text = "images at a time"},
        {CLI_SEED, "seed", .to = &o->seed, .value = "N", .text = "of every random number"},
        {CLI_STRING, "device", .to = &j->device.device, .value = "DEVICE", .fallback = "auto", .text = "auto, cpu, cuda or cuda:0"},
        {CLI_CHOICE, "precision", .to = &j->device.precision, .choices = precisions, .text = "of a GPU: see papa-train"},
        {CLI_INT, "threads", .to = &j->device.threads, .value = "N", .range = CLI_FROM(0), .fallback = "the cores at hand", .text = "CPU threads in all"},
        {CLI_FLAG, "json", .to = &s->json, .text = "print JSON"},
        {.text = NULL},
    };
    static CliOption copy[sizeof table / sizeof *table];
    memcpy(copy, table, sizeof table);
    return copy;
}

/* ---------------------------------------------------------------- what goes together */

static int check_needs(const CliProgram *program, const Settings *s)
{
    const struct {
        bool given;
        const char *option;
    } data[] = {
        {s->align.method == PAPA_ALIGN_ACTIVATIONS, "--method activations"}, {s->given.val_data, "--val-data"}, {s->given.val, "--val"},
        {s->given.test_data, "--test-data"}, {s->given.split, "--split"}, {s->given.norm, "--mean and --std"}, {s->given.output, "--output"},
        {s->given.flip, "--flip"}, {s->given.crop, "--crop"}, {s->given.batches, "--repair-batches"},
    }, search[] = {{s->given.method, "--method"}, {s->given.to, "--to"}, {s->given.restarts, "--restarts"}, {s->given.max_sweeps, "--max-sweeps"},
        {s->given.data, "--data"}, {s->align.out != NULL, "--out"}};
    for (size_t i = 0; s->list_groups && i < sizeof search / sizeof *search; i++)
        if (search[i].given)
            return cli_usage_error(program, "%s goes with aligning, not with --list-groups", search[i].option);
    for (size_t i = 0; !s->given.data && i < sizeof data / sizeof *data; i++)
        if (data[i].given)
            return cli_usage_error(program, "%s needs --data", data[i].option);
    return CLI_CONTINUE;
}

static int check_settings(const CliProgram *program, Settings *s, int n)
{
    int code = check_needs(program, s);
    if (code != CLI_CONTINUE)
        return code;
    if (s->list_groups && n != 1)
        return cli_usage_error(program, "--list-groups takes one model, %d given", n);
    if (!s->list_groups && n < 2)
        return cli_usage_error(program, "one model: nothing to align it with");
    if (!s->list_groups && !s->align.out)
        return cli_usage_error(program, "--out is missing: the folder to write to");
    if (s->align.method == PAPA_ALIGN_ACTIVATIONS && s->align.to != PAPA_ALIGN_TO_FIRST)
        return cli_usage_error(program, "--method activations goes with --to first, not with --to %s", goals[s->align.to]);
    if (s->given.val_data && s->given.val)
        return cli_usage_error(program, "--val and --val-data exclude each other");
    if (s->n_mean != s->n_std)
        return cli_usage_error(program, "--mean has %d values and --std %d, expected one per channel in both", s->n_mean, s->n_std);
    s->align.judge.n_norm = s->n_mean;
    s->align.judge.seed = s->align.seed;
    return CLI_CONTINUE;
}

/* ---------------------------------------------------------------- doing it */

static PapaStatus run(char **paths, int n, const Settings *s, const PapaHooks *hooks)
{
    PapaAlignReport report;
    PapaModel **models = calloc((size_t)n + 1, sizeof *models);
    if (!models) {
        cli_error("out of memory");
        return PAPA_ERR_MEMORY;
    }
    PapaStatus status = PAPA_OK;
    for (int k = 0; k < n && !status; k++)
        status = papa_model_open(&models[k], paths[k]);
    if (!status)
        status = papa_align(&report, (const PapaModel *const *)models, n, &s->align, hooks);
    if (status) {
        cli_error("%s", papa_error());
    } else {
        cli_print_alignment(&report, &s->align, s->json);
        papa_align_report_free(&report);
    }
    for (int k = 0; k < n; k++)
        papa_model_close(models[k]);
    free(models);
    return status;
}

int main(int argc, char **argv)
{
    Settings s = {0};
    papa_align_defaults(&s.align);
    CliProgram program = {
        .name = "papa-align",
        .usage = "A.onnx B.onnx... -o DIR [options]",
        .summary = "Permutes the units of trained ONNX files of one network so that they match the first one's, without\n"
                   "changing what any of them computes: every group of units is proved on the network itself, and every\n"
                   "result against the file it came from, in double precision, before anything is written.",
        .options = option_table(&s),
        .min_args = 1,
        .max_args = -1,
        .arg = "a model (an ONNX file)",
        .closing = "What papa does not understand stays as it is. Average what is written with papa-soup.\n"
                   "Exit status: 0 done; 1 failed or Ctrl-C, and nothing was written; 2 bad usage.",
    };
    int n_args, code = cli_parse(&program, argc, argv, &n_args);
    if (code == CLI_CONTINUE)
        code = check_settings(&program, &s, n_args);
    if (code != CLI_CONTINUE)
        return code;
    PapaHooks hooks = cli_start(program.name);
    PapaStatus status = run(argv + 1, n_args, &s, &hooks);
    return cli_finish(status == PAPA_OK ? CLI_DONE : status == PAPA_ERR_ARGUMENT ? CLI_USAGE : CLI_FAILED);
}
