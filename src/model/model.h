/* A model: an ONNX file, the table of its parameters, and how it reads images.
 *
 * The table is the meeting point of everything that averages, trains, aligns or exports: each float tensor of the file that an
 * operator's row gives a role has one entry and one place in the flat store. Constants (a Clip bound, an attention scale) are not in it.
 *
 * Order in the store: trained tensors that decay, trained tensors that don't, then statistics and frozen tensors. Each starts at a
 * multiple of PAPA_STORE_ALIGN elements; the gaps hold zeros for ever, so that every pass over a member is one loop over flat memory. */
#ifndef PAPA_MODEL_H
#define PAPA_MODEL_H

#include "graph/graph.h"

#define PAPA_STORE_ALIGN 16 /* elements: 64 bytes */

typedef struct PapaParam {
    const char *name;                /* the initializer's; a Constant's output */
    const Onnx__TensorProto *tensor; /* NULL: made_for's bias, which the file lacks; 0 in the store until REPAIR needs it */
    const Onnx__NodeProto *made_for;
    PapaShape shape;                 /* as in the file; the store keeps ONNX's order on every device */
    PapaRole role;
    int64_t fan_in;                  /* weights */
    int64_t count, offset;           /* elements; place in the store */
    bool trained;                    /* false: a statistic or frozen */
    bool is_normalization;           /* belongs to a normalisation */
    bool is_batchnorm;               /* to one that has running statistics */
} PapaParam;

typedef struct PapaStoreLayout {
    int64_t n_decayed; /* [0, n_decayed): trained, with weight decay */
    int64_t n_trained; /* [0, n_trained): trained; gradients and optimiser state have this length */
    int64_t n_total;   /* all; a member's floats */
} PapaStoreLayout;

/* Where the classifier is: image input, logits. If the output is made by a final Softmax or LogSoftmax, logits is its input. */
typedef struct PapaHead {
    const char *input;     /* graph input */
    const char *output;    /* graph output */
    const char *logits;    /* the value the loss is taken on */
    int softmax;           /* 0 none, 1 Softmax, 2 LogSoftmax: what stands between logits and output */
    int softmax_axis;
    int n_outputs;         /* outputs of the file that could be a classifier's: output is one of them */
    const char *squashed;  /* the type of the node that makes output where it squashes scores one by one (Sigmoid ...); NULL: none */
    const char *normalizes; /* the type of an arithmetic node that reads the input as it comes; NULL: none */
    int input_rank;        /* 4: (N, C, H, W); 3: (N, H, W); 2: (N, features), features = C * H * W */
    PapaImageSize size;    /* of the input; 0 where the file leaves it open */
    int64_t features;      /* rank 2; 0 where the file leaves it open */
    int n_classes;         /* 0 where the file leaves it open */
} PapaHead;

struct PapaModel {
    PapaOnnx *onnx;
    bool shares_onnx;           /* it belongs to another model */
    PapaArena arena;            /* of the table */
    PapaHead head;
    PapaParam *params;
    int n_params;
    PapaStoreLayout store;
    bool has_statistics;        /* there is a BatchNormalization */
    bool frozen_statistics;     /* the selection's freeze_bn: they stay as the file has them */
};

typedef struct PapaModelSelection {
    const char *output;         /* the classifier's output; NULL: as papa_model_info chooses. Only what it depends on is looked at */
    const char *train, *freeze; /* comma-separated shell patterns of tensor names, NULL: all; freeze wins */
    bool freeze_bn;             /* BatchNormalization's tensors are not trained, its statistics not updated */
    bool decay_all;             /* false: normalisation tensors and biases stand behind n_decayed */
    bool cut;                   /* nodes that are not understood are cut out (papa_graph_cut), of networks in inference; compile with `cut` too */
    bool make_biases;           /* a bias for each layer that REPAIR corrects and that has none: frozen at 0 in training */
} PapaModelSelection;

/* Another handle on a model's file, with a table and a selection of its own. model must outlive it. */
PapaStatus papa_model_share(PapaModel **out, const PapaModel *model);

/* Finds the classifier and the parameters, and lays out the store. May be called again to change the selection; stores made before are then void.
 * Errors: as papa_graph_read; PAPA_ERR_ARGUMENT when a pattern matches nothing or the selection leaves nothing to train, PAPA_ERR_MISMATCH when
 * the file has nothing to train. */
PapaStatus papa_model_select(PapaModel *model, const PapaModelSelection *selection);

/* The part of papa_model_select that knows no classifier: the parameters that these values depend on. */
PapaStatus papa_model_find_params(PapaModel *model, const char *const *outputs, int n_outputs, const PapaModelSelection *selection);

/* Fills a store of store.n_total floats with the file's values (gaps zero). */
PapaStatus papa_model_read_params(const PapaModel *model, float *store);

/* Draws a member's initial values by role: weights Kaiming normal by fan-in (He et al. 2015, gain sqrt 2), biases and shifts 0, scales 1,
 * running mean 0, running variance 1 unless the statistics are frozen. Frozen tensors keep the file's values, which store must hold. */
PapaStatus papa_model_init_params(const PapaModel *model, float *store, uint64_t seed, int member);

PapaStatus papa_model_head(PapaHead *out, const PapaModel *model, const char *output_name);

/* The part of it that asks only what makes head->output: logits, softmax, softmax_axis, squashed. Errors: PAPA_ERR_UNSUPPORTED (a softmax over
 * another axis). */
PapaStatus papa_model_find_logits(PapaHead *head, const PapaModel *model);

/* ---------------------------------------------------------------- export */

/* The input's normalisation, as Mul and Add in front of the network: per channel x * scale + shift. */
typedef struct PapaInputScale {
    PapaImageSize size;
    float scale[4], shift[4];
} PapaInputScale;

/* Edits that turn the file into the inference form of a trained network: every parameter's values from store (those that
 * training could change), BatchNormalization with one output and running statistics, Dropout without effect; scale: NULL: the
 * network expects normalised images, as it did in training. Metadata is the caller's. */
PapaStatus papa_model_edit(PapaEdit **out, const PapaModel *model, const float *store, const PapaInputScale *scale);

/* The part of it that leaves the graph as it is: to an edit of the model's file, the parameters whose values in store are not those in before, to the last
 * bit, and a bias for each layer that store has one for where the file has none. */
PapaStatus papa_model_edit_params(PapaEdit *edit, const PapaModel *model, const float *store, const float *before);

/* Rounds the values of a bias that the file lacks to the type that they would be written in. */
void papa_model_round_made(const PapaModel *model, const PapaParam *param, float *values);

#endif
