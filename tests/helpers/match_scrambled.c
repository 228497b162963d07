/* match_scrambled MODEL.onnx TIMES SEARCHES
 *
 * Draws numbers for the model's tensors, scrambles its units at random, and matches them. Prints how often that brought the numbers back, bit for
 * bit, how often it took more than the first search, how many of the groups are blocks, and how many are units inside blocks. */
#include "matchtest.h"

static PapaStatus match_one(const MatchTest *t, float **a, uint32_t stream, int *n_back, int *n_later)
{
    PapaMatch match;
    int64_t **perms = match_perms_draw(t->groups, stream);
    float **b = match_weights_permuted(t->groups, a, perms);
    PAPA_TRY(papa_match_weights(&match, t->groups, TENSORS(a), TENSORS(b), &t->options));
    float **back = match_weights_permuted(t->groups, b, match.perms);
    *n_back += !match_weights_differ(t->groups, a, back);
    *n_later += match.restart > 0;
    papa_match_free(&match);
    match_weights_free(back, t->groups);
    match_weights_free(b, t->groups);
    match_perms_free(perms, t->groups->n_groups);
    return PAPA_OK;
}

static PapaStatus match_all(const char *path, int times, int searches, PapaDevice *dev)
{
    MatchTest t;
    int n_back = 0, n_later = 0, n_blocks = 0, n_inside = 0;
    PAPA_TRY(match_test_open(&t, path, dev));
    t.options.restarts = searches;
    PapaMatchPlace *places = match_alloc(t.groups->n_groups, sizeof *places);
    float **a = match_weights_draw(t.groups, 0);
    PAPA_TRY(papa_match_places(places, t.groups));
    for (int g = 0; g < t.groups->n_groups; g++) {
        n_blocks += t.groups->groups[g].blocks;
        n_inside += places[g].blocks >= 0;
    }
    for (int k = 0; k < times; k++)
        PAPA_TRY(match_one(&t, a, (uint32_t)k, &n_back, &n_later));
    printf("%d %d %d %d %d\n", n_back, n_later, t.groups->n_groups, n_blocks, n_inside);
    free(places);
    match_weights_free(a, t.groups);
    match_test_close(&t);
    return PAPA_OK;
}

int main(int argc, char **argv)
{
    PapaDevice *dev;
    if (argc != 4) {
        fprintf(stderr, "usage: match_scrambled MODEL.onnx TIMES SEARCHES\n");
        return 2;
    }
    PapaStatus status = papa_device_open_cpu(&dev, 1);
    if (status == PAPA_OK) {
        status = match_all(argv[1], (int)strtol(argv[2], NULL, 10), (int)strtol(argv[3], NULL, 10), dev);
        papa_device_close(dev);
    }
    if (status != PAPA_OK)
        fprintf(stderr, "%s\n", papa_error());
    return status != PAPA_OK;
}
