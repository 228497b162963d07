/* Matching of units: what was scrambled comes back, what is found is never worse than what there was, small cases are solved exactly. */
#include "matchtest.h"

static PapaDevice *dev;

/* ---------------------------------------------------------------- scrambled models come back */

enum { SCRAMBLES = 20 };

static void check_comes_back(const char *name)
{
    MatchTest t;
    int first = 0;
    CHECK_OK(match_test_open(&t, name, dev));
    float **a = match_weights_draw(t.groups, 0);
    for (uint32_t k = 0; k < SCRAMBLES; k++) {
        int64_t **perms = match_perms_draw(t.groups, k);
        float **b = match_weights_permuted(t.groups, a, perms);
        PapaMatch match;
        CHECK(match_weights_differ(t.groups, a, b), "%s: scramble %u moves nothing", name, k);
        CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options));
        float **back = match_weights_permuted(t.groups, b, match.perms);
        const char *different = match_weights_differ(t.groups, a, back);
        CHECK(!different, "%s: scramble %u: %s does not come back (%g of %g)", name, k, different, match.objective, match.before);
        first += match.restart == 0;
        match_weights_free(back, t.groups);
        match_weights_free(b, t.groups);
        match_perms_free(perms, t.groups->n_groups);
        papa_match_free(&match);
    }
    CHECK(first == SCRAMBLES, "%s: the first search finds %d of %d", name, first, SCRAMBLES);
    match_weights_free(a, t.groups);
    match_test_close(&t);
}

int main(void)
{
    if (papa_device_open_cpu(&dev, 2) != PAPA_OK) {
        printf("%s\n", papa_error());
        return 1;
    }
    static const char *const models[] = {"lenet", "mlp", "vgg", "resnet8", "resnet20", "resnet8-projection", "mobilenet-tiny", "densenet-tiny", "vit-tiny"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        check_comes_back(models[i]);
    papa_device_close(dev);
    return check_result();
}
