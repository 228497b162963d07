/* Sets of numbers for the tensors of a network's groups, matchings of them, and a few small networks. */
#ifndef MATCHTEST_H
#define MATCHTEST_H

#include "align/match.h"
#include "base/rng.h"
#include "check.h"
#include "unitsbuild.h"

#include <stdlib.h>

typedef struct MatchTest {
    PapaOnnx *onnx;
    PapaGroups *groups;
    PapaMatchOptions options;
} MatchTest;

static inline void *match_alloc(int64_t n, size_t size)
{
    void *memory = calloc((size_t)n + 1, size);
    if (!memory)
        abort();
    return memory;
}

static inline PapaStatus match_test_open(MatchTest *t, const char *path, PapaDevice *dev)
{
    *t = (MatchTest){.options = {.restarts = 1, .max_sweeps = 100, .seed = 1, .dev = dev}};
    PAPA_TRY(papa_onnx_open(&t->onnx, path));
    return papa_groups_derive(&t->groups, t->onnx, NULL);
}

static inline void match_test_close(MatchTest *t)
{
    papa_groups_free(t->groups);
    papa_onnx_close(t->onnx);
}

/* By tensor; statistics too. */
static inline float **match_weights_new(const PapaGroups *groups)
{
    float **weights = match_alloc(groups->n_tensors, sizeof *weights);
    for (int i = 0; i < groups->n_tensors; i++)
        weights[i] = match_alloc(groups->tensors[i].count, sizeof **weights);
    return weights;
}

static inline void match_weights_free(float **weights, const PapaGroups *groups)
{
    for (int i = 0; weights && i < groups->n_tensors; i++)
        free(weights[i]);
    free(weights);
}

/* Normal numbers: in tensors of several rows of Kaiming's size, else around 0 with standard deviation .1. */
static inline float **match_weights_draw(const PapaGroups *groups, uint32_t stream)
{
    float **weights = match_weights_new(groups);
    for (int i = 0; i < groups->n_tensors; i++) {
        PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 7, stream, (uint32_t)i);
        const PapaGroupTensor *tensor = &groups->tensors[i];
        const double std = tensor->shape.rank > 1 ? sqrt(2. * (double)tensor->shape.dim[0] / (double)tensor->count) : .1;
        for (int64_t k = 0; k < tensor->count; k++)
            weights[i][k] = (float)(std * papa_rng_normal(&rng));
    }
    return weights;
}

static inline float **match_weights_permuted(const PapaGroups *groups, float *const *from, int64_t *const *perms)
{
    float **to = match_weights_new(groups);
    for (int i = 0; i < groups->n_tensors; i++) {
        float *scratch = match_alloc(groups->tensors[i].count, sizeof *scratch);
        memcpy(to[i], from[i], (size_t)groups->tensors[i].count * sizeof **to);
        papa_groups_permute(groups, i, (const int64_t *const *)perms, to[i], sizeof **to, scratch);
        free(scratch);
    }
    return to;
}

/* The name of a tensor that differs, or NULL. */
static inline const char *match_weights_differ(const PapaGroups *groups, float *const *a, float *const *b)
{
    for (int i = 0; i < groups->n_tensors; i++)
        if (memcmp(a[i], b[i], (size_t)groups->tensors[i].count * sizeof **a))
            return groups->tensors[i].name;
    return NULL;
}

static inline void match_perms_free(int64_t **perms, int n)
{
    for (int g = 0; perms && g < n; g++)
        free(perms[g]);
    free(perms);
}

static inline int64_t **match_perms_draw(const PapaGroups *groups, uint32_t stream)
{
    int64_t **perms = match_alloc(groups->n_groups, sizeof *perms);
    for (int g = 0; g < groups->n_groups; g++) {
        PapaRng rng = papa_rng(1, PAPA_RNG_TEST, 8, stream, (uint32_t)g);
        int64_t n = groups->groups[g].n, *perm = perms[g] = match_alloc(n, sizeof *perm);
        for (int64_t i = 0; i < n; i++) {
            int64_t k = papa_rng_below(&rng, (uint32_t)i + 1);
            perm[i] = perm[k];
            perm[k] = i;
        }
    }
    return perms;
}

static inline bool match_is_permutation(const int64_t *perm, int64_t n)
{
    bool *seen = match_alloc(n, sizeof *seen), is = true;
    for (int64_t i = 0; i < n && is; i++) {
        is = perm[i] >= 0 && perm[i] < n && !seen[perm[i]];
        if (is)
            seen[perm[i]] = true;
    }
    free(seen);
    return is;
}

/* Units along both axes of a tensor: a + W a. */
static inline const char *write_crossed(void)
{
    Build b = begin_tokens();
    linear(&b, "x", "a", 6, 5);
    linear(&b, "a", "c", 5, 5);
    build_node(&b, "Add", "c a", "sum");
    linear(&b, "sum", "d", 5, 4);
    build_node(&b, "Relu", "d", "r");
    linear(&b, "r", "fc", 4, 3);
    build_output(&b, "fc", 3);
    return write_model(&b, "crossed");
}

/* Blocks with units on both sides of a convolution. */
static inline const char *write_grouped(void)
{
    Build b = begin_image();
    conv(&b, "x", "a", DIMS(12, 2, 3, 3));
    build_node(&b, "Relu", "a", "ra");
    build_int(conv(&b, "ra", "g", DIMS(16, 3, 3, 3)), "group", 4);
    norm(&b, "g", "n", 16);
    build_node(&b, "Relu", "n", "r");
    conv(&b, "r", "c", DIMS(6, 16, 1, 1));
    head(&b, "c", 6);
    return write_model(&b, "grouped");
}

static inline const char *write_two_layers(void)
{
    Build b = begin_tokens();
    linear(&b, "x", "a", 6, 6);
    build_node(&b, "Relu", "a", "ra");
    linear(&b, "ra", "c", 6, 5);
    build_node(&b, "Relu", "c", "rc");
    linear(&b, "rc", "fc", 5, 3);
    build_output(&b, "fc", 3);
    return write_model(&b, "two_layers");
}

#define MODEL(name) PAPA_SOURCE_DIR "/testdata/" name ".onnx"
#define TENSORS(weights) ((PapaMatchTensors)(weights))

#endif
