/* papa-align: permutes the units of trained ONNX files so that they match, and tells what moved. */
#include "tools/cli_judge.h"
#include "tools/cli_reports.h"

#include <stdlib.h>
#include <string.h>

/* As PapaAlignMethod and PapaAlignTo count them. */
static const char *const methods[] = {"weights", "activations", NULL};
static const char *const goals[] = {"first", "mean", "cycle", NULL};

typedef struct Settings {
    PapaAlignOptions align;
    CliJudge judge;
    bool json, list_groups;
    struct { /* on the command line */
        bool method, to, restarts, max_sweeps;
    } given;
} Settings;

#define GIVEN(name) .given = &s->given.name

static const CliOption *option_table(Settings *s)
{
    PapaAlignOptions *o = &s->align;
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
    };
    static CliOption all[sizeof table / sizeof *table + CLI_JUDGE_OPTIONS];
    memcpy(all, table, sizeof table);
    cli_judge_options(all + sizeof table / sizeof *table, &s->judge);
    return all;
}

/* ---------------------------------------------------------------- what goes together */

static int check_needs(const CliProgram *program, const Settings *s)
{
    const struct {
        bool given;
        const char *option;
    } search[] = {{s->given.method, "--method"}, {s->given.to, "--to"}, {s->given.restarts, "--restarts"}, {s->given.max_sweeps, "--max-sweeps"},
        {s->judge.given.data, "--data"}, {s->align.out != NULL, "--out"}};
    const char *needy = s->align.method == PAPA_ALIGN_ACTIVATIONS ? "--method activations" : s->judge.given.output ? "--output" : cli_judge_needy(&s->judge);
    for (size_t i = 0; s->list_groups && i < sizeof search / sizeof *search; i++)
        if (search[i].given)
            return cli_usage_error(program, "%s goes with aligning, not with --list-groups", search[i].option);
    if (!s->judge.given.data && needy)
        return cli_usage_error(program, "%s needs --data", needy);
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
    s->align.judge.seed = s->align.seed;
    return cli_judge_check(program, &s->judge);
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
    s.judge = (CliJudge){.options = &s.align.judge, .seed = &s.align.seed, .json = &s.json,
        .heading = "Data: with it the models are scored, and half-way to the first before and after", .output = "the graph output that classifies"};
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
