/* merge_files METHOD OUT [OPTION=VALUE ...] MODEL ...: merges ONNX files (src/soup/merge.h), for tests/oracle/test_merge_exact.py and
 * tests/bench/merge.
 *
 * METHOD: mean lerp slerp task ties dare dare-ties stock wise ema. Options: base=FILE weights=A,B,.. any_sum=1 t=T scale=S density=D
 * decay=B seed=N threads=N. Prints seconds=... and peak_rss_anon_mb=..., looked at every millisecond. */
#include "soup/merge.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 128 };

static const char *const methods[] = {
    [PAPA_MERGE_MEAN] = "mean", [PAPA_MERGE_LERP] = "lerp", [PAPA_MERGE_SLERP] = "slerp", [PAPA_MERGE_TASK] = "task",
    [PAPA_MERGE_TIES] = "ties", [PAPA_MERGE_DARE] = "dare", [PAPA_MERGE_DARE_TIES] = "dare-ties", [PAPA_MERGE_STOCK] = "stock",
    [PAPA_MERGE_WISE] = "wise", [PAPA_MERGE_EMA] = "ema",
};

typedef struct Arguments {
    PapaMergeOptions options;
    double weights[MOST];
    const char *base, *out, *inputs[MOST];
    int n;
} Arguments;

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---------------------------------------------------------------- memory */

static atomic_bool done;

/* Anonymous memory at hand, in KiB. */
static long anonymous_kib(void)
{
    char line[256];
    long kib = 0;
    FILE *status = fopen("/proc/self/status", "r");
    while (status && fgets(line, sizeof line, status))
        if (!strncmp(line, "RssAnon:", 8))
            kib = strtol(line + 8, NULL, 10);
    if (status)
        fclose(status);
    return kib;
}

static void *watch(void *peak)
{
    while (!atomic_load(&done)) {
        long kib = anonymous_kib();
        if (kib > *(long *)peak)
            *(long *)peak = kib;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return NULL;
}

/* ---------------------------------------------------------------- arguments */

static bool set_option(Arguments *a, const char *name, size_t bytes, char *value)
{
    PapaMergeOptions *o = &a->options;
    struct {
        const char *name;
        double *number;
    } numbers[] = {{"t", &o->t}, {"scale", &o->scale}, {"density", &o->density}, {"decay", &o->decay}};
    char own[16] = "";
    snprintf(own, sizeof own, "%.*s", (int)bytes, name);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(own, numbers[i].name)) {
            *numbers[i].number = strtod(value, NULL);
            return true;
        }
    if (!strcmp(own, "weights")) {
        char *rest = NULL, *word = strtok_r(value, ",", &rest);
        for (int k = 0; word && k < MOST; k++, word = strtok_r(NULL, ",", &rest))
            a->weights[k] = strtod(word, NULL);
        o->weights = a->weights;
    } else if (!strcmp(own, "base")) {
        a->base = value;
    } else if (!strcmp(own, "any_sum")) {
        o->any_sum = *value == '1';
    } else if (!strcmp(own, "seed")) {
        o->seed = strtoull(value, NULL, 10);
    } else if (!strcmp(own, "threads")) {
        o->threads = (int)strtol(value, NULL, 10);
    } else {
        return false;
    }
    return true;
}

static bool parse(Arguments *a, int argc, char **argv)
{
    papa_merge_defaults(&a->options);
    int method = 0, n_methods = (int)(sizeof methods / sizeof *methods);
    while (argc > 1 && method < n_methods && strcmp(argv[1], methods[method]))
        method++;
    if (argc < 3 || method == n_methods)
        return false;
    a->options.method = (PapaMergeMethod)method;
    a->out = argv[2];
    for (int i = 3; i < argc; i++) {
        char *equals = strchr(argv[i], '=');
        if (equals && !set_option(a, argv[i], (size_t)(equals - argv[i]), equals + 1))
            return false;
        if (!equals && a->n < MOST)
            a->inputs[a->n++] = argv[i];
    }
    return a->n > 0;
}

/* ---------------------------------------------------------------- merging */

static PapaStatus merge_files(const Arguments *a)
{
    PapaOnnx *models[MOST + 1] = {0};
    PapaMergeModel inputs[MOST + 1] = {{0}};
    PapaEdit *edit = NULL;
    PapaMerge *merge = NULL;
    PapaStatus status = PAPA_OK;
    for (int k = 0; k < a->n; k++) {
        PAPA_GOTO(papa_onnx_open(&models[k], a->inputs[k]));
        inputs[k].onnx = models[k];
    }
    if (a->base)
        PAPA_GOTO(papa_onnx_open(&models[a->n], a->base));
    inputs[a->n].onnx = models[a->n];
    PAPA_GOTO(papa_edit_new(&edit, models[0]));
    PAPA_GOTO(papa_merge_new(&merge, edit, inputs, a->n, a->base ? &inputs[a->n] : NULL, &a->options));
    PAPA_GOTO(papa_edit_write(edit, a->out));
out:
    papa_merge_free(merge);
    papa_edit_free(edit);
    for (int k = 0; k <= a->n; k++)
        papa_onnx_close(models[k]);
    return status;
}

int main(int argc, char **argv)
{
    static Arguments arguments;
    if (!parse(&arguments, argc, argv)) {
        fprintf(stderr, "usage: merge_files METHOD OUT [OPTION=VALUE ...] MODEL ...\n");
        return 2;
    }
    long peak = 0;
    pthread_t watcher;
    if (pthread_create(&watcher, NULL, watch, &peak)) {
        fprintf(stderr, "merge_files: no thread to watch the memory\n");
        return 1;
    }
    double start = seconds_now();
    PapaStatus status = merge_files(&arguments);
    double seconds = seconds_now() - start;
    atomic_store(&done, true);
    pthread_join(watcher, NULL);
    if (status) {
        fprintf(stderr, "merge_files: %s\n", papa_error());
        return 1;
    }
    printf("seconds=%.4f\npeak_rss_anon_mb=%.1f\n", seconds, (double)peak / 1024);
    return 0;
}
