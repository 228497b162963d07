/* papa-eval: scores ONNX classifiers on a data set, one line per file. A file that fails does not stop the others. */
#include "tools/cli.h"

#include <math.h>
#include <string.h>

static const char *const splits[] = {"train", "test", NULL};
static const char *const precisions[] = {"fp32", "tf32", "bf16", NULL};

typedef struct Settings {
    PapaEvalOptions eval;
    const char *data;
    PapaSplit split;
    int n_mean, n_std;
    bool json;
} Settings;

static const CliOption *option_table(Settings *s)
{
    PapaEvalOptions *o = &s->eval;
    const CliOption table[] = {
        {CLI_GROUP, .text = "Data"},
        {CLI_STRING, "data", .to = &s->data, .value = "DATA", .fallback = "",
            .text = "images to score on: a data set's name, a folder of IDX or CIFAR files, or a folder with one folder of JPEG files per class; needed"},
        {CLI_CHOICE, "split", .to = &s->split, .choices = splits, .text = "which of its splits"},
        {CLI_LIST, "mean", .to = o->mean, .value = "LIST", .count = &s->n_mean, .max_count = 4, .fallback = "the file's metadata, or else the data's own",
            .text = "per-channel mean that is subtracted, on a scale of 0 to 1"},
        {CLI_LIST, "std", .to = o->std, .value = "LIST", .count = &s->n_std, .max_count = 4, .range = CLI_ABOVE(0),
            .fallback = "the file's metadata, or else the data's own", .text = "per-channel standard deviation that is divided by"},
        {CLI_STRING, "output", .to = &o->output, .value = "NAME", .fallback = "the only one, or the first of rank 2",
            .text = "the graph output that classifies"},

        {CLI_GROUP, .text = "Running"},
        {CLI_INT, "batch", .letter = 'b', .to = &o->batch, .value = "N", .range = CLI_FROM(1), .text = "images at a time"},
        {CLI_STRING, "device", .to = &o->device.device, .value = "DEVICE", .fallback = "auto", .text = "auto, cpu, cuda or cuda:0"},
        {CLI_CHOICE, "precision", .to = &o->device.precision, .choices = precisions, .text = "of a GPU: see papa-train"},
        {CLI_INT, "threads", .to = &o->device.threads, .value = "N", .range = CLI_FROM(0), .fallback = "the cores at hand", .text = "CPU threads in all"},
        {CLI_FLAG, "json", .to = &s->json, .text = "print JSON"},
        {.text = NULL},
    };
    static CliOption copy[sizeof table / sizeof *table];
    memcpy(copy, table, sizeof table);
    return copy;
}

static int check_settings(const CliProgram *program, Settings *s)
{
    if (!s->data)
        return cli_usage_error(program, "--data is missing: what to score the model on");
    if (s->n_mean != s->n_std)
        return cli_usage_error(program, "--mean has %d values and --std %d, expected one per channel in both", s->n_mean, s->n_std);
    s->eval.n_norm = s->n_mean;
    return CLI_CONTINUE;
}

/* ---------------------------------------------------------------- scoring */

/* The data as the last model wanted it: models of one input size share it. */
typedef struct Images {
    PapaData *data;
    PapaImageSize size;
} Images;

static PapaStatus open_images(Images *images, const Settings *s, PapaImageSize size, const PapaHooks *hooks)
{
    if (images->data && !memcmp(&images->size, &size, sizeof size))
        return PAPA_OK;
    papa_data_close(images->data);
    *images = (Images){.size = size};
    return papa_data_open(&images->data, s->data, s->split, size, hooks);
}

/* What went wrong with one file. A data set that does not suit the model knows nothing of it: the message is given the model's name. */
typedef struct Fault {
    char text[2048];
} Fault;

static PapaStatus note(Fault *fault, PapaStatus status, const char *path)
{
    if (status != PAPA_OK)
        snprintf(fault->text, sizeof fault->text, "%s%s%s", path ? path : "", path ? ": " : "", papa_error());
    return status;
}

static PapaStatus score_file(PapaEvalReport *report, Fault *fault, const char *path, const Settings *s, Images *images, const PapaHooks *hooks)
{
    PapaModel *model;
    PapaModelInfo info;
    PapaStatus status = note(fault, papa_model_open(&model, path), NULL);
    if (status != PAPA_OK)
        return status;
    status = note(fault, papa_model_info(&info, model, s->eval.output), NULL);
    if (status == PAPA_OK) {
        status = open_images(images, s, info.size, hooks);
        note(fault, status, status == PAPA_ERR_MISMATCH ? path : NULL);
    }
    if (status == PAPA_OK) {
        status = papa_eval(report, model, images->data, &s->eval, hooks);
        note(fault, status, status == PAPA_ERR_STOPPED ? path : NULL);
    }
    papa_model_close(model);
    return status;
}

static void print_line(const char *path, int width, const PapaEvalReport *report)
{
    cli_clear();
    printf("%-*s  accuracy %s  loss %s", width, path, cli_percent(report->score.accuracy), cli_number(report->score.loss, 4));
    if (!isnan(report->score.top5))
        printf("  top-5 %s", cli_percent(report->score.top5));
    printf("  %.0f images/s\n", report->images_per_second);
    fflush(stdout);
}

static void json_result(CliJson *json, const char *path, const char *fault, const PapaEvalReport *report)
{
    cli_json_open(json, NULL, '{');
    cli_json_string(json, "file", path);
    if (fault) {
        cli_json_string(json, "error", fault);
    } else {
        cli_json_number(json, "accuracy", report->score.accuracy);
        cli_json_number(json, "loss", report->score.loss);
        cli_json_number(json, "top5", report->score.top5);
        cli_json_integer(json, "images", report->score.n);
        cli_json_number(json, "images_per_second", report->images_per_second);
    }
    cli_json_close(json, '}');
}

static int longest(char *const *paths, int n)
{
    size_t width = 0;
    for (int i = 0; i < n; i++)
        width = strlen(paths[i]) > width ? strlen(paths[i]) : width;
    return width < 200 ? (int)width : 200;
}

/* Returns the exit code. */
static int score_files(char *const *paths, int n, const Settings *s, const PapaHooks *hooks)
{
    int code = CLI_DONE, width = longest(paths, n);
    Images images = {0};
    CliJson json = {0};
    if (s->json) {
        cli_json_open(&json, NULL, '{');
        cli_json_string(&json, "data", s->data);
        cli_json_string(&json, "split", splits[s->split]);
        cli_json_open(&json, "results", '[');
    }
    bool goes_on = true;
    for (int i = 0; i < n && goes_on; i++) {
        PapaEvalReport report;
        Fault fault;
        PapaStatus status = score_file(&report, &fault, paths[i], s, &images, hooks);
        goes_on = status != PAPA_ERR_ARGUMENT && status != PAPA_ERR_STOPPED; /* neither is this file's fault */
        if (status != PAPA_OK) {
            code = status == PAPA_ERR_ARGUMENT ? CLI_USAGE : CLI_FAILED;
            cli_error("%s", fault.text);
        }
        if (s->json)
            json_result(&json, paths[i], status == PAPA_OK ? NULL : fault.text, &report);
        else if (status == PAPA_OK)
            print_line(paths[i], width, &report);
    }
    if (s->json) {
        cli_json_close(&json, ']');
        cli_json_close(&json, '}');
    }
    papa_data_close(images.data);
    return code;
}

int main(int argc, char **argv)
{
    Settings s = {.split = PAPA_SPLIT_TEST};
    papa_eval_defaults(&s.eval);
    CliProgram program = {
        .name = "papa-eval",
        .usage = "MODEL.onnx... --data DATA [options]",
        .summary = "Scores ONNX classifiers on a data set: accuracy, mean cross-entropy, top-5 accuracy from 10 classes\n"
                   "on, speed.",
        .options = option_table(&s),
        .min_args = 1,
        .max_args = -1,
        .arg = "a model (an ONNX file)",
        .closing = "Ctrl-C ends it; what was scored stands. Exit status: 0 done, 1 a file could not be scored (the\n"
                   "others are) or Ctrl-C, 2 bad usage.",
    };
    int n_args, code = cli_parse(&program, argc, argv, &n_args);
    if (code == CLI_CONTINUE)
        code = check_settings(&program, &s);
    if (code != CLI_CONTINUE)
        return code;
    PapaHooks hooks = cli_start(program.name);
    return cli_finish(score_files(argv + 1, n_args, &s, &hooks));
}
