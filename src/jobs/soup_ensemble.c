/* Ensembles: one file with all models in it, and the mean of what they say. */
#include "jobs/soup_job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_output(const Onnx__GraphProto *graph, const char *name)
{
    for (size_t i = 0; i < graph->n_output; i++)
        if (!strcmp(graph->output[i]->name, name))
            return true;
    return false;
}

/* "'a', 'b', ..." */
static const char *list_outputs(char *text, size_t size, const Onnx__GraphProto *graph)
{
    size_t used = 0;
    for (size_t i = 0; i < graph->n_output && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s'%.60s'", i ? ", " : "", graph->output[i]->name);
    return text;
}

/* The output of the first model that is averaged. */
static PapaStatus choose_first(const char **out, const PapaSoupJob *job)
{
    const PapaModel *model = papa_ingredients_model(job->ingredients, 0);
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    char text[400];
    PapaHead head;
    *out = job->options->judge.output;
    if (*out)
        return has_output(graph, *out) ? PAPA_OK : papa_fail(PAPA_ERR_ARGUMENT, "%s: has no output '%s', but %s", papa_onnx_path(model->onnx), *out,
            list_outputs(text, sizeof text, graph));
    if (graph->n_output == 1 || (!papa_model_head(&head, model, NULL) && head.n_outputs == 1)) {
        *out = graph->n_output == 1 ? graph->output[0]->name : head.output;
        return PAPA_OK;
    }
    return papa_fail(PAPA_ERR_ARGUMENT, "%s: has %zu outputs, %s: which one is to be averaged?", papa_onnx_path(model->onnx), graph->n_output,
        list_outputs(text, sizeof text, graph));
}

/* Another model's: the one of the same name, or its only one. */
static PapaStatus choose_other(const char **out, const PapaModel *model, const char *name)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    char text[400];
    *out = has_output(graph, name) ? name : graph->n_output == 1 ? graph->output[0]->name : NULL;
    return *out ? PAPA_OK : papa_fail(PAPA_ERR_MISMATCH, "%s: has no output '%s', but %s", papa_onnx_path(model->onnx), name, list_outputs(text, sizeof text, graph));
}

static size_t output_rank(const PapaModel *model, const char *name)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(model->onnx);
    for (size_t i = 0; i < graph->n_output; i++) {
        const Onnx__TypeProto__Tensor *type = papa_tensor_type(graph->output[i]);
        if (!strcmp(graph->output[i]->name, name))
            return type && type->shape ? type->shape->n_dim : 0;
    }
    return 0;
}

/* What is averaged stands in front of a final Softmax or LogSoftmax. Where its axis is none that can be told for any rank the output itself is taken. */
static void find_head(PapaHead *out, const PapaModel *model, const char *output)
{
    *out = (PapaHead){.output = output};
    bool found = !papa_model_find_logits(out, model);
    bool by_rows = papa_onnx_opset(model->onnx, "") >= 13 || output_rank(model, output) == 2; /* before, a Softmax joined axes */
    if (!found || !by_rows)
        *out = (PapaHead){.output = output, .logits = output};
}

static PapaStatus find_heads(PapaHead *heads, const PapaSoupJob *job)
{
    const PapaModel *first = papa_ingredients_model(job->ingredients, 0);
    for (int k = 0; k < job->n; k++) {
        const PapaModel *model = papa_ingredients_model(job->ingredients, k);
        const char *output;
        PAPA_TRY(k ? choose_other(&output, model, heads[0].output) : choose_first(&output, job));
        find_head(&heads[k], model, output);
        if (heads[k].softmax != heads[0].softmax || (heads[k].softmax && heads[k].softmax_axis != heads[0].softmax_axis)) {
            static const char *const kinds[] = {"no softmax", "a Softmax", "a LogSoftmax"};
            return papa_fail(PAPA_ERR_MISMATCH, "%s: output '%s' is made by %s; %s: '%s' by %s, and one can't be averaged with the other",
                papa_onnx_path(first->onnx), heads[0].output, kinds[heads[0].softmax], papa_onnx_path(model->onnx), heads[k].output, kinds[heads[k].softmax]);
        }
    }
    if (job->options->ensemble == PAPA_ENSEMBLE_PROBABILITIES && !heads[0].softmax && output_rank(first, heads[0].output) != 2)
        return papa_fail(PAPA_ERR_ARGUMENT, "%s: output '%s' is no classifier's (neither of rank 2 nor made by a softmax): it has no probabilities to average",
            papa_onnx_path(first->onnx), heads[0].output);
    return PAPA_OK;
}

static void remark_outputs(const PapaSoupJob *job, const char *output)
{
    const Onnx__GraphProto *graph = papa_onnx_graph(papa_ingredients_model(job->ingredients, 0)->onnx);
    char line[320];
    if (graph->n_output < 2 || !job->hooks->remark)
        return;
    snprintf(line, sizeof line, "the ensemble has the output '%.200s'; %zu other%s left out", output, graph->n_output - 1,
        graph->n_output == 2 ? " is" : "s are");
    job->hooks->remark(job->hooks->context, line);
}

PapaStatus papa_soup_write_ensemble(const PapaSoupJob *job)
{
    const PapaSoupOptions *o = job->options;
    PapaMetadata metadata = {0};
    PapaHead *heads = calloc((size_t)job->n, sizeof *heads);
    PapaEnsembleMember *members = calloc((size_t)job->n, sizeof *members);
    PapaStatus status = heads && members ? find_heads(heads, job) : papa_fail_memory((size_t)job->n * sizeof *heads, "an ensemble");
    if (status || !o->out)
        goto out;
    for (int k = 0; k < job->n; k++)
        members[k] = (PapaEnsembleMember){.onnx = papa_ingredients_model(job->ingredients, k)->onnx, .output = heads[k].logits,
            .weight = job->report->ingredients[k].weight};
    PapaEnsembleOptions options = {.output = heads[0].output, .softmax = heads[0].softmax, .softmax_axis = heads[0].softmax ? heads[0].softmax_axis : 1,
        .probabilities = o->ensemble == PAPA_ENSEMBLE_PROBABILITIES};
    PAPA_GOTO(papa_soup_metadata(&metadata, job));
    PAPA_GOTO(papa_ensemble_write(members, job->n, &options, (const char *const (*)[2])metadata.pairs, metadata.n, o->out));
    remark_outputs(job, heads[0].output);
out:
    papa_metadata_free(&metadata);
    free(heads);
    free(members);
    return status;
}
