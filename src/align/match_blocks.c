/* Blocks are matched with their units: what a block of one model is worth in the place of one of the other's is known when the units inside
 * have been matched, too.
 *
 * For each distance s, all blocks are moved round by s, the units inside are matched, and every block's worth is a number of the cost matrix:
 * n rounds fill it. Units inside one block don't depend on those inside another. Then the blocks go where the assignment says, and their units follow. */
#include "align/assignment.h"
#include "align/match_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INSIDE_SWEEPS = 8 };

/* All that a trial may change. */
typedef struct Saved {
    PapaMatchState *state;
    const PapaMatchFamily *family;
    int *tensors, *groups;   /* the blocks' tensors; the units inside, then the blocks */
    int n_tensors, n_groups;
    float **values;          /* by tensors[] */
    uint8_t **open;
    int64_t *changed, *matched;
    bool *settled;
    int64_t **perms;         /* by groups[] */
    double *worth;           /* (n, n): of a's block i and b's block j */
    int64_t *column, *scratch;
    double size_a, size_b;   /* of the numbers that were last looked at */
} Saved;

static int64_t count_of(const Saved *saved, int k)
{
    return saved->state->setup->groups->tensors[saved->tensors[k]].count;
}

static void saved_free(Saved *saved)
{
    for (int k = 0; saved->values && k < saved->n_tensors; k++)
        free(saved->values[k]);
    for (int k = 0; saved->open && k < saved->n_tensors; k++)
        free(saved->open[k]);
    for (int k = 0; saved->perms && k < saved->n_groups; k++)
        free(saved->perms[k]);
    void *all[] = {saved->tensors, saved->groups, saved->values, saved->open, saved->changed, saved->matched, saved->settled, saved->perms, saved->worth,
        saved->column, saved->scratch};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++)
        free(all[k]);
}

static void *room_for(int64_t n, size_t size, bool *failed)
{
    void *memory = calloc((size_t)n + 1, size);
    *failed |= !memory;
    return memory;
}

static void list_tensors(Saved *saved)
{
    const PapaMatchGroup *blocks = &saved->state->setup->group[saved->family->blocks];
    for (int k = 0; k < blocks->n_slots; k++) {
        bool seen = false;
        for (int l = 0; l < saved->n_tensors; l++)
            seen |= saved->tensors[l] == blocks->slots[k]->tensor;
        if (!seen)
            saved->tensors[saved->n_tensors++] = blocks->slots[k]->tensor;
    }
}

static PapaStatus saved_new(Saved *saved, PapaMatchState *state, const PapaMatchFamily *family)
{
    const PapaMatchSetup *setup = state->setup;
    const int64_t n = family->n, n_inside = family->n_kinds * n, n_slots = setup->group[family->blocks].n_slots;
    bool failed = false;
    *saved = (Saved){.state = state, .family = family};
    saved->tensors = room_for(n_slots, sizeof *saved->tensors, &failed);
    saved->groups = room_for(n_inside + 1, sizeof *saved->groups, &failed);
    saved->values = room_for(n_slots, sizeof *saved->values, &failed);
    saved->open = room_for(n_slots, sizeof *saved->open, &failed);
    saved->changed = room_for(n_slots, sizeof *saved->changed, &failed);
    saved->matched = room_for(n_inside + 1, sizeof *saved->matched, &failed);
    saved->settled = room_for(n_inside + 1, sizeof *saved->settled, &failed);
    saved->perms = room_for(n_inside + 1, sizeof *saved->perms, &failed);
    saved->worth = room_for(n * n, sizeof *saved->worth, &failed);
    saved->column = room_for(n, sizeof *saved->column, &failed);
    saved->scratch = room_for(3 * setup->most_units, sizeof *saved->scratch, &failed);
    if (failed)
        return papa_fail_memory((size_t)(n * n) * sizeof *saved->worth, "matching blocks");
    list_tensors(saved);
    for (int64_t k = 0; k < n_inside; k++)
        saved->groups[k] = family->inside[k];
    saved->groups[n_inside] = family->blocks;
    saved->n_groups = (int)n_inside + 1;
    for (int k = 0; k < saved->n_tensors; k++) {
        saved->values[k] = room_for(count_of(saved, k), sizeof **saved->values, &failed);
        if (state->masked)
            saved->open[k] = room_for(count_of(saved, k), sizeof **saved->open, &failed);
    }
    for (int k = 0; k < saved->n_groups; k++)
        saved->perms[k] = room_for(setup->group[saved->groups[k]].n, sizeof **saved->perms, &failed);
    return failed ? papa_fail_memory((size_t)setup->most_elements * sizeof **saved->values, "a copy of blocks that are matched") : PAPA_OK;
}

static void copy(void *state, void *saved, size_t bytes, bool back)
{
    memcpy(back ? state : saved, back ? saved : state, bytes);
}

static void save(Saved *saved, bool back)
{
    PapaMatchState *state = saved->state;
    for (int k = 0; k < saved->n_tensors; k++) {
        const int t = saved->tensors[k];
        const size_t n = (size_t)count_of(saved, k);
        copy(state->moved[t], saved->values[k], n * sizeof(float), back);
        if (state->masked)
            copy(state->open[t], saved->open[k], n, back);
        copy(&state->changed[t], &saved->changed[k], sizeof *saved->changed, back);
    }
    for (int k = 0; k < saved->n_groups; k++) {
        const int g = saved->groups[k];
        copy(state->perms[g], saved->perms[k], (size_t)state->setup->group[g].n * sizeof **saved->perms, back);
        copy(&state->matched[g], &saved->matched[k], sizeof *saved->matched, back);
        copy(&state->settled[g], &saved->settled[k], sizeof *saved->settled, back);
    }
}

/* ---------------------------------------------------------------- one trial */

static void cover_blocks(const Saved *saved, int delta)
{
    const PapaMatchGroup *blocks = &saved->state->setup->group[saved->family->blocks];
    for (int k = 0; k < blocks->n_slots && saved->state->masked; k++)
        papa_match_cover(saved->state->open[blocks->slots[k]->tensor], blocks->slots[k], blocks->n, delta);
}

/* With the blocks where they are. */
static PapaStatus match_inside(Saved *saved)
{
    PapaMatchState *state = saved->state;
    if (state->masked)
        return papa_match_outward(state, (int)(saved->family - state->setup->families), false);
    bool any = true;
    for (int sweep = 0; sweep < INSIDE_SWEEPS && any; sweep++) {
        any = false;
        for (int k = 0; k + 1 < saved->n_groups; k++) {
            bool gained = false;
            if (papa_match_is_stale(state, saved->groups[k]))
                PAPA_TRY(papa_match_units(state, saved->groups[k], &gained));
            any |= gained;
        }
    }
    return PAPA_OK;
}

/* worth[i * n + (i + s) % n]: of the block in place i. Returns their sum. Where only settled surroundings count, the blocks are open, but nothing
 * inside them. */
static double weigh(Saved *saved, int64_t s)
{
    PapaMatchState *state = saved->state;
    const PapaMatchGroup *blocks = &state->setup->group[saved->family->blocks];
    PapaMatchRoom *room = state->room;
    uint8_t *const *open = state->masked ? state->open : NULL;
    double sum = 0;
    for (int64_t i = 0; i < blocks->n; i++)
        saved->worth[i * blocks->n + (i + s) % blocks->n] = 0;
    saved->size_a = saved->size_b = 0;
    for (PapaMatchChunk chunk = {0}; papa_match_next_chunk(&chunk, blocks);) {
        papa_match_fill(room->x, &chunk, blocks, state->a, open, room->dev);
        papa_match_fill(room->y, &chunk, blocks, (const float *const *)state->moved, open, room->dev);
        for (int64_t i = 0; i < blocks->n; i++) {
            const float *x = room->x + i * chunk.n, *y = room->y + i * chunk.n;
            const double worth = papa_match_dot(x, y, chunk.n);
            saved->worth[i * blocks->n + (i + s) % blocks->n] += worth;
            sum += worth;
            saved->size_a += papa_match_dot(x, x, chunk.n);
            saved->size_b += papa_match_dot(y, y, chunk.n);
        }
    }
    return sum;
}

/* Moves the blocks (NULL: they stay), matches what is inside. */
static PapaStatus try_blocks(Saved *saved, const int64_t *perm, int64_t s, double *sum)
{
    if (perm)
        papa_match_apply(saved->state, saved->family->blocks, perm);
    cover_blocks(saved, -1);
    PAPA_TRY(match_inside(saved));
    cover_blocks(saved, 1);
    *sum = weigh(saved, s);
    return PAPA_OK;
}

static PapaStatus match(Saved *saved, bool *gained)
{
    PapaMatchState *state = saved->state;
    const int64_t n = saved->family->n;
    double before, sum;
    save(saved, false);
    PAPA_TRY(try_blocks(saved, NULL, 0, &sum));
    save(saved, true);
    for (int64_t s = 1; s < n; s++) {
        for (int64_t i = 0; i < n; i++)
            saved->column[i] = (i + s) % n;
        PAPA_TRY(try_blocks(saved, saved->column, s, &sum));
        save(saved, true);
    }
    PAPA_TRY(papa_assign(saved->column, NULL, NULL, saved->worth, n));
    before = weigh(saved, 0);
    PAPA_TRY(try_blocks(saved, saved->column, 0, &sum));
    *gained = sum - before > PAPA_MATCH_GAIN * sqrt(saved->size_a) * sqrt(saved->size_b);
    if (*gained)
        return PAPA_OK;
    save(saved, true);
    if (!state->masked)
        return PAPA_OK;
    cover_blocks(saved, -1); /* what is inside is settled all the same */
    PAPA_TRY(match_inside(saved));
    cover_blocks(saved, 1);
    return PAPA_OK;
}

PapaStatus papa_match_blocks(PapaMatchState *state, int family, bool *gained)
{
    const PapaMatchFamily *of = &state->setup->families[family];
    if (!of->n_kinds)
        return papa_match_units(state, of->blocks, gained);
    Saved saved;
    *gained = false;
    PapaStatus status = saved_new(&saved, state, of);
    if (status == PAPA_OK)
        status = match(&saved, gained);
    state->matched[of->blocks] = state->masked ? 0 : state->now;
    saved_free(&saved);
    return status;
}
