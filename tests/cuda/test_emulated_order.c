/* Short whole runs on the strict emulator, which knows what every stream may rely on: a missing event between a worker's stream, the one its batches
 * go up on, and the hubs that pull and average ends the run, even where the numbers came out right. Every seed is another order of the streams'
 * work, and a process of its own. */
#include "bars.h"
#include "check.h"
#include "scratch.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Case {
    const char *model, *device;
    PapaMethod method;
    int population, optimizer;
    float clip;
} Case;

static const Case cases[] = {
    {"mlp", "cuda", PAPA_METHOD_PAPA, 3, PAPA_OPTIMIZER_SGD, 0},
    {"mlp", "cuda:0,1", PAPA_METHOD_PAPA, 3, PAPA_OPTIMIZER_ADAMW, 1},
    {"mlp", "cuda:0,1", PAPA_METHOD_ALL, 2, PAPA_OPTIMIZER_SGD, 0},
    {"lenet", "cuda:0,1", PAPA_METHOD_2, 3, PAPA_OPTIMIZER_SGD, 0},
};

static PapaStatus train(PapaTrainReport *report, const Case *c, const char *device)
{
    char path[512];
    PapaModel *model;
    PapaTrainOptions o;
    papa_train_defaults(&o);
    o.data = data_folder();
    o.out = NULL;
    o.population = c->population;
    o.method = c->method;
    o.optimizer = (PapaOptimizer)c->optimizer;
    o.clip = c->clip;
    o.every = 2;
    o.every_epochs = 1;
    o.alpha = .9f;
    o.epochs = 2;
    o.batch = 72; /* of 396 images: five steps in an epoch, and a shorter one */
    o.keep_last = true;
    o.val_fraction = .1f;
    o.repair_batches = 2;
    o.device.device = device;
    snprintf(path, sizeof path, PAPA_SOURCE_DIR "/testdata/%s.onnx", c->model);
    PapaStatus status = papa_model_open(&model, path);
    if (status == PAPA_OK)
        status = papa_train(report, model, &o, NULL);
    papa_model_close(model);
    return status;
}

static int run_case(const Case *c, const char *seed)
{
    setenv("CUDAEMU_SEED", seed, 1);
    setenv("CUDAEMU_DEVICES", "2", 1);
    setenv("CUDAEMU_PEERS", "0", 1);
    check_failures = check_count = 0; /* the parent's */
    PapaTrainReport cpu = {0}, cuda = {0};
    CHECK(train(&cpu, c, "cpu") == PAPA_OK && train(&cuda, c, c->device) == PAPA_OK, "%s on %s: %s", c->model, c->device, papa_error());
    if (check_failures)
        return 1;
    CHECK_NEAR(cuda.test.mean.loss, cpu.test.mean.loss, 1e-4);
    CHECK_NEAR(cuda.test.soup.loss, cpu.test.soup.loss, 1e-4);
    CHECK_NEAR(cuda.test.ensemble.loss, cpu.test.ensemble.loss, 1e-4);
    papa_train_report_free(&cpu), papa_train_report_free(&cuda);
    return check_result();
}

int main(void)
{
    static const char *const seeds[] = {"1", "2"}; /* backward, shuffled; test_cuda_train goes forward */
    data_folder(); /* in the parent, whose scratch folder it is */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t s = 0; s < sizeof seeds / sizeof *seeds; s++) {
            fflush(NULL);
            pid_t child = fork();
            if (child == 0) {
                int code = run_case(&cases[i], seeds[s]);
                fflush(NULL);
                _exit(code);
            }
            int status = -1;
            CHECK(child > 0 && waitpid(child, &status, 0) == child, "case %zu: no process", i);
            CHECK(status == 0, "%s on %s, seed %s: status %d", cases[i].model, cases[i].device, seeds[s], status);
        }
    return check_result();
}
