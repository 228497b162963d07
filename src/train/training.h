/* A whole run of papa_train: from options to files. The parts that only the files of this run know. */
#ifndef PAPA_TRAINING_H
#define PAPA_TRAINING_H

#include "soup/repair.h"
#include "train/deferred.h"
#include "train/metadata.h"
#include "train/metrics.h"
#include "train/progress.h"
#include "train/sampler.h"
#include "train/train_options.h"
#include "train/trainer.h"

typedef struct PapaTraining {
    PapaTrainOptions options;    /* resolved */
    const PapaHooks *hooks;      /* those of deferred */
    PapaDeferred deferred;
    PapaModel *model;            /* own handle: its selection is this run's */

    PapaData *data, *test;       /* test: NULL where there are no test images */
    PapaHeldOut parts;
    double mean[PAPA_MAX_CHANNELS], std[PAPA_MAX_CHANNELS];

    PapaCrewPlan crew_plan;
    PapaCrew crew;
    PapaTrainer trainer;
    PapaScorer val, on_test;
    atomic_llong n_done;         /* batches of the phase behind training */
    PapaMeter meter;
    PapaMetrics metrics;

    PapaRepair *repair;          /* NULL: nothing is repaired */
    PapaSampler sampler;         /* makes its batches */

    float **near;                /* by member: its store, or a copy of it, where crew.main reaches it */
    float **copies;              /* by member: memory for the copy; NULL: the store itself is near */
    float **spare;               /* n_spare stores: children of papa-all and papa-2; later the soups */
    int n_spare;
    float *plain, *soup, *greedy; /* device stores; soups */
    bool *taken;                 /* by member: in the greedy soup */
    bool has_greedy;             /* there were held-out images to choose on */
    int64_t reached;             /* steps done by every member */
    bool stopped;

    size_t folder_there;         /* length of the part of options.out that was there before */
    bool folder_made;
} PapaTraining;

/* ---- train_data.c ---- */

/* Opens model, training and test data, holds out, and finds the normalisation. */
PapaStatus papa_training_open_model(PapaTraining *t, const PapaModel *model);
PapaStatus papa_training_open_data(PapaTraining *t);
PapaStatus papa_training_normalize(PapaTraining *t); /* needs the crew */

/* ---- train_folder.c ---- */

PapaStatus papa_training_make_folder(PapaTraining *t);
/* Removes what make_folder made, as far as it is empty. */
void papa_training_remove_folder(const PapaTraining *t);

/* ---- train_repair.c ---- */

PapaStatus papa_training_open_repair(PapaTraining *t);

/* Replaces all members by the means of all (papa-all) or of pairs (papa-2), repaired. */
PapaStatus papa_training_average(PapaTraining *t, int epoch);

/* ---- condense.c ---- */

/* Brings near up to date with the members, which are at rest. */
PapaStatus papa_training_bring_near(PapaTraining *t);

/* Makes the soups and takes the final scores. */
PapaStatus papa_training_condense(PapaTraining *t, PapaTrainReport *report);

/* ---- train_export.c ---- */

PapaStatus papa_training_export(PapaTraining *t, const PapaTrainReport *report);

/* Path of a file in the output folder; NULL when memory runs out. Free it. */
char *papa_training_path(const PapaTraining *t, const char *name);

#endif
