/* Scratch memory, products of matrices, the costs of one group. */
#include "align/match_parts.h"
#include "kernels/matmul.h"

#include <stdlib.h>
#include <string.h>

PapaStatus papa_match_room_open(PapaMatchRoom *room, const PapaMatchSetup *setup, PapaDevice *dev)
{
    *room = (PapaMatchRoom){.setup = setup, .dev = dev, .one = *dev};
    room->one.n_threads = 1;
    const size_t units = (size_t)setup->most_units + 1;
    PAPA_TRY(papa_device_alloc(dev, (void **)&room->x, (size_t)setup->most_chunk * sizeof(float), "rows of units"));
    PAPA_TRY(papa_device_alloc(dev, (void **)&room->y, (size_t)setup->most_chunk * sizeof(float), "rows of units"));
    PAPA_TRY(papa_device_alloc(dev, (void **)&room->cost, units * units * sizeof(float), "a matching's cost matrix"));
    for (int k = 0; k < 2; k++)
        PAPA_TRY(papa_device_alloc(dev, (void **)&room->tensor[k], (size_t)(setup->most_elements + 1) * sizeof(float), "a tensor that is permuted"));
    room->column = calloc(units, sizeof *room->column);
    room->scratch = calloc(3 * units, sizeof *room->scratch);
    return room->column && room->scratch ? PAPA_OK : papa_fail_memory(4 * units * sizeof *room->scratch, "permutations");
}

void papa_match_room_close(PapaMatchRoom *room)
{
    if (!room->dev)
        return;
    float *all[] = {room->x, room->y, room->cost, room->tensor[0], room->tensor[1]};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        papa_device_free(room->dev, all[k]);
    free(room->column);
    free(room->scratch);
    *room = (PapaMatchRoom){0};
}

/* ---------------------------------------------------------------- products
 * A library may sum in another order with another number of threads: so the rows are cut into panels, each of which one thread makes. */

enum { WORTH_A_THREAD = 1 << 24 }; /* multiplications */

/* Rows of a panel: few enough for the threads, enough to be efficient. */
static int64_t panel_of(int64_t M)
{
    return M >= 2048 ? 256 : 128;
}

typedef struct Product {
    PapaDevice *one;
    const PapaMatmul *full, *rest; /* plans for a panel, and for the last one */
    float *c;
    const float *a, *b;
    int64_t M, N, K, panel;
    _Atomic int status;
} Product;

static void make_panels(void *context, int64_t begin, int64_t end)
{
    Product *p = context;
    for (int64_t i = begin; i < end; i++) {
        const PapaMatmul *plan = (i + 1) * p->panel <= p->M ? p->full : p->rest;
        PapaStatus status = PAPA_KERNEL(p->one, papa_matmul_run)(p->one, plan, p->c + i * p->panel * p->N, p->a + i * p->panel * p->K, p->b, NULL, NULL);
        if (status != PAPA_OK)
            p->status = status;
    }
}

PapaStatus papa_match_product(PapaMatchRoom *room, float *c, const float *a, const float *b, int64_t M, int64_t N, int64_t K, bool transpose_b, bool add)
{
    PapaStatus status;
    PapaMatmul *full = NULL, *rest = NULL;
    const int64_t panel = panel_of(M);
    PapaMatmulDesc desc = {.batch = 1, .M = panel, .N = N, .K = K, .transpose_b = transpose_b, .lda = K, .ldb = transpose_b ? K : N, .ldc = N,
        .alpha = 1, .beta = add ? 1 : 0};
    PAPA_GOTO(PAPA_KERNEL(&room->one, papa_matmul_create)(&room->one, &full, &desc));
    desc.M = M % panel;
    PAPA_GOTO(PAPA_KERNEL(&room->one, papa_matmul_create)(&room->one, &rest, &desc));
    Product product = {.one = &room->one, .full = full, .rest = rest, .c = c, .a = a, .b = b, .M = M, .N = N, .K = K, .panel = panel, .status = PAPA_OK};
    PAPA_GOTO(papa_device_enter(&room->one));
    papa_ranges(room->dev, (M + panel - 1) / panel, 1 + WORTH_A_THREAD / (panel * N * K + 1), make_panels, &product);
    PAPA_GOTO(papa_device_enter(room->dev));
    if (product.status != PAPA_OK)
        status = papa_fail((PapaStatus)product.status, "matching: a matrix product of %lldx%lldx%lld failed", (long long)M, (long long)N, (long long)K);
out:
    PAPA_KERNEL(&room->one, papa_matmul_free)(full);
    PAPA_KERNEL(&room->one, papa_matmul_free)(rest);
    return status;
}

PapaStatus papa_match_cost(PapaMatchRoom *room, int group, const float *const *a, const float *const *b, uint8_t *const *open)
{
    const PapaMatchGroup *of = &room->setup->group[group];
    bool add = false;
    for (PapaMatchChunk chunk = {0}; papa_match_next_chunk(&chunk, of); add = true) {
        papa_match_fill(room->x, &chunk, of, a, open, room->dev);
        papa_match_fill(room->y, &chunk, of, b, open, room->dev);
        PAPA_TRY(papa_match_product(room, room->cost, room->x, room->y, of->n, of->n, chunk.n, true, add));
    }
    if (!add)
        memset(room->cost, 0, (size_t)(of->n * of->n) * sizeof *room->cost);
    return PAPA_OK;
}
