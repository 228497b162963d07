/* Trained networks that were permuted at random come back bit for bit, with their statistics. Training leaves what random numbers lack: units that are dead,
 * nearly alike, or of very unequal size.
 *
 * test_match_trained [FOLDER...]: the networks in these folders (member-N.onnx) instead of those it trains, which see little. */
#include "bars.h"
#include "matchtest.h"

enum { NETWORKS = 3, SCRAMBLES = 20, RESTARTS = 5 };

static PapaDevice *dev;

static float **read_weights(const MatchTest *t)
{
    float **weights = match_weights_new(t->groups);
    for (int i = 0; i < t->groups->n_tensors; i++) {
        PapaStatus status = papa_tensor_read_float(t->onnx, t->groups->tensors[i].tensor, weights[i], t->groups->tensors[i].count);
        CHECK(status == PAPA_OK, "%s", papa_error());
    }
    return weights;
}

static void check_comes_back(const char *path, int *by_restart)
{
    MatchTest t;
    CHECK_OK(match_test_open(&t, path, dev));
    float **a = read_weights(&t);
    for (uint32_t k = 0; k < SCRAMBLES; k++) {
        int64_t **perms = match_perms_draw(t.groups, k);
        float **b = match_weights_permuted(t.groups, a, perms);
        const char *different = "";
        CHECK(match_weights_differ(t.groups, a, b), "%s: scramble %u moves nothing", path, k);
        for (t.options.restarts = 1; different && t.options.restarts <= RESTARTS; t.options.restarts++) {
            PapaMatch match;
            CHECK_OK(papa_match_weights(&match, t.groups, TENSORS(a), TENSORS(b), &t.options));
            float **back = match_weights_permuted(t.groups, b, match.perms);
            different = match_weights_differ(t.groups, a, back);
            by_restart[t.options.restarts - 1] += !different;
            match_weights_free(back, t.groups);
            papa_match_free(&match);
        }
        CHECK(!different, "%s: scramble %u: '%s' does not come back", path, k, different);
        match_weights_free(b, t.groups);
        match_perms_free(perms, t.groups->n_groups);
    }
    match_weights_free(a, t.groups);
    match_test_close(&t);
}

static void check_folder(const char *folder, const char *name)
{
    int by_restart[RESTARTS] = {0};
    for (int j = 0; j < NETWORKS; j++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/member-%d.onnx", folder, j);
        check_comes_back(path, by_restart);
    }
    printf("%s: come back after searches", name);
    for (int k = 0; k < RESTARTS; k++)
        printf(" %d: %d%s", k + 1, by_restart[k], k + 1 < RESTARTS ? "," : "\n");
}

static void train(const char *name, const char *out)
{
    char path[1024];
    PapaModel *model;
    PapaTrainReport report;
    PapaTrainOptions o;
    papa_train_defaults(&o);
    o.data = data_folder();
    o.out = out;
    o.method = PAPA_METHOD_NONE;
    o.init = PAPA_INIT_RANDOM;
    o.population = NETWORKS;
    o.batch = 64;
    o.epochs = 3;
    o.lr = .02f;
    o.weight_decay = 1e-3f;
    snprintf(path, sizeof path, PAPA_SOURCE_DIR "/testdata/%s.onnx", name);
    CHECK_OK(papa_model_open(&model, path));
    CHECK_OK(papa_train(&report, model, &o, NULL));
    papa_train_report_free(&report);
    papa_model_close(model);
}

int main(int argc, char **argv)
{
    static const char *const models[] = {"lenet", "mlp", "vgg", "resnet20", "resnet8-projection", "mobilenet-tiny", "densenet-tiny", "vit-tiny"};
    if (papa_device_open_cpu(&dev, 2) != PAPA_OK) {
        printf("%s\n", papa_error());
        return 1;
    }
    for (int i = 1; i < argc; i++)
        check_folder(argv[i], argv[i]);
    for (size_t i = 0; i < sizeof models / sizeof *models && argc < 2; i++) {
        char out[512];
        snprintf(out, sizeof out, "%s", scratch("%s", models[i]));
        train(models[i], out);
        check_folder(out, models[i]);
    }
    papa_device_close(dev);
    return check_result();
}
