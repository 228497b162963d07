/* The files of a run, and what they say about themselves (metadata.h). */
#include "train/training.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *papa_training_path(const PapaTraining *t, const char *name)
{
    char *path;
    if (asprintf(&path, "%s/%s", t->options.out, name) < 0) {
        papa_fail_memory(strlen(t->options.out) + strlen(name), "a file name");
        return NULL;
    }
    return path;
}

/* ---------------------------------------------------------------- metadata */

static PapaStatus describe_recipe(const PapaTraining *t, PapaMetadata *m)
{
    const PapaTrainOptions *o = &t->options;
    PAPA_TRY(papa_metadata_set(m, "papa.method", "%s", papa_method_name(o->method)));
    PAPA_TRY(papa_metadata_set(m, "papa.population", "%d", o->population));
    PAPA_TRY(papa_metadata_set(m, "papa.seed", "%llu", (unsigned long long)o->seed));
    PAPA_TRY(papa_metadata_set(m, "papa.steps", "%lld", (long long)t->reached));
    PAPA_TRY(papa_metadata_set(m, "papa.init", "%s", papa_init_name(o->init)));
    if (o->method == PAPA_METHOD_PAPA) {
        PAPA_TRY(papa_metadata_set_number(m, "papa.alpha", o->alpha));
        PAPA_TRY(papa_metadata_set(m, "papa.every", "%d", o->every));
    }
    if (o->method == PAPA_METHOD_ALL || o->method == PAPA_METHOD_2)
        PAPA_TRY(papa_metadata_set(m, "papa.every_epochs", "%d", o->every_epochs));
    PAPA_TRY(papa_metadata_set(m, "papa.optimizer", "%s", papa_optimizer_name(o->optimizer)));
    PAPA_TRY(papa_metadata_set(m, "papa.schedule", "%s", papa_schedule_name(o->schedule)));
    PAPA_TRY(papa_metadata_set_number(m, "papa.lr", o->lr));
    PAPA_TRY(papa_metadata_set_number(m, "papa.lr_min", o->lr_min));
    PAPA_TRY(papa_metadata_set_number(m, "papa.weight_decay", o->weight_decay));
    PAPA_TRY(papa_metadata_set(m, "papa.batch", "%lld", (long long)t->trainer.batch));
    return papa_metadata_set(m, "papa.epochs", "%d", o->epochs);
}

static PapaStatus describe_input(const PapaTraining *t, PapaMetadata *m)
{
    PapaDataInfo info = papa_data_info(t->data);
    int C = (int)info.channels;
    bool folded = t->options.fold_normalization;
    const double zeros[PAPA_MAX_CHANNELS] = {0}, ones[PAPA_MAX_CHANNELS] = {1, 1, 1, 1};
    PAPA_TRY(papa_metadata_set_numbers(m, "papa.normalization.mean", folded ? zeros : t->mean, C));
    PAPA_TRY(papa_metadata_set_numbers(m, "papa.normalization.std", folded ? ones : t->std, C));
    if (folded)
        PAPA_TRY(papa_metadata_set(m, "papa.normalization.folded", "true"));
    PAPA_TRY(papa_metadata_set(m, "papa.input.size", "%lldx%lldx%lld", (long long)info.channels, (long long)info.height, (long long)info.width));
    PAPA_TRY(papa_metadata_set_classes(m, info.class_names, info.n_classes));
    if (C != 1 && C != 3)
        return PAPA_OK;
    PAPA_TRY(papa_metadata_set(m, "Image.BitmapPixelFormat", C == 1 ? "Gray8" : "Rgb8"));
    PAPA_TRY(papa_metadata_set(m, "Image.ColorSpaceGamma", "SRGB"));
    return folded ? papa_metadata_set(m, "Image.NominalPixelRange", "Normalized_0_1") : PAPA_OK;
}

/* Equal weights over those of the members that are taken; NULL: all. */
static PapaStatus describe_members(PapaMetadata *m, const PapaTraining *t, const bool *taken)
{
    double members[PAPA_MIX_MAX], weights[PAPA_MIX_MAX];
    int n = 0;
    for (int j = 0; j < t->options.population; j++)
        if (!taken || taken[j])
            members[n++] = j;
    for (int k = 0; k < n; k++)
        weights[k] = 1.0 / n;
    PAPA_TRY(papa_metadata_set_numbers(m, "papa.members", members, n));
    return papa_metadata_set_numbers(m, "papa.weights", weights, n);
}

static PapaStatus describe(PapaMetadata *m, const PapaTraining *t, const char *kind, const bool *taken, const PapaScore *val,
    const PapaScore *test)
{
    PAPA_TRY(papa_metadata_forget(m, t->model->onnx));
    PAPA_TRY(papa_metadata_set(m, "papa.kind", "%s", kind));
    PAPA_TRY(describe_recipe(t, m));
    PAPA_TRY(describe_members(m, t, taken));
    PAPA_TRY(papa_metadata_set_scores(m, val, test));
    return describe_input(t, m);
}

/* ---------------------------------------------------------------- edits */

/* The edits that turn the model's file into this network. */
static PapaStatus make_edit(PapaEdit **out, const PapaTraining *t, const float *store)
{
    size_t bytes = (size_t)t->model->store.n_total * sizeof *store;
    float *host = malloc(bytes);
    if (!host)
        return papa_fail_memory(bytes, "a network to export");
    PapaDataInfo info = papa_data_info(t->data);
    PapaImageFormat format;
    papa_image_format(&format, (PapaImageSize){info.channels, info.height, info.width}, false, t->mean, t->std);
    PapaInputScale scale = {.size = {info.channels, info.height, info.width}};
    for (int64_t c = 0; c < info.channels; c++) {
        scale.scale[c] = (float)(1 / t->std[c]);
        scale.shift[c] = format.shift[c];
    }
    PapaStatus status;
    PAPA_GOTO(papa_device_download(t->crew.main, host, store, bytes));
    PAPA_GOTO(papa_model_edit(out, t->model, host, t->options.fold_normalization ? &scale : NULL));
out:
    free(host);
    return status;
}

static PapaStatus write_network(const PapaTraining *t, const float *store, const PapaMetadata *metadata, const char *name)
{
    PapaEdit *edit = NULL;
    char *path = papa_training_path(t, name);
    PapaStatus status = path ? make_edit(&edit, t, store) : PAPA_ERR_MEMORY;
    for (int i = 0; i < metadata->n && status == PAPA_OK; i++)
        status = papa_edit_set_metadata(edit, metadata->pairs[i][0], metadata->pairs[i][1]);
    if (status == PAPA_OK)
        status = papa_edit_write(edit, path);
    papa_edit_free(edit);
    free(path);
    return status;
}

/* ---------------------------------------------------------------- files */

static PapaStatus write_member(const PapaTraining *t, const PapaTrainReport *report, int j)
{
    PapaMetadata m = {0};
    const PapaRecipe *recipe = &t->trainer.members[j].recipe;
    char name[32];
    bool only[PAPA_MIX_MAX] = {false};
    only[j] = true;
    snprintf(name, sizeof name, "member-%d.onnx", j);
    PapaStatus status;
    PAPA_GOTO(describe(&m, t, "member", only, &report->held_out.members[j], &report->test.members[j]));
    PAPA_GOTO(papa_metadata_set(&m, "papa.regularization", "mixup=%g,cutmix=%g,smoothing=%g,erasing=%g", (double)recipe->mixup,
        (double)recipe->cutmix, (double)recipe->smoothing, (double)recipe->erasing));
    status = write_network(t, t->trainer.stores[j], &m, name);
out:
    papa_metadata_free(&m);
    return status;
}

static PapaStatus write_soup(const PapaTraining *t, const char *kind, const float *store, const bool *taken, bool repaired, const PapaScore *val,
    const PapaScore *test)
{
    PapaMetadata m = {0};
    char name[32];
    snprintf(name, sizeof name, "%s.onnx", kind);
    PapaStatus status;
    PAPA_GOTO(describe(&m, t, kind, taken, val, test));
    PAPA_GOTO(papa_metadata_set(&m, "papa.repaired", repaired ? "true" : "false"));
    status = write_network(t, store, &m, name);
out:
    papa_metadata_free(&m);
    return status;
}

static PapaStatus write_ensemble(const PapaTraining *t, const PapaTrainReport *report)
{
    int p = t->options.population;
    const PapaHead *head = &t->model->head;
    bool probabilities = t->options.ensemble == PAPA_ENSEMBLE_PROBABILITIES;
    PapaMetadata m = {0};
    PapaEnsembleMember members[PAPA_MIX_MAX] = {0};
    PapaEdit *edits[PAPA_MIX_MAX] = {0};
    char *path = papa_training_path(t, "ensemble.onnx");
    PapaStatus status = path ? PAPA_OK : PAPA_ERR_MEMORY;
    for (int j = 0; j < p && status == PAPA_OK; j++) {
        status = make_edit(&edits[j], t, t->trainer.stores[j]);
        members[j] = (PapaEnsembleMember){.onnx = t->model->onnx, .edit = edits[j], .output = head->logits, .weight = 1};
    }
    if (status != PAPA_OK)
        goto out;
    PapaEnsembleOptions options = {.output = head->output, .softmax = head->softmax, .softmax_axis = head->softmax ? head->softmax_axis : 1,
        .probabilities = probabilities};
    PAPA_GOTO(describe(&m, t, "ensemble", NULL, &report->held_out.ensemble, &report->test.ensemble));
    PAPA_GOTO(papa_metadata_set(&m, "papa.ensemble", probabilities ? "probabilities" : "logits"));
    status = papa_ensemble_write(members, p, &options, (const char *const (*)[2])m.pairs, m.n, path);
out:
    for (int j = 0; j < p; j++)
        papa_edit_free(edits[j]);
    papa_metadata_free(&m);
    free(path);
    return status;
}

PapaStatus papa_training_export(PapaTraining *t, const PapaTrainReport *report)
{
    for (int j = 0; j < t->options.population; j++)
        PAPA_TRY(write_member(t, report, j));
    PAPA_TRY(write_soup(t, "soup", t->soup, NULL, t->repair != NULL, &report->held_out.soup, &report->test.soup));
    bool recalibrated = t->repair && papa_repair_has_statistics(t->repair) && report->n_greedy > 1;
    if (t->has_greedy)
        PAPA_TRY(write_soup(t, "greedy", t->greedy, t->taken, recalibrated, &report->held_out.greedy, &report->test.greedy));
    return write_ensemble(t, report);
}
