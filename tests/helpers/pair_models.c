/* pair_models: reads lines "A.onnx B.onnx" and pairs the two. Answers with a line "ok N MICROSECONDS" and N lines, tab-separated: the name of each
 * tensor of A, its counterpart's ("" where it has none), 1 where that is transposed; or with one line "failed: " and the message. */
#include "onnx/pair.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static PapaStatus answer(const PapaOnnx *a, const PapaOnnx *b)
{
    PapaPairing *pairing;
    size_t n;
    double start = now();
    PAPA_TRY(papa_pair_open(&pairing, a, b));
    double seconds = now() - start;
    const PapaTensorPair *pairs = papa_pair_tensors(pairing, &n);
    printf("ok %zu %.0f\n", n, 1e6 * seconds);
    for (size_t i = 0; i < n; i++)
        printf("%s\t%s\t%d\n", pairs[i].a.name ? pairs[i].a.name : "", pairs[i].b.name ? pairs[i].b.name : "", pairs[i].transposed);
    papa_pair_close(pairing);
    return PAPA_OK;
}

int main(void)
{
    char line[4096], first[2048], second[2048];
    while (fgets(line, sizeof line, stdin)) {
        PapaOnnx *a = NULL, *b = NULL;
        if (sscanf(line, "%2047s %2047s", first, second) != 2) {
            fprintf(stderr, "pair_models: two files expected, found: %s", line);
            return 2;
        }
        PapaStatus status = papa_onnx_open(&a, first);
        if (!status)
            status = papa_onnx_open(&b, second);
        if (!status)
            status = answer(a, b);
        if (status)
            printf("failed: %s\n", papa_error());
        fflush(stdout);
        papa_onnx_close(a);
        papa_onnx_close(b);
    }
    return 0;
}
