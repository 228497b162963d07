/* papa-soup: trained ONNX files in, one file out: their mean or another merge, or an ensemble. Or what lies between them, and whether they are fit
 * to be merged. */
#include "tools/cli_judge.h"
#include "tools/cli_reports.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* As PapaSoupMethod counts them. */
static const char *const methods[] = {"uniform", "lerp", "slerp", "task", "ties", "dare", "dare-ties", "stock", "wise-ft", "ema", "greedy", "pruned", "learned",
    "learned-tensors", "ensemble", NULL};
static const char *const means[] = {"logits", "probabilities", NULL};
static const char *const align_methods[] = {"weights", "activations", NULL};
static const char *const align_goals[] = {"first", "mean", "cycle", NULL};
static const char *const repair_modes[] = {"both", "rescale", "reshift", NULL};

/* What the program is told to do: a method, or one of these. */
enum { PATH = PAPA_SOUP_ENSEMBLE + 1, DIAGNOSE };

typedef struct Settings {
    PapaSoupOptions soup;
    double *weights, lerp, slerp;
    int n_weights;
    const char *base, *path;
    int points;
    bool json, ensemble, diagnose;
    CliJudge judge;
    struct { /* on the command line */
        bool method, lerp, slerp, path, weights, any_sum, base, t, scale, density, decay, average, steps, rate, align, align_method, restarts, repair, bn, points,
            out;
    } given;
} Settings;

#define GIVEN(name) .given = &s->given.name

static const CliOption *option_table(Settings *s)
{
    PapaSoupOptions *o = &s->soup;
    const CliOption table[] = {
        {CLI_GROUP, .text = "How to merge; without any of these: the uniform mean"},
        {CLI_CHOICE, "method", .letter = 'm', .to = &o->method, .choices = methods, .value = "NAME", GIVEN(method), .text = "one of those below"},
        {CLI_NUMBERS, "weights", .letter = 'w', .to = &s->weights, .count = &s->n_weights, .value = "LIST", GIVEN(weights), .fallback = "",
            .text = "one for each model: of the mean, where they sum to 1; of what task, ties, dare, dare-ties add; of an ensemble"},
        {CLI_FLAG, "any-sum", .to = &o->any_sum, GIVEN(any_sum), .text = "the weights may sum to something else"},
        {CLI_NUMBER, "lerp", .to = &s->lerp, .value = "T", GIVEN(lerp), .fallback = "", .text = "two models a and b: (1 - T) a + T b"},
        {CLI_NUMBER, "slerp", .to = &s->slerp, .value = "T", GIVEN(slerp), .fallback = "", .text = "likewise along the arc between them, for each tensor"},
        {CLI_STRING, "base", .to = &s->base, .value = "FILE", GIVEN(base), .fallback = "",
            .text = "what the models were fine-tuned from: of task, ties, dare, dare-ties, stock, wise-ft"},
        {CLI_NUMBER, "t", .to = &o->t, .value = "T", GIVEN(t), .text = "wise-ft: (1 - T) base + T model; also of lerp and slerp"},
        {CLI_NUMBER, "scale", .to = &o->scale, .value = "S", GIVEN(scale), .text = "task, ties, dare, dare-ties: what the summed differences are multiplied by"},
        {CLI_NUMBER, "density", .to = &o->density, .value = "D", .range = {0, 1, true, false}, GIVEN(density), .fallback = "ties .2, dare .1",
            .text = "ties, dare, dare-ties: the fraction of each difference that is kept"},
        {CLI_NUMBER, "decay", .to = &o->decay, .value = "D", .range = CLI_BELOW(0, 1), GIVEN(decay), .text = "ema: what the mean so far keeps at each checkpoint"},
        {CLI_INT, "steps", .to = &o->learn_steps, .value = "N", .range = CLI_FROM(1), GIVEN(steps), .text = "learned, learned-tensors: batches to learn from"},
        {CLI_FLOAT, "rate", .to = &o->learn_rate, .value = "RATE", .range = CLI_ABOVE(0), GIVEN(rate), .text = "learned, learned-tensors: learning rate"},
        {CLI_FLAG, "ensemble", .to = &s->ensemble, .text = "not a soup: one file with all models side by side, and the mean of their outputs"},
        {CLI_CHOICE, "average", .to = &o->ensemble, .choices = means, GIVEN(average), .text = "what an ensemble averages"},
        {CLI_STRING, "out", .letter = 'o', .to = &o->out, .value = "FILE", GIVEN(out), .fallback = "", .text = "the file to write"},

        {CLI_GROUP, .text = "Before and after merging"},
        {CLI_MODE, "align", .to = &o->align_options.to, .choices = align_goals, GIVEN(align), .fallback = "",
            .text = "first permute the units of all models to match: the first model's, the mean of the others in turn, or all at once"},
        {CLI_CHOICE, "align-method", .to = &o->align_options.method, .choices = align_methods, GIVEN(align_method),
            .text = "match weights, or activations on training images"},
        {CLI_INT, "restarts", .to = &o->align_options.restarts, .value = "N", .range = CLI_FROM(1), GIVEN(restarts),
            .text = "searches for a matching; the best one counts"},
        {CLI_MODE, "repair", .to = &o->repair, .choices = repair_modes, GIVEN(repair), .fallback = "",
            .text = "correct the means and standard deviations of the merged network's units, or only one of them"},
        {CLI_SWITCH, "recalibrate-bn", .to = &o->recalibrate, GIVEN(bn), .text = "with --data, measure BatchNormalization's statistics anew"},

        {CLI_GROUP, .text = "Instead of merging"},
        {CLI_STRING, "path", .to = &s->path, .value = "FILE.svg", GIVEN(path), .fallback = "", .text = "score two models and what lies between them, and draw it"},
        {CLI_INT, "points", .to = &s->points, .value = "N", .range = CLI_FROM(2), GIVEN(points), .text = "of the path, its ends included"},
        {CLI_FLAG, "diagnose", .to = &s->diagnose, .text = "say whether the models are fit to be merged, and how"},
    };
    static CliOption all[sizeof table / sizeof *table + CLI_JUDGE_OPTIONS];
    memcpy(all, table, sizeof table);
    cli_judge_options(all + sizeof table / sizeof *table, &s->judge);
    return all;
}

/* ---------------------------------------------------------------- what goes together */

#define BIT(action) (1u << (action))
#define DIFFERENCES (BIT(PAPA_SOUP_TASK) | BIT(PAPA_SOUP_TIES) | BIT(PAPA_SOUP_DARE) | BIT(PAPA_SOUP_DARE_TIES))
#define LEARNED (BIT(PAPA_SOUP_LEARNED) | BIT(PAPA_SOUP_LEARNED_TENSORS))
#define CHOSEN (BIT(PAPA_SOUP_GREEDY) | BIT(PAPA_SOUP_PRUNED) | LEARNED)
#define BASED (DIFFERENCES | BIT(PAPA_SOUP_STOCK) | BIT(PAPA_SOUP_WISE_FT))
#define SOUPS (BIT(PAPA_SOUP_ENSEMBLE) - 1)
#define ALL (BIT(DIAGNOSE + 1) - 1)

/* The option that says what is done, and which action it is. Two of them exclude each other. */
static int find_action(const CliProgram *program, const Settings *s, int *action, const char **option)
{
    static char method[32];
    const struct {
        bool given;
        const char *option;
        int action;
    } all[] = {
        {s->given.method, method, (int)s->soup.method}, {s->given.lerp, "--lerp", PAPA_SOUP_LERP}, {s->given.slerp, "--slerp", PAPA_SOUP_SLERP},
        {s->ensemble, "--ensemble", PAPA_SOUP_ENSEMBLE}, {s->given.path, "--path", PATH}, {s->diagnose, "--diagnose", DIAGNOSE},
    };
    snprintf(method, sizeof method, "--method %s", methods[s->soup.method]);
    *action = PAPA_SOUP_MEAN;
    *option = NULL;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!all[i].given)
            continue;
        if (*option)
            return cli_usage_error(program, "%s and %s exclude each other", *option, all[i].option);
        *option = all[i].option;
        *action = all[i].action;
    }
    return CLI_CONTINUE;
}

/* Options that only some actions know. */
static int check_action(const CliProgram *program, const Settings *s, int action, const char *option)
{
    const struct {
        bool given;
        const char *option, *with;
        unsigned actions;
    } all[] = {
        {s->given.weights, "--weights", "the mean, --method task, ties, dare, dare-ties, and --ensemble",
            BIT(PAPA_SOUP_MEAN) | DIFFERENCES | BIT(PAPA_SOUP_ENSEMBLE)},
        {s->given.any_sum, "--any-sum", "the mean and --ensemble", BIT(PAPA_SOUP_MEAN) | BIT(PAPA_SOUP_ENSEMBLE)},
        {s->given.base, "--base", "--method task, ties, dare, dare-ties, stock and wise-ft", BASED},
        {s->given.t, "--t", "--method wise-ft, lerp and slerp", BIT(PAPA_SOUP_WISE_FT) | BIT(PAPA_SOUP_LERP) | BIT(PAPA_SOUP_SLERP)},
        {s->given.scale, "--scale", "--method task, ties, dare and dare-ties", DIFFERENCES},
        {s->given.density, "--density", "--method ties, dare and dare-ties", DIFFERENCES & ~BIT(PAPA_SOUP_TASK)},
        {s->given.decay, "--decay", "--method ema", BIT(PAPA_SOUP_EMA)},
        {s->given.steps, "--steps", "--method learned and learned-tensors", LEARNED},
        {s->given.rate, "--rate", "--method learned and learned-tensors", LEARNED},
        {s->given.average, "--average", "--ensemble", BIT(PAPA_SOUP_ENSEMBLE)},
        {s->given.points, "--points", "--path", BIT(PATH)},
        {s->given.out, "--out", "merging", SOUPS | BIT(PAPA_SOUP_ENSEMBLE)},
        {s->given.align, "--align", "soups and --path", SOUPS | BIT(PATH)},
        {s->given.repair, "--repair", "soups", SOUPS},
        {s->given.bn, "--recalibrate-bn", "soups and --path", SOUPS | BIT(PATH)},
    };
    if (s->given.t && (s->given.lerp || s->given.slerp))
        return cli_usage_error(program, "%s and --t exclude each other", option);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].given && !(all[i].actions & BIT(action)))
            return cli_usage_error(program, "%s goes with %s, not with %s", all[i].option, all[i].with, option ? option : "the mean");
    return CLI_CONTINUE;
}

/* Options that need another one. */
static int check_needs(const CliProgram *program, const Settings *s, int action, const char *option)
{
    const bool aligns = s->given.align || action == DIAGNOSE, data = s->judge.given.data, ensemble = action == PAPA_SOUP_ENSEMBLE;
    const char *needy = cli_judge_needy(&s->judge);
    const struct {
        bool given, is_there;
        const char *option, *needs;
    } all[] = {
        {s->given.any_sum, s->given.weights, "--any-sum", "--weights"},
        {BIT(action) & BASED, s->given.base, option, "--base FILE"},
        {s->given.align_method, aligns, "--align-method", "--align"},
        {s->given.restarts, aligns, "--restarts", "--align"},
        {BIT(action) & (CHOSEN | BIT(PATH)), data, option, "--data"},
        {s->given.repair, data, "--repair", "--data"},
        {s->given.bn && s->soup.recalibrate, data, "--recalibrate-bn on", "--data"},
        {s->soup.align_options.method == PAPA_ALIGN_ACTIVATIONS, data, "--align-method activations", "--data"},
        {s->judge.given.output, data || ensemble, "--output", "--data or --ensemble"},
        {needy != NULL, data, needy, "--data"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].given && !all[i].is_there)
            return cli_usage_error(program, "%s needs %s", all[i].option, all[i].needs);
    return CLI_CONTINUE;
}

static double sum_of(const double *weights, int n)
{
    double sum = 0;
    for (int k = 0; k < n; k++)
        sum += weights[k];
    return sum;
}

static int check_settings(const CliProgram *program, Settings *s, int n, int *action, const char **option)
{
    int code = find_action(program, s, action, option);
    if (code == CLI_CONTINUE)
        code = check_action(program, s, *action, *option);
    if (code == CLI_CONTINUE)
        code = check_needs(program, s, *action, *option);
    if (code != CLI_CONTINUE)
        return code;
    if (s->given.weights && s->n_weights != n)
        return cli_usage_error(program, "--weights has %d value%s, for %d model%s", s->n_weights, s->n_weights == 1 ? "" : "s", n, n == 1 ? "" : "s");
    if (BIT(*action) & (BIT(PAPA_SOUP_MEAN) | BIT(PAPA_SOUP_ENSEMBLE)) && s->given.weights && !s->soup.any_sum && fabs(sum_of(s->weights, n) - 1) > 1e-6)
        return cli_usage_error(program, "the weights sum to %.9g, not to 1; --any-sum allows it", sum_of(s->weights, n));
    if (*action == PATH && n != 2)
        return cli_usage_error(program, "--path takes two models, %d given", n);
    if (*action == DIAGNOSE && n < 2)
        return cli_usage_error(program, "--diagnose takes at least two models");
    if (*action < PATH && !s->soup.out)
        return cli_usage_error(program, "--out is missing: the file to write");
    return cli_judge_check(program, &s->judge);
}

/* What several parts of the options share. */
static void complete_options(Settings *s, int action)
{
    PapaSoupOptions *o = &s->soup;
    o->weights = s->given.weights ? s->weights : NULL;
    o->align = s->given.align;
    o->judge.seed = o->align_options.seed = o->seed;
    if (action < PATH)
        o->method = (PapaSoupMethod)action;
    if (s->given.lerp || s->given.slerp)
        o->t = s->given.lerp ? s->lerp : s->slerp;
}

/* ---------------------------------------------------------------- doing it */

static PapaStatus make_soup(const PapaModel *const *models, int n, const Settings *s, const PapaHooks *hooks)
{
    PapaSoupReport report;
    const char *method = s->soup.method == PAPA_SOUP_MEAN && s->soup.weights ? "weights" : methods[s->soup.method];
    PapaStatus status = papa_soup(&report, models, n, &s->soup, hooks);
    if (status)
        return status;
    cli_print_soup(&report, method, s->base, s->soup.out, s->json);
    papa_soup_report_free(&report);
    return PAPA_OK;
}

static PapaStatus go_along(const PapaModel *const *models, const Settings *s, const PapaHooks *hooks)
{
    PapaPathOptions o;
    PapaPathReport report;
    papa_path_defaults(&o);
    o.points = s->points;
    o.align = s->soup.align;
    o.recalibrate = s->soup.recalibrate;
    o.align_options = s->soup.align_options;
    o.judge = s->soup.judge;
    o.svg = s->path;
    PapaStatus status = papa_path(&report, models[0], models[1], &o, hooks);
    if (status)
        return status;
    cli_print_path(&report, s->path, s->json);
    papa_path_report_free(&report);
    return PAPA_OK;
}

static PapaStatus diagnose(const PapaModel *const *models, int n, const Settings *s, const PapaHooks *hooks)
{
    PapaDiagnosis diagnosis;
    PapaStatus status = papa_diagnose(&diagnosis, models, n, &s->soup.align_options, &s->soup.judge, hooks);
    if (status)
        return status;
    cli_print_diagnosis(&diagnosis, s->json);
    papa_diagnosis_free(&diagnosis);
    return PAPA_OK;
}

/* Opens the models, and the base behind them. models: room for n + 1. */
static PapaStatus open_models(PapaModel **models, char **paths, int n, const char *base)
{
    PapaStatus status = PAPA_OK;
    for (int k = 0; k < n && !status; k++)
        status = papa_model_open(&models[k], paths[k]);
    return !status && base ? papa_model_open(&models[n], base) : status;
}

static PapaStatus run(char **paths, int n, Settings *s, int action, const PapaHooks *hooks)
{
    PapaModel **models = calloc((size_t)n + 1, sizeof *models);
    if (!models) {
        cli_error("out of memory");
        return PAPA_ERR_MEMORY;
    }
    PapaStatus status = open_models(models, paths, n, s->base);
    s->soup.base = models[n];
    const PapaModel *const *all = (const PapaModel *const *)models;
    if (!status)
        status = action == PATH ? go_along(all, s, hooks) : action == DIAGNOSE ? diagnose(all, n, s, hooks) : make_soup(all, n, s, hooks);
    if (status)
        cli_error("%s", papa_error());
    for (int k = 0; k <= n; k++)
        papa_model_close(models[k]);
    free(models);
    return status;
}

int main(int argc, char **argv)
{
    Settings s = {.points = 11, .lerp = 0.5, .slerp = 0.5};
    papa_soup_defaults(&s.soup);
    s.judge = (CliJudge){.options = &s.soup.judge, .seed = &s.soup.seed, .json = &s.json, .heading = "Data: with it the models and the result are scored",
        .output = "the graph output that classifies; of an ensemble: that is averaged"};
    CliProgram program = {
        .name = "papa-soup",
        .usage = "MODEL.onnx... -o OUT.onnx [options]",
        .summary = "Merges trained ONNX files of one network into one file, tensor by tensor, whatever their operators,\n"
                   "names and float types are. What is written has the first model's names, graph and metadata.",
        .options = option_table(&s),
        .min_args = 1,
        .max_args = -1,
        .arg = "a model (an ONNX file)",
        .closing = "Methods\n"
                   "  uniform                     the mean, or with --weights the weighted sum\n"
                   "  lerp, slerp                 between two models: on the line, on the arc\n"
                   "  task                        base + scale * sum of (model - base): task arithmetic\n"
                   "  ties, dare, dare-ties       the same with differences trimmed and signs elected, with\n"
                   "                              differences dropped at random, or both\n"
                   "  stock                       Model Stock: between the base and the mean, as the angles say\n"
                   "  wise-ft                     between the base and one model fine-tuned from it\n"
                   "  ema                         moving average of checkpoints, in the order given\n"
                   "  greedy, pruned              models are added, or left out, by held-out accuracy (--data)\n"
                   "  learned, learned-tensors    weights that make the held-out loss least (--data): one for each\n"
                   "                              model, or for each tensor of each model\n"
                   "  ensemble                    the same as --ensemble\n\n"
                   "Exit status: 0 done; 1 failed, and nothing was written; 2 bad usage.",
    };
    int n_args, action = PAPA_SOUP_MEAN, code = cli_parse(&program, argc, argv, &n_args);
    const char *option = NULL;
    if (code == CLI_CONTINUE)
        code = check_settings(&program, &s, n_args, &action, &option);
    if (code == CLI_CONTINUE) {
        complete_options(&s, action);
        PapaHooks hooks = cli_start(program.name);
        PapaStatus status = run(argv + 1, n_args, &s, action, &hooks);
        code = cli_finish(status == PAPA_OK ? CLI_DONE : status == PAPA_ERR_ARGUMENT ? CLI_USAGE : CLI_FAILED);
    }
    free(s.weights);
    return code;
}
