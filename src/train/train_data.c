/* What a run trains on: the model with its selection, the images, who is held out, how pixels become numbers. */
#include "train/images.h"
#include "train/training.h"

#include <stdio.h>
#include <string.h>

/* A network with another normalisation never had one. */
static bool may_lack_batchnorm(const PapaModel *model)
{
    bool convolves = false, normalizes = false;
    for (int i = 0; i < model->n_params; i++) {
        convolves |= model->params[i].role == PAPA_ROLE_WEIGHT && model->params[i].shape.rank > 2;
        normalizes |= model->params[i].is_normalization;
    }
    return convolves && !normalizes;
}

PapaStatus papa_training_open_model(PapaTraining *t, const PapaModel *model)
{
    const PapaTrainOptions *o = &t->options;
    PAPA_TRY(papa_model_open(&t->model, papa_onnx_path(model->onnx)));
    PapaModelSelection selection = {.output = o->output, .train = o->train, .freeze = o->freeze, .freeze_bn = o->freeze_bn,
        .decay_all = o->decay_all, .make_biases = true};
    PAPA_TRY(papa_model_select(t->model, &selection));
    if (may_lack_batchnorm(t->model))
        papa_remark(t->hooks, "%s has convolutions but no BatchNormalization (folded away, or never there): it trains without",
            papa_onnx_path(t->model->onnx));
    const PapaHead *head = &t->model->head;
    if (!o->output && head->n_outputs > 1)
        papa_remark(t->hooks, "the classifier is output '%s', the first of %d that could be", head->output, head->n_outputs);
    if (head->squashed)
        papa_remark(t->hooks, "output '%s' comes out of a %s, from 0 to 1: the loss takes it for scores of any size", head->output, head->squashed);
    return PAPA_OK;
}

/* ---------------------------------------------------------------- images */

static bool fits(int64_t model, int64_t data)
{
    return model == 0 || model == data;
}

/* Fashion-MNIST is taken unasked only where it is plainly meant. */
static PapaStatus default_data(PapaTraining *t)
{
    const PapaHead *head = &t->model->head;
    bool shape = head->input_rank == 2 ? head->features == 28 * 28 : fits(head->size.channels, 1) && fits(head->size.height,
        28) && fits(head->size.width, 28);
    if (shape && fits(head->n_classes, 10)) {
        t->options.data = "fashion-mnist";
        papa_remark(t->hooks, "data: fashion-mnist, which fits the model");
        return PAPA_OK;
    }
    char size[80];
    if (head->input_rank == 2)
        snprintf(size, sizeof size, "%lld features", (long long)head->features);
    else
        snprintf(size, sizeof size, "%lldx%lldx%lld", (long long)head->size.channels, (long long)head->size.height, (long long)head->size.width);
    return papa_fail(PAPA_ERR_ARGUMENT,
        "%s: takes images of %s and tells %d classes apart, so fashion-mnist (1x28x28, 10 classes) does not fit: name a data set",
        papa_onnx_path(t->model->onnx), size, head->n_classes);
}

PapaStatus papa_training_open_data(PapaTraining *t)
{
    const PapaTrainOptions *o = &t->options;
    PapaImageSize size = t->model->head.size;
    if (!o->data)
        PAPA_TRY(default_data(t));
    PapaStatus status = papa_data_open(&t->data, o->data, PAPA_SPLIT_TRAIN, size, t->hooks);
    if (status == PAPA_ERR_MISMATCH) /* the size is the model's */
        return papa_fail_in(status, "%s", papa_onnx_path(t->model->onnx));
    PAPA_TRY(status);
    PAPA_TRY(papa_images_open_test(&t->test, t->data, o->test_data, o->test_split, size, t->hooks));
    PAPA_TRY(papa_data_split(&t->parts, t->data, o->val_fraction, o->seed));
    PapaDataInfo info = papa_data_info(t->data);
    int n_classes = t->model->head.n_classes;
    if (n_classes > info.n_classes)
        papa_remark(t->hooks, "the model has %d classes, %s has %d: the others get no images", n_classes, info.name, info.n_classes);
    return PAPA_OK;
}

PapaStatus papa_training_normalize(PapaTraining *t)
{
    const PapaTrainOptions *o = &t->options;
    PapaDataInfo info = papa_data_info(t->data);
    bool found = false;
    if (!o->n_norm && o->init == PAPA_INIT_FILE) /* its weights know images as they were then */
        PAPA_TRY(papa_metadata_normalization(&found, t->mean, t->std, t->model->onnx, info.name, (int)info.channels));
    if (found) {
        papa_remark(t->hooks, "images are normalised as %s says", papa_onnx_path(t->model->onnx));
        return PAPA_OK;
    }
    if (!o->n_norm && t->model->head.normalizes)
        papa_remark(t->hooks, "%s seems to normalise its input itself (%s) and is fed normalised images; --mean %s feed it pixels from 0 to 1",
            papa_onnx_path(t->model->onnx), t->model->head.normalizes, info.channels == 3 ? "0,0,0 --std 1,1,1" : "0 --std 1");
    if (!o->n_norm)
        return papa_data_stats(t->mean, t->std, t->data, t->parts.train, t->parts.n_train, t->crew.pool);
    PapaNormalizationPlan plan = {.n_given = o->n_norm, .mean = o->mean, .std = o->std, .data = t->data};
    return papa_images_given_normalization(t->mean, t->std, &plan);
}
