/* permute_model MODEL.onnx OUT.onnx SEED
 *
 * Writes the model with the units of every group permuted at random, whatever its tensors' type. Prints the number of groups. */
#include "align/groups.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A tensor as it is written. */
typedef struct Permuted {
    char *raw;
    size_t element_bytes;
} Permuted;

static PapaStatus fill(void *context, void *to, int64_t first, int64_t n)
{
    const Permuted *permuted = context;
    memcpy(to, permuted->raw + (size_t)first * permuted->element_bytes, (size_t)n * permuted->element_bytes);
    return PAPA_OK;
}

static int64_t *draw(int64_t n, uint64_t seed, int group)
{
    int64_t *perm = calloc((size_t)n, sizeof *perm);
    uint32_t *order = calloc((size_t)n, sizeof *order);
    PapaRng rng = papa_rng(seed, PAPA_RNG_TEST, group, 0, 0);
    if (!perm || !order)
        abort();
    for (int64_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    papa_rng_shuffle(&rng, order, (uint32_t)n);
    for (int64_t i = 0; i < n; i++)
        perm[i] = order[i];
    free(order);
    return perm;
}

static PapaStatus permute(PapaEdit *edit, Permuted *permuted, const PapaGroups *groups, int t, const int64_t *const *perms, const PapaOnnx *onnx)
{
    const PapaGroupTensor *tensor = &groups->tensors[t];
    const size_t size = papa_type_bits(tensor->tensor->data_type) / 8, bytes = (size_t)tensor->count * size;
    PapaTensorReader reader;
    char *scratch = malloc(bytes + 1);
    *permuted = (Permuted){malloc(bytes + 1), size};
    if (!scratch || !permuted->raw)
        abort();
    PAPA_TRY(papa_reader_open(&reader, onnx, tensor->tensor));
    PAPA_TRY(papa_reader_raw(&reader, permuted->raw, 0, tensor->count));
    papa_groups_permute(groups, t, perms, permuted->raw, size, scratch);
    free(scratch);
    return papa_edit_set_tensor_from(edit, tensor->tensor, fill, permuted);
}

static PapaStatus run(const char *from, const char *to, uint64_t seed)
{
    PapaModel *model;
    PapaGroups *groups;
    PapaEdit *edit;
    PAPA_TRY(papa_model_open(&model, from));
    PAPA_TRY(papa_groups_derive(&groups, model->onnx, NULL));
    PAPA_TRY(papa_edit_new(&edit, model->onnx));
    int64_t **perms = calloc((size_t)groups->n_groups + 1, sizeof *perms);
    Permuted *permuted = calloc((size_t)groups->n_tensors + 1, sizeof *permuted);
    if (!perms || !permuted)
        abort();
    for (int g = 0; g < groups->n_groups; g++)
        perms[g] = draw(groups->groups[g].n, seed, g);
    for (int t = 0; t < groups->n_tensors; t++)
        PAPA_TRY(permute(edit, &permuted[t], groups, t, (const int64_t *const *)perms, model->onnx));
    PAPA_TRY(papa_edit_write(edit, to));
    printf("%d\n", groups->n_groups);
    for (int g = 0; g < groups->n_groups; g++)
        free(perms[g]);
    for (int t = 0; t < groups->n_tensors; t++)
        free(permuted[t].raw);
    free(perms);
    free(permuted);
    papa_edit_free(edit);
    papa_groups_free(groups);
    papa_model_close(model);
    return PAPA_OK;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: permute_model MODEL.onnx OUT.onnx SEED\n");
        return 2;
    }
    if (run(argv[1], argv[2], strtoull(argv[3], NULL, 10)) == PAPA_OK)
        return 0;
    fprintf(stderr, "%s\n", papa_error());
    return 1;
}
