/* papa: train, merge and align neural networks in ONNX form.
 *
 * The one public header. Opaque handles, options structs with documented defaults, a status from everything that can
 * fail. The library never prints and never exits: remarks and progress go to the caller's hooks.
 *
 * Shapes are written in ONNX's order (N, C, H, W) and sizes are in elements unless a name says bytes. Strings are UTF-8; those passed
 * in are borrowed for the call, those handed out belong to the handle they came from. Functions are safe to call from several threads
 * on different handles. Closing or freeing NULL does nothing. A function that fails leaves nothing to free. */
#ifndef PAPA_H
#define PAPA_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- status */

typedef enum PapaStatus {
    PAPA_OK = 0,
    PAPA_ERR_ARGUMENT,    /* an option or argument makes no sense; nothing was done */
    PAPA_ERR_IO,          /* a file or folder can't be read or written */
    PAPA_ERR_FORMAT,      /* a file is not what it should be: not ONNX, truncated, a corrupt image */
    PAPA_ERR_UNSUPPORTED, /* well-formed, but uses something that papa lacks: an operator, a type, an opset */
    PAPA_ERR_MISMATCH,    /* two things don't fit together: model and data, model and model */
    PAPA_ERR_MEMORY,      /* out of memory, on the host or on the device */
    PAPA_ERR_DEVICE,      /* the device or one of its libraries failed or is not there */
    PAPA_ERR_NUMERIC,     /* a loss or a weight is not a finite number; a proof fails */
    PAPA_ERR_STOPPED,     /* the caller's stop flag was set before there was anything to deliver */
} PapaStatus;

/* One line about the last failure on this thread: which file, node, tensor or image; what was expected and found. Valid until the
 * next failure on this thread; "" before the first. */
const char *papa_error(void);

/* "major.minor.patch" of the library. */
const char *papa_version(void);

/* ---------------------------------------------------------------- hooks */

typedef enum PapaPhase {
    PAPA_PHASE_TRAIN,    /* steps of members */
    PAPA_PHASE_EVALUATE, /* batches of networks */
    PAPA_PHASE_REPAIR,   /* batches through parents and child */
    PAPA_PHASE_SOUP,     /* choosing the greedy soup: batches of its candidates */
    PAPA_PHASE_LOAD,     /* images that are decoded */
    PAPA_PHASE_PROVE,    /* groups of units that are proved */
    PAPA_PHASE_ALIGN,    /* searches for a matching */
    PAPA_PHASE_LEARN,    /* steps that learn a soup's weights */
} PapaPhase;

typedef struct PapaProgress {
    PapaPhase phase;
    int64_t done, total;      /* of what the phase counts, over all members */
    int64_t n_images;         /* images this phase has gone through so far */
    double seconds;           /* since the phase began */
    int epoch, n_epochs;      /* PAPA_PHASE_TRAIN: the epoch under way, from 1 */
    double loss;              /* PAPA_PHASE_TRAIN: mean over the members' last steps; NaN before the first */
    double learning_rate;     /* PAPA_PHASE_TRAIN: of the last step */
} PapaProgress;

/* All members may be NULL. Called on the thread that called the library; progress at most about ten times a second, and at a phase's end. */
typedef struct PapaHooks {
    void *context;
    void (*remark)(void *context, const char *line);                /* one line that the user should see */
    void (*progress)(void *context, const PapaProgress *progress);
    const volatile sig_atomic_t *stop;  /* non-zero: training finishes its step and the rest of the call delivers what there is; a call
                                           that has nothing to deliver fails with PAPA_ERR_STOPPED */
} PapaHooks;

/* ---------------------------------------------------------------- devices */

/* How a GPU computes products of matrices and convolutions. The CPU has float32 only. */
typedef enum PapaPrecision {
    PAPA_PRECISION_FP32, /* float32 throughout */
    PAPA_PRECISION_TF32, /* float32 in memory; products on tensor cores, with 10 bits of each factor's fraction */
    PAPA_PRECISION_BF16, /* bfloat16 activations and products; weights, optimiser, statistics, sums and the loss in float32 */
} PapaPrecision;

typedef struct PapaDeviceOptions {
    const char *device; /* "auto" (default; CUDA where one is usable), "cpu", "cuda", "cuda:0,1" */
    PapaPrecision precision; /* PAPA_PRECISION_FP32 (default). The others need CUDA */
    bool tune;          /* false (default). true: CUDA times several plans for each convolution before it begins, and keeps the fastest */
    int threads;        /* CPU threads in all; 0 (default): the cores that the process may use */
    bool deterministic; /* false (default). true: one thread per member, so that the result does not depend on threads */
} PapaDeviceOptions;

/* ---------------------------------------------------------------- data sets */

typedef struct PapaData PapaData;

typedef enum PapaSplit { PAPA_SPLIT_TRAIN, PAPA_SPLIT_TEST } PapaSplit;

/* What a model expects of an image, so that a data set can decode to it. 0: as the data set has it. */
typedef struct PapaImageSize {
    int64_t channels, height, width;
} PapaImageSize;

/* Opens a data set. name is
 *   - a name that papa knows where to find: "fashion-mnist" (Debian's dataset-fashion-mnist);
 *   - a folder with the four MNIST-named IDX files, plain or gzip (train-images-idx3-ubyte[.gz], ...), or with
 *     CIFAR-10/100 binary files (data_batch_1.bin, ..., test_batch.bin; train.bin, test.bin);
 *   - a folder with one folder of JPEG files per class, or with train/ and test/ (or val/) folders of such. Classes are
 *     numbered in byte order of their folders' names.
 * size says what a model takes: JPEG files are decoded to it (shorter side resized, centre crop; gray for one channel).
 * Where such a folder has no train/ and test/ both splits are all of its images.
 * Errors: PAPA_ERR_IO (not there), PAPA_ERR_FORMAT (names file and fault), PAPA_ERR_MISMATCH (images of another size, JPEG files for
 * channels other than 1 and 3), PAPA_ERR_MEMORY, PAPA_ERR_STOPPED. */
PapaStatus papa_data_open(PapaData **out, const char *name, PapaSplit split, PapaImageSize size, const PapaHooks *hooks);
void papa_data_close(PapaData *data);

typedef struct PapaDataInfo {
    int64_t n;                          /* images */
    int64_t channels, height, width;    /* of every image */
    int n_classes;
    const char *const *class_names;     /* n_classes of them, owned by the data set */
    const char *name;                   /* as opened */
} PapaDataInfo;

PapaDataInfo papa_data_info(const PapaData *data);

/* ---------------------------------------------------------------- models */

typedef struct PapaModel PapaModel;

/* Opens an ONNX file (mapped; tensors are read when they are needed). Errors: PAPA_ERR_IO, PAPA_ERR_FORMAT. */
PapaStatus papa_model_open(PapaModel **out, const char *path);
void papa_model_close(PapaModel *model);

typedef struct PapaModelInfo {
    const char *path;
    int64_t ir_version, opset;
    const char *input, *output;      /* the image input and the classifier's output, as chosen; owned by the model */
    PapaImageSize size;              /* of the input; 0 where the file leaves it open */
    int n_classes;                   /* 0 where the file leaves it open */
} PapaModelInfo;

/* output_name: which graph output is the classifier's; NULL: the only one, or the first float one of rank 2.
 * Errors: PAPA_ERR_MISMATCH (no such output, not an image classifier: says why). */
PapaStatus papa_model_info(PapaModelInfo *out, const PapaModel *model, const char *output_name);

/* ---------------------------------------------------------------- training */

typedef enum PapaMethod {
    PAPA_METHOD_PAPA, /* every few steps each member moves a little to the mean: w <- a w + (1 - a) mean, a following the rate */
    PAPA_METHOD_ALL,  /* every few epochs all become the mean, REPAIRed */
    PAPA_METHOD_2,    /* every few epochs they become the means of random pairs, REPAIRed */
    PAPA_METHOD_NONE, /* independent members */
} PapaMethod;

typedef enum PapaInit {
    PAPA_INIT_FILE,   /* every member starts from the file's weights */
    PAPA_INIT_RANDOM, /* every member draws its own */
    PAPA_INIT_SAME,   /* all start from member 0's draw */
} PapaInit;

typedef enum PapaOptimizer { PAPA_OPTIMIZER_SGD, PAPA_OPTIMIZER_ADAM, PAPA_OPTIMIZER_ADAMW } PapaOptimizer;
typedef enum PapaSchedule { PAPA_SCHEDULE_COSINE, PAPA_SCHEDULE_STEPS, PAPA_SCHEDULE_CONSTANT } PapaSchedule;
typedef enum PapaEnsembleMean { PAPA_ENSEMBLE_LOGITS, PAPA_ENSEMBLE_PROBABILITIES } PapaEnsembleMean;

#define PAPA_MAX_GRID 8

/* The values that one regularisation takes over the population; every member gets one cell of the Cartesian grid. n 0: only the value 0. */
typedef struct PapaGrid {
    float values[PAPA_MAX_GRID];
    int n;
} PapaGrid;

/* Behind each: its default, as papa_train_defaults sets it. A value out of range is PAPA_ERR_ARGUMENT and names the field. */
typedef struct PapaTrainOptions {
    /* data */
    const char *data;         /* NULL (default): "fashion-mnist" where the model fits it, else an error that says what to pass */
    const char *test_data;    /* NULL (default): data */
    PapaSplit test_split;     /* PAPA_SPLIT_TEST; the split of test_data that the final scores are taken on */
    float val_fraction;       /* 0.02; of the training images, held out for choosing soups */
    int n_norm;               /* 0 (default): mean and std as the file's metadata says with PAPA_INIT_FILE, else measured on the training images */
    float mean[4], std[4];    /* per channel on a 0 to 1 scale, where n_norm channels are given */
    bool fold_normalization;  /* false; true: exported files take pixels on a 0 to 1 scale */
    const char *output;       /* NULL: chosen as papa_model_info says */

    /* population */
    int population;           /* 3 */
    PapaMethod method;        /* PAPA_METHOD_PAPA */
    float alpha;              /* NaN (default): .9995 with PAPA_INIT_FILE, .99 otherwise */
    int every;                /* 10; papa: steps between pulls */
    int every_epochs;         /* 5; papa-all, papa-2: epochs between averagings */
    PapaInit init;            /* PAPA_INIT_FILE */

    /* optimisation */
    int epochs;               /* 10 */
    int batch;                /* 128 */
    bool keep_last;           /* false: an epoch's shorter last batch is dropped */
    PapaOptimizer optimizer;  /* PAPA_OPTIMIZER_SGD */
    float momentum;           /* .9; SGD */
    bool nesterov;            /* false */
    float beta1, beta2, adam_eps; /* .9, .999, 1e-8 */
    float lr;                 /* NaN (default): .1 for SGD from scratch, .01 from the file; 1e-3 and 1e-4 for Adam and AdamW */
    float lr_min;             /* NaN (default): lr / 1000; cosine's end */
    PapaSchedule schedule;    /* PAPA_SCHEDULE_COSINE */
    float milestones[PAPA_MAX_GRID]; /* .5, .75; fractions of training at which PAPA_SCHEDULE_STEPS multiplies the rate */
    int n_milestones;         /* 2 */
    float gamma;              /* .1; the factor */
    float warmup_epochs;      /* 0; linear from 0 */
    float weight_decay;       /* 1e-4 (L2 for SGD and Adam, decoupled for AdamW) */
    bool decay_all;           /* true; false: not on BatchNormalization's tensors nor on biases */
    float clip;               /* 0: off; else the global norm of each member's gradient */

    /* diversity and augmentation */
    PapaGrid mixup, cutmix, smoothing, erasing; /* each {0} */
    bool flip;                /* false */
    int crop;                 /* 0: padding of the random padded crop, in pixels */
    bool random_resized_crop; /* false */

    /* which tensors, which statistics */
    const char *train, *freeze; /* NULL; comma-separated shell patterns of tensor names, freeze wins */
    bool freeze_bn;           /* false; true: BatchNormalization uses its running statistics and keeps them */
    bool dropout;             /* true: as the file says */

    /* condensing */
    bool repair;              /* true */
    int repair_batches;       /* 0 (default): 5, or 25 from 100000 training images on */
    PapaEnsembleMean ensemble; /* PAPA_ENSEMBLE_LOGITS */

    uint64_t seed;            /* 1 */
    const char *out;          /* "papa-out"; made where it is missing; NULL: write nothing */
    PapaDeviceOptions device;
} PapaTrainOptions;

void papa_train_defaults(PapaTrainOptions *out);

/* Tells, in a remark per tensor that has a part in training: name, shape, role, and "trained", "frozen: " with the option that says so, or
 * "statistic". Of options it looks at output, train, freeze, freeze_bn. Errors: as papa_train's for the model and these options. */
PapaStatus papa_model_list_tensors(const PapaModel *model, const PapaTrainOptions *options, const PapaHooks *hooks);

/* What a GPU would be given to do in one training step, without one: gpu_file describes it (testdata/gpus). The networks are compiled by the code
 * that trains, and cuDNN makes its plans; a remark for each line of the answer: launches by name, operations and bytes, memory. Of options all
 * but those of condensing and running count; without data, the model says how large images are. Errors: PAPA_ERR_DEVICE (this build has no CUDA, or a
 * node has no plan on that GPU), PAPA_ERR_MEMORY (the run would not fit), and as papa_train's for the model and these options. */
PapaStatus papa_train_plan(const PapaModel *model, const PapaTrainOptions *options, const char *gpu_file, const PapaHooks *hooks);

typedef struct PapaScore {
    double accuracy;  /* top-1, 0 to 1; NaN: not measured */
    double top5;      /* NaN with fewer than 10 classes */
    double loss;      /* mean cross-entropy, natural logarithm */
    int64_t n;        /* images */
} PapaScore;

/* The scores of one run's networks on one set of images; all NaN where there are no such images. */
typedef struct PapaScores {
    PapaScore *members;          /* n_members of them */
    PapaScore mean;              /* the members' mean */
    PapaScore soup_plain;        /* average, not repaired, BatchNormalization statistics averaged */
    PapaScore soup;              /* average, REPAIRed; the plain one where nothing is repaired */
    PapaScore greedy;            /* NaN without held-out images to choose it on */
    PapaScore ensemble;
} PapaScores;

typedef struct PapaTrainReport {
    int n_members;
    PapaScores test, held_out;
    int n_greedy;                /* members in the greedy soup; 0: there is none */
    double seconds, images_per_second; /* of training */
    int64_t n_steps;             /* per member */
    int64_t arena_bytes;         /* each worker's activations, gradients of activations and workspace */
    int64_t member_bytes;        /* each member's parameters, optimiser state and data order */
    bool stopped;                /* the stop flag ended training early */
} PapaTrainReport;

/* Trains a population and writes into options->out: member-N.onnx, soup.onnx, greedy.onnx, ensemble.onnx, metrics.csv.
 * (greedy.onnx only where images are held out.) The model is opened again by its path. Free the report with papa_train_report_free.
 * Errors: any; PAPA_ERR_ARGUMENT where an option's value is at fault, also one that only the model or the data make wrong (a batch larger
 * than the data, a pattern that matches nothing). Every file appears whole or not at all. */
PapaStatus papa_train(PapaTrainReport *out, const PapaModel *model, const PapaTrainOptions *options, const PapaHooks *hooks);
void papa_train_report_free(PapaTrainReport *report);

/* ---------------------------------------------------------------- evaluation */

typedef struct PapaEvalOptions {
    int batch;                /* 250 */
    const char *output;       /* NULL: chosen as papa_model_info says */
    int n_norm;               /* 0 (default): as the file's metadata says, else the data set's own statistics, with a remark */
    float mean[4], std[4];    /* per channel on a 0 to 1 scale, where n_norm channels are given */
    PapaDeviceOptions device;
} PapaEvalOptions;

void papa_eval_defaults(PapaEvalOptions *out);

typedef struct PapaEvalReport {
    PapaScore score;
    double seconds, images_per_second; /* of scoring, without opening */
} PapaEvalReport;

/* Scores the model on all images of data. A final Softmax or LogSoftmax is recognised; any other output is taken for logits.
 * Errors: PAPA_ERR_ARGUMENT (options), PAPA_ERR_MISMATCH (model and data), PAPA_ERR_UNSUPPORTED (operators: lists them), PAPA_ERR_STOPPED
 * (no half score), and those of reading files, memory and devices. */
PapaStatus papa_eval(PapaEvalReport *out, const PapaModel *model, const PapaData *data, const PapaEvalOptions *options, const PapaHooks *hooks);

/* ---------------------------------------------------------------- merging models that were trained elsewhere
 *
 * Files of one network: written alike or not (names, nodes' order, constants' storage, Gemm against MatMul and Add, transB); where they can't be
 * paired, PAPA_ERR_MISMATCH names the first difference. Nothing need be known of the operators unless images are to go through the network.
 * What is written has the first model's names, graph, opset and metadata. */

/* Images to judge and to measure by. Needed by what says so; data NULL: there are none. */
typedef struct PapaJudgeOptions {
    const char *data;         /* NULL. Statistics (REPAIR, BatchNormalization, activations) are measured on its training images */
    const char *val_data;     /* NULL: val_fraction of the training images of data; else all training images of this set. To choose on */
    float val_fraction;       /* 0.02 */
    const char *test_data;    /* NULL: data, where it has a test split. For the scores that are reported: nothing is chosen on them */
    PapaSplit test_split;     /* PAPA_SPLIT_TEST */
    int n_norm;               /* 0: mean and std as the first file's metadata says, else measured on the training images, with a remark */
    float mean[4], std[4];
    const char *output;       /* NULL: chosen as papa_model_info says */
    bool flip;                /* false; training-time augmentation of the images that statistics are measured on */
    int crop;                 /* 0 */
    int batch;                /* 128 */
    int repair_batches;       /* 0: 5, or 25 from 100000 training images on; batches that statistics are measured on */
    uint64_t seed;            /* 1; of the held-out images, and of those that are measured on */
    PapaDeviceOptions device;
} PapaJudgeOptions;

void papa_judge_defaults(PapaJudgeOptions *out);

/* ---- permutation alignment ---- */

typedef enum PapaAlignMethod {
    PAPA_ALIGN_WEIGHTS,     /* sum of the inner products of all weights that the units have a part in (Git Re-Basin: Ainsworth et al. 2022) */
    PAPA_ALIGN_ACTIVATIONS, /* correlations of what the next layers read, on training images */
} PapaAlignMethod;

typedef enum PapaAlignTo {
    PAPA_ALIGN_TO_FIRST, /* each to the first model */
    PAPA_ALIGN_TO_MEAN,  /* MergeMany: each to the mean of the others, in turn; then all are moved so that the first is as it was */
    PAPA_ALIGN_TO_CYCLE, /* all at once, into one universe (C2M3: Crisostomi et al. 2024); then likewise */
} PapaAlignTo;

typedef struct PapaAlignOptions {
    PapaAlignMethod method;   /* PAPA_ALIGN_WEIGHTS; activations only with TO_FIRST */
    PapaAlignTo to;           /* PAPA_ALIGN_TO_FIRST */
    int restarts;             /* 3; searches, each from another order of sweeps; the best one counts */
    int max_sweeps;           /* 100 */
    uint64_t seed;            /* 1 */
    const char *out;          /* folder of the aligned files, made where it is missing: the inputs' names; NULL: write nothing */
    PapaJudgeOptions judge;   /* PAPA_ALIGN_ACTIVATIONS; with data, all models and the midpoints with the first are scored before and after, too */
} PapaAlignOptions;

void papa_align_defaults(PapaAlignOptions *out);

/* Units that move together. */
typedef struct PapaAlignGroup {
    const char *name;         /* of the tensor that makes them */
    int64_t n;
    bool blocks;              /* heads, or groups of a convolution: the units in them are groups too */
    int n_tensors;
    double proof;             /* largest difference of the outputs, relative to the largest output, when permuted at random, in double precision; NaN: the
                                 outputs don't depend on its units (they are dead), which proves nothing */
} PapaAlignGroup;

/* One group in one of the models but the first. */
typedef struct PapaAlignMove {
    double moved;             /* fraction of the units that change places */
    double similarity_before, similarity_after; /* cosine of all numbers of its units with the first model's */
} PapaAlignMove;

typedef struct PapaAlignModel {
    const char *path, *out;   /* out: NULL: nothing was written */
    PapaAlignMove *moves;     /* by group */
    double distance_before, distance_after; /* Euclidean, of all parameters but running means and variances, to the first model's */
    double objective;         /* the matched similarity that the search maximises, unnormalised: of weights, or of activations */
    double proof;             /* as a group's, of this model and its aligned self */
    int sweeps;               /* of the search that won */
    int restart;              /* which one that was, from 0 */
    PapaScore score;          /* NaN without data; test images, else held-out ones */
    PapaScore midpoint_before, midpoint_after; /* of the mean with the first model, BatchNormalization's statistics re-estimated */
} PapaAlignModel;

/* Positions that had to stay. */
typedef struct PapaAlignPinned {
    const char *tensor, *why;
    int axis;
    int64_t n;
} PapaAlignPinned;

typedef struct PapaAlignReport {
    int n_models, n_groups, n_pinned;
    PapaAlignModel *models;   /* the first one's moves are NULL */
    PapaAlignGroup *groups;
    PapaAlignPinned *pinned;
    double seconds_proof, seconds_matching;
    void *owned;              /* what the report consists of */
} PapaAlignReport;

/* Permutes the units of each model but the first so that they match. Every group is proved on the first model and every result against the model
 * that it came from, in double precision, before a file is written: PAPA_ERR_NUMERIC names the group at fault. All files are written or none is. Each
 * keeps its own names, types, storage and metadata, and says that it is aligned (papa.kind, papa.aligned, papa.method, papa.ingredients); the first one
 * is a copy. One model alone is only looked at: its groups are proved. Free the report with papa_align_report_free. Errors: any. */
PapaStatus papa_align(PapaAlignReport *out, const PapaModel *const *models, int n, const PapaAlignOptions *options, const PapaHooks *hooks);
void papa_align_report_free(PapaAlignReport *report);

/* ---- soups ---- */

typedef enum PapaSoupMethod {
    PAPA_SOUP_MEAN,     /* sum of weights[k] w_k; the uniform soup where no weights are given */
    PAPA_SOUP_LERP,     /* of two: (1 - t) a + t b */
    PAPA_SOUP_SLERP,    /* of two: along the arc, per tensor */
    PAPA_SOUP_TASK,     /* task arithmetic: base + scale * sum of weights[k] (w_k - base) */
    PAPA_SOUP_TIES,     /* trimmed to density, signs elected */
    PAPA_SOUP_DARE,     /* differences dropped at random, those kept (density) scaled up */
    PAPA_SOUP_DARE_TIES,
    PAPA_SOUP_STOCK,    /* Model Stock: between the mean and base, as the angles say */
    PAPA_SOUP_WISE_FT,  /* of one: (1 - t) base + t w */
    PAPA_SOUP_EMA,      /* of checkpoints in order: decay */
    PAPA_SOUP_GREEDY,   /* data: best first, those stay that raise the held-out accuracy (Wortsman et al. 2022, recipe 1) */
    PAPA_SOUP_PRUNED,   /* data: starts from all, and leaves out, worst first, those without which the held-out accuracy is higher; until none is */
    PAPA_SOUP_LEARNED,  /* data: weights (softmax of what is learned) that make the held-out loss least, by gradient descent through the network */
    PAPA_SOUP_LEARNED_TENSORS, /* data: likewise, for each tensor */
    PAPA_SOUP_ENSEMBLE, /* not a soup: one file with all networks side by side, and the mean of their outputs. Without data they need not be one network */
} PapaSoupMethod;

typedef enum PapaRepairMode {
    PAPA_REPAIR_BOTH,    /* means and standard deviations move to the goal */
    PAPA_REPAIR_RESCALE, /* standard deviations only: the channel's mean stays where the child has it */
    PAPA_REPAIR_RESHIFT, /* means only: s = 1 */
    PAPA_REPAIR_NONE,    /* nothing is repaired */
} PapaRepairMode;

/* More about the formulas of merging in src/soup/merge.h. */
typedef struct PapaSoupOptions {
    PapaSoupMethod method;    /* PAPA_SOUP_MEAN */
    const double *weights;    /* NULL; MEAN, TASK, TIES, DARE, DARE_TIES, ENSEMBLE: one for each model */
    bool any_sum;             /* false: MEAN's weights must sum to 1 */
    const PapaModel *base;    /* NULL; TASK, TIES, DARE, DARE_TIES, STOCK, WISE_FT */
    double t, scale, density, decay; /* 0.5, 1, 0 (TIES .2, DARE .1), 0.9 */
    uint64_t seed;            /* 1; DARE */
    PapaEnsembleMean ensemble; /* PAPA_ENSEMBLE_LOGITS */
    int learn_steps;          /* 300; LEARNED, LEARNED_TENSORS: batches */
    float learn_rate;         /* 0.1 */
    bool align;               /* false; true: all models (base too) are aligned first, as align_options says; its out and judge are not looked at */
    PapaAlignOptions align_options;
    PapaRepairMode repair;    /* PAPA_REPAIR_NONE; needs data. For soups of models, weights not negative */
    bool recalibrate;         /* true: BatchNormalization's running statistics are re-estimated where there are some and data is given */
    const char *out;          /* the file to write; NULL: none */
    PapaJudgeOptions judge;   /* with data, what is merged and the result are scored, too */
} PapaSoupOptions;

void papa_soup_defaults(PapaSoupOptions *out);

typedef struct PapaIngredient {
    const char *path;
    double weight;            /* in the result; 0: not used; NaN: other than a weight, or one for each tensor */
    PapaScore held_out, test; /* NaN: not taken */
} PapaIngredient;

typedef struct PapaSoupReport {
    int n, n_used;
    PapaIngredient *ingredients; /* in the order given; behind them the base, where there is one, which n does not count */
    PapaScore held_out_plain, test_plain; /* of the result before statistics were re-estimated or repaired; NaN where neither was done */
    PapaScore held_out, test; /* of the result */
    bool repaired, recalibrated;
    double seconds;
} PapaSoupReport;

/* Merges n models into options->out. A soup streams from file to file, and needs memory for a few megabytes, unless images go through it or models are
 * aligned. Metadata of the result: src/jobs/ingredients.h. Errors: any; PAPA_ERR_ARGUMENT where an option's value is at fault; PAPA_ERR_MISMATCH for models
 * that don't go together, one given twice, an output that is an input; PAPA_ERR_IO for one that can't be written, which is found first. */
PapaStatus papa_soup(PapaSoupReport *out, const PapaModel *const *models, int n, const PapaSoupOptions *options, const PapaHooks *hooks);
void papa_soup_report_free(PapaSoupReport *report);

/* ---- between two models ---- */

typedef struct PapaPathOptions {
    int points;               /* 11; from the first model to the second, ends included */
    bool align;               /* false; true: the second one aligned to the first, beside it as it is */
    bool recalibrate;         /* true: BatchNormalization's statistics are re-estimated at every point but the ends */
    PapaAlignOptions align_options; /* its out and judge are not looked at */
    PapaJudgeOptions judge;   /* data is needed */
    const char *svg;          /* NULL; a picture of it */
} PapaPathOptions;

void papa_path_defaults(PapaPathOptions *out);

typedef struct PapaPathPoint {
    double t;
    PapaScore plain, aligned; /* aligned: NaN without align */
} PapaPathPoint;

typedef struct PapaPathReport {
    int n_points;
    PapaPathPoint *points;
    double barrier, barrier_aligned; /* loss at t = 1/2 minus the mean of the ends'; NaN: not taken */
} PapaPathReport;

/* Scores on the test images (else the held-out ones) along (1 - t) a + t b. Errors: as papa_soup's. */
PapaStatus papa_path(PapaPathReport *out, const PapaModel *a, const PapaModel *b, const PapaPathOptions *options, const PapaHooks *hooks);
void papa_path_report_free(PapaPathReport *report);

typedef enum PapaAdvice {
    PAPA_ADVICE_NONE,        /* not the same network */
    PAPA_ADVICE_SOUP,        /* close enough to be averaged as they are */
    PAPA_ADVICE_REPAIR,      /* average as they are, then REPAIR: aligning would change next to nothing */
    PAPA_ADVICE_ALIGN,       /* align first, then REPAIR */
    PAPA_ADVICE_ENSEMBLE,    /* none of these is likely to help: keep them apart */
} PapaAdvice;

/* One tensor of the first model's. */
typedef struct PapaDiagnosisTensor {
    const char *name;
    int64_t count;
    double cosine;            /* with the first model's */
    double cosine_aligned;    /* after weight matching */
    double variance_ratio;    /* variance of the mean of the two over the mean of their variances: 1: alike, 1/2: unrelated */
} PapaDiagnosisTensor;

typedef struct PapaDiagnosisModel {
    const char *path;
    char *difference;         /* why it is not the same network; NULL: it is */
    PapaDiagnosisTensor *tensors; /* weights only; NULL: not the same network */
    double cosine, cosine_aligned; /* of all weights */
    double moved;             /* fraction of all units that matching would move */
    bool same_init;           /* weights agree far more than independent training would make them: of one initialisation, or aligned before */
    bool aligned;             /* matching moves next to nothing, or gains nothing */
    double barrier, barrier_aligned; /* NaN without data */
    PapaAdvice advice;
    const char *why;          /* the advice, in words */
} PapaDiagnosisModel;

typedef struct PapaDiagnosis {
    int n_models, n_tensors;
    PapaDiagnosisModel *models; /* [0]: the first, against itself */
    PapaAdvice advice;          /* for all of them: the most cautious of the others' */
    void *owned;                /* what the diagnosis consists of */
} PapaDiagnosis;

/* Says whether models are fit to be merged, and how. align: how to match; judge.data may be NULL. */
PapaStatus papa_diagnose(PapaDiagnosis *out, const PapaModel *const *models, int n, const PapaAlignOptions *align, const PapaJudgeOptions *judge,
    const PapaHooks *hooks);
void papa_diagnosis_free(PapaDiagnosis *diagnosis);

#ifdef __cplusplus
}
#endif
#endif
