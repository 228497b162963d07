/* GPUs that lack something, and runs that would not fit them: one line that says what. The emulator is told what to be before a process' first CUDA
 * call, so each case is a process. */
#include "bars.h"
#include "check.h"
#include "scratch.h"

#include "device/device.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Case {
    const char *what, *variable, *value; /* of the environment */
    const char *device;
    int batch, population;
    PapaStatus status;
    const char *message, *more; /* parts of the line */
} Case;

static const Case cases[] = {
    {"no GPU", "CUDAEMU_DEVICES", "0", "cuda", 36, 2, PAPA_ERR_DEVICE, "device 'cuda'", "the driver sees no GPU"},
    {"one GPU of two", "CUDAEMU_DEVICES", "1", "cuda:0,1", 36, 2, PAPA_ERR_DEVICE, "device 'cuda:0,1'", "there are 1 GPUs"},
    {"a GPU named twice", "CUDAEMU_DEVICES", "1", "cuda:0,0", 36, 2, PAPA_ERR_ARGUMENT, "device 'cuda:0,0'", "named twice"},
    {"no number", "CUDAEMU_DEVICES", "1", "cuda:x", 36, 2, PAPA_ERR_ARGUMENT, "device 'cuda:x'", "expected cuda:N"},
    {"an old GPU", "CUDAEMU_CAPABILITY", "70", "cuda", 36, 2, PAPA_ERR_DEVICE, "compute capability 7.0", "expected at least 7.5"},
    {"too large a batch", "CUDAEMU_MEMORY", "36000000", "cuda", 396, 2, PAPA_ERR_MEMORY, "training needs", "a batch of about"},
    {"too many members", "CUDAEMU_MEMORY", "60000000", "cuda", 20, 90, PAPA_ERR_MEMORY, "training needs", "a population of"},
    {"members one after the other", "CUDAEMU_MEMORY", "60000000", "cuda", 48, 6, PAPA_OK, "", ""},
    {"automatic, no GPU", "CUDAEMU_DEVICES", "0", "auto", 36, 2, PAPA_OK, "", ""},
};

static PapaStatus train(const Case *c)
{
    PapaModel *model;
    PapaTrainReport report;
    PapaTrainOptions o;
    papa_train_defaults(&o);
    o.data = data_folder();
    o.out = NULL;
    o.population = c->population;
    o.batch = c->batch;
    o.epochs = 1;
    o.repair = false;
    o.device.device = c->device;
    PapaStatus status = papa_model_open(&model, PAPA_SOURCE_DIR "/testdata/lenet.onnx");
    if (status == PAPA_OK)
        status = papa_train(&report, model, &o, NULL);
    papa_model_close(model);
    if (status == PAPA_OK)
        papa_train_report_free(&report);
    return status;
}

static int run_case(const Case *c)
{
    setenv(c->variable, c->value, 1);
    check_failures = check_count = 0; /* the parent's */
    PapaStatus status = train(c);
    const char *error = status == PAPA_OK ? "" : papa_error();
    CHECK(status == c->status && strstr(error, c->message) && strstr(error, c->more), "%s: status %d, \"%s\", expected %d with \"%s\" and \"%s\"", c->what,
        status, error, c->status, c->message, c->more);
    return check_result();
}

int main(void)
{
    data_folder(); /* in the parent, whose scratch folder it is */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            int code = run_case(&cases[i]);
            fflush(NULL);
            _exit(code);
        }
        int status = -1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child, "%s: no process", cases[i].what);
        CHECK(status == 0, "%s: status %d", cases[i].what, status);
    }
    return check_result();
}
