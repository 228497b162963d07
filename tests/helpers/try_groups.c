/* try_groups MODEL.onnx [DIM,DIM,...]...
 *
 * Derives the model's groups and permutes each at random, and all at once. The shapes of the inputs follow. Prints the largest difference of the
 * outputs, relative to the largest output, in float32 and in the double of the proof, how many groups and units there are, how many groups have no say in the
 * outputs, and the groups. */
#include "groupstest.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    GroupsTest t;
    PapaShape shapes[4] = {0};
    int n = 0;
    for (int i = 2; i < argc && n < 4; i++, n++)
        for (char *at = argv[i]; *at && shapes[n].rank < PAPA_MAX_RANK; at += *at == ',')
            shapes[n].dim[shapes[n].rank++] = strtoll(at, &at, 10);
    if (argc < 2) {
        fprintf(stderr, "usage: try_groups MODEL.onnx [DIM,DIM,...]...\n");
        return 2;
    }
    if (groups_begin(&t, argv[1], shapes, n) != PAPA_OK) {
        fprintf(stderr, "%s\n", papa_error());
        return 1;
    }
    double worst = 0;
    int64_t **one = groups_alloc(t.groups->n_groups, sizeof *one), units = 0;
    for (int g = 0; g < t.groups->n_groups; g++) {
        one[g] = t.perms[g] = groups_permutation(t.groups->groups[g].n, (uint32_t)g);
        worst = fmax(worst, groups_error(&t, one));
        units += t.groups->groups[g].n;
        one[g] = NULL;
    }
    worst = fmax(worst, groups_error(&t, t.perms));
    int unseen;
    double in_double = groups_prove(&t, argv[1], &unseen);
    printf("%g %g %d %lld %d %s\n", worst, in_double, t.groups->n_groups, (long long)units, unseen, groups_text(t.groups));
    for (int i = 0; i < t.groups->n_pinned && getenv("PAPA_TEST_PINNED"); i++)
        printf("%s axis %d: %lld stay: %s\n", t.groups->tensors[t.groups->pinned[i].tensor].name, t.groups->pinned[i].axis,
            (long long)t.groups->pinned[i].n, t.groups->pinned[i].why);
    free(one);
    groups_end(&t);
    return check_failures != 0;
}
