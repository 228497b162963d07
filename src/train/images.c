#include "train/images.h"

#include "train/metadata.h"
#include "train/train_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- do they go together? */

/* Whether the data set's classes have no names but their numbers. */
static bool classes_are_numbered(const PapaDataInfo *info)
{
    char number[16];
    bool numbered = true;
    for (int c = 0; c < info->n_classes; c++) {
        snprintf(number, sizeof number, "%d", c);
        numbered &= strcmp(info->class_names[c], number) == 0;
    }
    return numbered;
}

/* Folders of classes number them in the order of their own names: two of them agree only where the names do. */
static PapaStatus check_same_classes(const PapaDataInfo *data, const PapaDataInfo *other)
{
    if (other->n_classes > data->n_classes)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: has %d classes, the training images of %s have %d", other->name, other->n_classes, data->name,
            data->n_classes);
    if (classes_are_numbered(data) || classes_are_numbered(other))
        return PAPA_OK;
    for (int c = 0; c < other->n_classes; c++)
        if (strcmp(other->class_names[c], data->class_names[c]) != 0)
            return papa_fail(PAPA_ERR_MISMATCH, "%s: class %d is '%s', in the training images of %s it is '%s'", other->name, c, other->class_names[c],
                data->name, data->class_names[c]);
    return PAPA_OK;
}

PapaStatus papa_images_check_same(const PapaData *data, const PapaData *other, const char *what)
{
    PapaDataInfo a = papa_data_info(data), b = papa_data_info(other);
    if (a.channels != b.channels || a.height != b.height || a.width != b.width)
        return papa_fail(PAPA_ERR_MISMATCH, "%s: %s of %lldx%lldx%lld, training images of %s are %lldx%lldx%lld", b.name, what, (long long)b.channels,
            (long long)b.height, (long long)b.width, a.name, (long long)a.channels, (long long)a.height, (long long)a.width);
    return check_same_classes(&a, &b);
}

PapaStatus papa_images_open_test(PapaData **out, const PapaData *data, const char *name, PapaSplit split, PapaImageSize size, const PapaHooks *hooks)
{
    PapaDataInfo info = papa_data_info(data);
    *out = NULL;
    if (!name && split == PAPA_SPLIT_TEST && !papa_data_has_splits(data)) {
        papa_remark(hooks, "%s has no test images: there will be no test scores", info.name);
        return PAPA_OK;
    }
    PAPA_TRY(papa_data_open(out, name ? name : info.name, split, size, hooks));
    PapaStatus status = papa_images_check_same(data, *out, "test images");
    if (status != PAPA_OK) {
        papa_data_close(*out);
        *out = NULL;
    }
    return status;
}

/* ---------------------------------------------------------------- normalisation */

PapaStatus papa_images_given_normalization(double *mean, double *std, const PapaNormalizationPlan *plan)
{
    PapaDataInfo info = papa_data_info(plan->data);
    if (plan->n_given != info.channels)
        return papa_fail(PAPA_ERR_ARGUMENT, "mean and std have %d values, images of %s have %lld channel%s", plan->n_given, info.name,
            (long long)info.channels, info.channels == 1 ? "" : "s");
    for (int c = 0; c < plan->n_given; c++) {
        if (!(plan->std[c] > 0))
            return papa_fail(PAPA_ERR_ARGUMENT, "std is %g, expected more than 0", (double)plan->std[c]);
        mean[c] = plan->mean[c];
        std[c] = plan->std[c];
    }
    return PAPA_OK;
}

static PapaStatus measure(double *mean, double *std, const PapaNormalizationPlan *plan)
{
    if (plan->indices)
        return papa_data_stats(mean, std, plan->data, plan->indices, plan->n, plan->pool);
    int64_t n = papa_data_info(plan->data).n;
    uint32_t *all = malloc((size_t)n * sizeof *all);
    if (!all)
        return papa_fail_memory((size_t)n * sizeof *all, "image numbers");
    for (int64_t i = 0; i < n; i++)
        all[i] = (uint32_t)i;
    PapaStatus status = papa_data_stats(mean, std, plan->data, all, n, plan->pool);
    free(all);
    return status;
}

PapaStatus papa_images_normalization(double *mean, double *std, const PapaNormalizationPlan *plan, const PapaHooks *hooks)
{
    PapaDataInfo info = papa_data_info(plan->data);
    bool found;
    if (plan->n_given)
        return papa_images_given_normalization(mean, std, plan);
    PAPA_TRY(papa_metadata_normalization(&found, mean, std, plan->onnx, info.name, (int)info.channels));
    if (found)
        return PAPA_OK;
    papa_remark(hooks, "%s does not say how its images are normalised: taking the statistics of %s", papa_onnx_path(plan->onnx), info.name);
    return measure(mean, std, plan);
}
