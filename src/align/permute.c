/* Permuting the units of groups: in a tensor's elements, in a store. */
#include "align/groups.h"

#include <stdlib.h>
#include <string.h>

static void move_slot(char *to, const char *from, const PapaSlots *slots, size_t element_bytes)
{
    for (int64_t a = 0; a < slots->n[0]; a++) {
        const int64_t at = a * slots->stride[0];
        if (slots->stride[1] == 1) {
            memcpy(to + at * (int64_t)element_bytes, from + at * (int64_t)element_bytes, (size_t)slots->n[1] * element_bytes);
            continue;
        }
        for (int64_t b = 0; b < slots->n[1]; b++) {
            const int64_t element = (at + b * slots->stride[1]) * (int64_t)element_bytes;
            memcpy(to + element, from + element, element_bytes);
        }
    }
}

static void permute_slots(const PapaGroup *group, const PapaSlots *slots, const int64_t *perm, char *to, const char *from, size_t element_bytes)
{
    for (int64_t i = 0; i < group->n; i++)
        for (int64_t j = 0; perm[i] != i && j < slots->n_parts; j++)
            move_slot(to + slots->base[i * slots->n_parts + j] * (int64_t)element_bytes,
                from + slots->base[perm[i] * slots->n_parts + j] * (int64_t)element_bytes, slots, element_bytes);
}

void papa_groups_permute(const PapaGroups *groups, int tensor, const int64_t *const *perms, void *data, size_t element_bytes, void *scratch)
{
    const size_t bytes = (size_t)groups->tensors[tensor].count * element_bytes;
    for (int g = 0; g < groups->n_groups; g++)
        for (int k = 0; perms[g] && k < groups->groups[g].n_slots; k++) {
            const PapaSlots *slots = &groups->groups[g].slots[k];
            if (slots->tensor != tensor)
                continue;
            memcpy(scratch, data, bytes);
            permute_slots(&groups->groups[g], slots, perms[g], data, scratch, element_bytes);
        }
}

static const PapaParam *param_of(const PapaModel *model, const Onnx__TensorProto *tensor)
{
    for (int i = 0; i < model->n_params; i++)
        if (model->params[i].tensor == tensor)
            return &model->params[i];
    return NULL;
}

static bool is_moved(const PapaGroups *groups, int tensor, const int64_t *const *perms)
{
    for (int g = 0; g < groups->n_groups; g++)
        for (int k = 0; perms[g] && k < groups->groups[g].n_slots; k++)
            if (groups->groups[g].slots[k].tensor == tensor)
                return true;
    return false;
}

PapaStatus papa_groups_permute_store(const PapaGroups *groups, const int64_t *const *perms, const PapaModel *model, float *store)
{
    int64_t most = 0;
    for (int i = 0; i < groups->n_tensors; i++) {
        if (is_moved(groups, i, perms) && !param_of(model, groups->tensors[i].tensor))
            return papa_fail(PAPA_ERR_MISMATCH, "%s: tensor '%s' is to be permuted, but has no part in the network as it is run", papa_onnx_path(model->onnx),
                groups->tensors[i].name);
        most = groups->tensors[i].count > most ? groups->tensors[i].count : most;
    }
    float *scratch = malloc((size_t)(most + 1) * sizeof *scratch);
    if (!scratch)
        return papa_fail_memory((size_t)most * sizeof *scratch, "permuting");
    for (int i = 0; i < groups->n_tensors; i++)
        if (is_moved(groups, i, perms))
            papa_groups_permute(groups, i, perms, store + param_of(model, groups->tensors[i].tensor)->offset, sizeof *store, scratch);
    free(scratch);
    return PAPA_OK;
}

void papa_permutation_compose(int64_t *out, const int64_t *first, const int64_t *second, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = first[second[i]];
}

void papa_permutation_invert(int64_t *out, const int64_t *perm, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[perm[i]] = i;
}
