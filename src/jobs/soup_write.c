/* Soups that need no images, and the metadata of all. */
#include "jobs/soup_job.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- metadata */

/* name=value, behind a comma unless it is the first. */
static void put_option(FILE *to, const char *name, double value)
{
    char text[PAPA_DOUBLE_BYTES];
    fprintf(to, "%s%s=%s", ftell(to) > 0 ? "," : "", name, papa_double_text(text, value));
}

static void put_seed(FILE *to, uint64_t seed)
{
    fprintf(to, "%sseed=%llu", ftell(to) > 0 ? "," : "", (unsigned long long)seed);
}

static void put_options(FILE *to, const PapaSoupOptions *o, int n)
{
    PapaSoupMethod m = o->method;
    char text[PAPA_DOUBLE_BYTES];
    bool of_differences = m == PAPA_SOUP_TASK || m == PAPA_SOUP_TIES || m == PAPA_SOUP_DARE || m == PAPA_SOUP_DARE_TIES;
    for (int k = 0; of_differences && o->weights && k < n; k++)
        fprintf(to, "%s%s", k ? ":" : "weights=", papa_double_text(text, o->weights[k]));
    if (m == PAPA_SOUP_LERP || m == PAPA_SOUP_SLERP || m == PAPA_SOUP_WISE_FT)
        put_option(to, "t", o->t);
    if (of_differences)
        put_option(to, "scale", o->scale);
    if (of_differences && m != PAPA_SOUP_TASK)
        put_option(to, "density", o->density ? o->density : m == PAPA_SOUP_TIES ? 0.2 : 0.1);
    if (m == PAPA_SOUP_EMA)
        put_option(to, "decay", o->decay);
    if (m == PAPA_SOUP_DARE || m == PAPA_SOUP_DARE_TIES)
        put_seed(to, o->seed);
    if (m == PAPA_SOUP_LEARNED || m == PAPA_SOUP_LEARNED_TENSORS) {
        put_option(to, "steps", o->learn_steps);
        put_option(to, "rate", (double)o->learn_rate);
        put_seed(to, o->judge.seed);
    }
}

static PapaStatus describe_options(PapaMetadata *m, const PapaSoupOptions *o, int n)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    if (!to)
        return papa_fail_memory(1024, "metadata");
    put_options(to, o, n);
    bool failed = ferror(to);
    failed |= fclose(to) != 0;
    PapaStatus status = failed ? papa_fail_memory(1024, "metadata") : PAPA_OK;
    if (!status && *text)
        status = papa_metadata_set_text(m, "papa.options", text);
    free(text);
    return status;
}

static PapaStatus describe_result(PapaMetadata *m, const PapaSoupJob *job)
{
    static const char *const to[] = {"first", "mean", "cycle"}, *const modes[] = {"both", "rescale", "reshift"};
    const PapaSoupOptions *o = job->options;
    const PapaSoupReport *report = job->report;
    PAPA_TRY(describe_options(m, o, job->n));
    if (o->method == PAPA_SOUP_ENSEMBLE)
        PAPA_TRY(papa_metadata_set_text(m, "papa.ensemble", o->ensemble == PAPA_ENSEMBLE_LOGITS ? "logits" : "probabilities"));
    if (o->align)
        PAPA_TRY(papa_metadata_set_text(m, "papa.aligned", to[o->align_options.to]));
    if (report->repaired)
        PAPA_TRY(papa_metadata_set_text(m, "papa.repaired", modes[o->repair]));
    if (report->recalibrated)
        PAPA_TRY(papa_metadata_set_text(m, "papa.recalibrated", "true"));
    return papa_metadata_set_scores(m, &report->held_out, &report->test);
}

/* The ingredients' weights and held-out scores, each in a list of its own. */
typedef struct Shares {
    double *weights;
    PapaScore *val;
} Shares;

static PapaStatus take_shares(Shares *out, PapaArena *arena, const PapaSoupJob *job)
{
    const PapaSoupReport *report = job->report;
    int n = job->n + 1;
    *out = (Shares){PAPA_NEW_ARRAY(arena, double, n), PAPA_NEW_ARRAY(arena, PapaScore, n)};
    if (!out->weights || !out->val)
        return PAPA_ERR_MEMORY;
    for (int k = 0; k < n; k++) {
        out->weights[k] = report->ingredients[k].weight;
        out->val[k] = report->ingredients[k].held_out;
    }
    return PAPA_OK;
}

PapaStatus papa_soup_metadata(PapaMetadata *out, const PapaSoupJob *job)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    Shares shares;
    PapaStatus status = take_shares(&shares, &scratch, job);
    if (!status)
        status = papa_ingredients_metadata(out, job->ingredients, "ensemble", papa_soup_method_name(job->options), shares.weights, shares.val);
    papa_arena_free(&scratch);
    PAPA_TRY(status);
    status = describe_result(out, job);
    if (status)
        papa_metadata_free(out);
    return status;
}

static PapaStatus describe_soup(PapaEdit *edit, const PapaSoupJob *job)
{
    PapaArena scratch = PAPA_ARENA_INIT;
    PapaMetadata metadata = {0};
    Shares shares;
    PapaStatus status;
    PAPA_GOTO(take_shares(&shares, &scratch, job));
    PAPA_GOTO(papa_ingredients_describe(job->ingredients, edit, "soup", papa_soup_method_name(job->options), shares.weights, shares.val));
    PAPA_GOTO(describe_result(&metadata, job));
    for (int i = 0; i < metadata.n; i++)
        PAPA_GOTO(papa_edit_set_metadata(edit, metadata.pairs[i][0], metadata.pairs[i][1]));
out:
    papa_metadata_free(&metadata);
    papa_arena_free(&scratch);
    return status;
}

PapaStatus papa_soup_finish(const PapaSoupJob *job, PapaEdit *edit)
{
    if (!job->options->out)
        return PAPA_OK;
    PAPA_TRY(describe_soup(edit, job));
    return papa_edit_write(edit, job->options->out);
}

/* ---------------------------------------------------------------- merging */

PapaStatus papa_soup_merge(PapaEdit **out, PapaMerge **merge, const PapaSoupJob *job, const PapaMergeOptions *options)
{
    const PapaMergeModel *models = papa_ingredients_merge_models(job->ingredients);
    PapaMergeOptions own = *options;
    PapaEdit *edit;
    own.stop = job->hooks->stop;
    PAPA_TRY(papa_edit_new(&edit, models[0].onnx));
    PapaStatus status = papa_merge_new(merge, edit, models, job->n, job->options->base ? &models[job->n] : NULL, &own);
    if (status)
        papa_edit_free(edit);
    else
        *out = edit;
    return status;
}

static int count_nodes(Onnx__NodeProto *const *nodes, size_t n, const char *type)
{
    int count = 0;
    for (size_t i = 0; i < n; i++) {
        const Onnx__NodeProto *node = nodes[i];
        bool is_onnx = !node->domain || !*node->domain || !strcmp(node->domain, "ai.onnx");
        count += is_onnx && !strcmp(node->op_type, type);
        for (size_t k = 0; k < node->n_attribute; k++)
            if (node->attribute[k]->g)
                count += count_nodes(node->attribute[k]->g->node, node->attribute[k]->g->n_node, type);
    }
    return count;
}

static int count_batchnorms(const Onnx__ModelProto *model)
{
    int count = count_nodes(model->graph->node, model->graph->n_node, "BatchNormalization");
    for (size_t i = 0; i < model->n_functions; i++)
        count += count_nodes(model->functions[i]->node, model->functions[i]->n_node, "BatchNormalization");
    return count;
}

/* Whether the result is other than one of the models. */
static bool mixes(const PapaSoupJob *job)
{
    const PapaSoupReport *report = job->report;
    for (int k = 0; k < job->n + (job->options->base != NULL); k++)
        if (report->ingredients[k].weight != 0 && report->ingredients[k].weight != 1)
            return true;
    return false;
}

static void remark_statistics(const PapaSoupJob *job)
{
    int count = count_batchnorms(papa_onnx_model(papa_ingredients_model(job->ingredients, 0)->onnx));
    char line[320];
    if (!count || !job->hooks->remark || !mixes(job))
        return;
    snprintf(line, sizeof line,
        "the running means and variances of %d BatchNormalization node%s are merged like weights, and seldom fit what the merged network computes; "
        "with data they are measured anew", count, count > 1 ? "s" : "");
    job->hooks->remark(job->hooks->context, line);
}

PapaStatus papa_soup_write(const PapaSoupJob *job)
{
    PapaMergeOptions options;
    PapaEdit *edit = NULL;
    PapaMerge *merge = NULL;
    papa_soup_merge_options(&options, job->options, NULL);
    PAPA_TRY(papa_soup_merge(&edit, &merge, job, &options));
    remark_statistics(job);
    PapaStatus status = papa_soup_finish(job, edit);
    papa_merge_free(merge);
    papa_edit_free(edit);
    return status;
}
