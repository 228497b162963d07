/* match_models A.onnx B.onnx SEARCHES
 *
 * Two files of one network, written alike. Matches the units of B to those of A by their weights. Prints the objective, what it is for the identity, and,
 * a line for each group, its name and the permutation. */
#include "matchtest.h"

static PapaStatus read_all(float ***out, const MatchTest *t)
{
    float **weights = *out = match_weights_new(t->groups);
    for (int i = 0; i < t->groups->n_tensors; i++)
        PAPA_TRY(papa_tensor_read_float(t->onnx, t->groups->tensors[i].tensor, weights[i], t->groups->tensors[i].count));
    return PAPA_OK;
}

static PapaStatus match_files(const char *const *paths, int restarts, PapaDevice *dev)
{
    MatchTest tests[2];
    float **weights[2];
    PapaMatch match;
    for (int i = 0; i < 2; i++) {
        PAPA_TRY(match_test_open(&tests[i], paths[i], dev));
        PAPA_TRY(read_all(&weights[i], &tests[i]));
    }
    const PapaGroups *groups = tests[0].groups;
    tests[0].options.restarts = restarts;
    PAPA_TRY(papa_match_weights(&match, groups, TENSORS(weights[0]), TENSORS(weights[1]), &tests[0].options));
    printf("%.17g %.17g\n", match.objective, match.before);
    for (int g = 0; g < groups->n_groups; g++) {
        printf("%s", groups->groups[g].name);
        for (int64_t i = 0; i < groups->groups[g].n; i++)
            printf(" %lld", (long long)match.perms[g][i]);
        printf("\n");
    }
    papa_match_free(&match);
    for (int i = 0; i < 2; i++) {
        match_weights_free(weights[i], tests[i].groups);
        match_test_close(&tests[i]);
    }
    return PAPA_OK;
}

int main(int argc, char **argv)
{
    PapaDevice *dev;
    if (argc != 4) {
        fprintf(stderr, "usage: match_models A.onnx B.onnx SEARCHES\n");
        return 2;
    }
    PapaStatus status = papa_device_open_cpu(&dev, 2);
    if (status == PAPA_OK) {
        status = match_files((const char *const *)argv + 1, (int)strtol(argv[3], NULL, 10), dev);
        papa_device_close(dev);
    }
    if (status != PAPA_OK)
        fprintf(stderr, "%s\n", papa_error());
    return status != PAPA_OK;
}
