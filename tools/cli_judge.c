#include "tools/cli_judge.h"

#include <string.h>

/* As PapaSplit and PapaPrecision count them. */
static const char *const splits[] = {"train", "test", NULL};
static const char *const precisions[] = {"fp32", "tf32", "bf16", NULL};

#define GIVEN(name) .given = &judge->given.name

void cli_judge_options(CliOption *to, CliJudge *judge)
{
    PapaJudgeOptions *o = judge->options;
    const CliOption table[] = {
        {CLI_GROUP, .text = judge->heading},
        {CLI_STRING, "data", .to = &o->data, .value = "DATA", GIVEN(data), .fallback = "",
            .text = "training images: a data set's name, a folder of IDX or CIFAR files, or a folder with one folder of JPEG files per class"},
        {CLI_STRING, "val-data", .to = &o->val_data, .value = "DATA", GIVEN(val_data), .fallback = "held out from --data",
            .text = "images to choose on, and to score on where there are no test images: its training images"},
        {CLI_FLOAT, "val", .to = &o->val_fraction, .value = "FRACTION", .range = CLI_BELOW(0, 1), GIVEN(val),
            .text = "fraction of --data's training images that is held out"},
        {CLI_STRING, "test-data", .to = &o->test_data, .value = "DATA", GIVEN(test_data), .fallback = "--data",
            .text = "data set for the scores that nothing is chosen on"},
        {CLI_CHOICE, "split", .to = &o->test_split, .choices = splits, GIVEN(split), .text = "split of it"},
        {CLI_LIST, "mean", .to = o->mean, .value = "LIST", .count = &judge->n_mean, .max_count = 4, GIVEN(norm),
            .fallback = "the first file's metadata, or else measured on the training images", .text = "per-channel mean that is subtracted, on a scale of 0 to 1"},
        {CLI_LIST, "std", .to = o->std, .value = "LIST", .count = &judge->n_std, .max_count = 4, .range = CLI_ABOVE(0), GIVEN(norm), .fallback = "likewise",
            .text = "per-channel standard deviation that is divided by"},
        {CLI_STRING, "output", .to = &o->output, .value = "NAME", GIVEN(output), .fallback = "the only one, or the first of rank 2", .text = judge->output},
        {CLI_FLAG, "flip", .to = &o->flip, GIVEN(flip), .text = "measure statistics and activations on images that are flipped at random, as in training"},
        {CLI_INT, "crop", .to = &o->crop, .value = "PIXELS", .range = CLI_FROM(0), GIVEN(crop), .fallback = "0: off",
            .text = "likewise, padded by this much and cropped at random"},
        {CLI_INT, "repair-batches", .to = &o->repair_batches, .value = "N", .range = CLI_FROM(0), GIVEN(repair_batches),
            .fallback = "5, or 25 from 100000 images on", .text = "batches that statistics and activations are measured on"},
        {CLI_INT, "batch", .letter = 'b', .to = &o->batch, .value = "N", .range = CLI_FROM(1), GIVEN(batch), .text = "images at a time"},
        {CLI_STRING, "device", .to = &o->device.device, .value = "DEVICE", GIVEN(device), .fallback = "auto",
            .text = "that images go through: auto, cpu, cuda or cuda:0"},
        {CLI_CHOICE, "precision", .to = &o->device.precision, .choices = precisions, GIVEN(precision), .text = "of a GPU: see papa-train"},

        {CLI_GROUP, .text = "Running"},
        {CLI_SEED, "seed", .to = judge->seed, .value = "N", .text = "of every random number"},
        {CLI_INT, "threads", .to = &o->device.threads, .value = "N", .range = CLI_FROM(0), .fallback = "the cores at hand", .text = "CPU threads in all"},
        {CLI_FLAG, "json", .to = judge->json, .text = "print JSON"},
        {.text = NULL},
    };
    _Static_assert(sizeof table / sizeof *table == CLI_JUDGE_OPTIONS, "one entry each");
    memcpy(to, table, sizeof table);
}

const char *cli_judge_needy(const CliJudge *judge)
{
    const struct {
        bool given;
        const char *option;
    } all[] = {
        {judge->given.val_data, "--val-data"}, {judge->given.val, "--val"}, {judge->given.test_data, "--test-data"}, {judge->given.split, "--split"},
        {judge->given.norm, "--mean and --std"}, {judge->given.flip, "--flip"}, {judge->given.crop, "--crop"},
        {judge->given.repair_batches, "--repair-batches"}, {judge->given.batch, "--batch"}, {judge->given.device, "--device"},
        {judge->given.precision, "--precision"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].given)
            return all[i].option;
    return NULL;
}

int cli_judge_check(const CliProgram *program, CliJudge *judge)
{
    if (judge->given.val_data && judge->given.val)
        return cli_usage_error(program, "--val and --val-data exclude each other");
    if (judge->n_mean != judge->n_std)
        return cli_usage_error(program, "--mean has %d values and --std %d, expected one per channel in both", judge->n_mean, judge->n_std);
    judge->options->n_norm = judge->n_mean;
    return CLI_CONTINUE;
}
