/* assign N TYPE REPEATS < MATRIX: times papa_assign on an n x n matrix of float64 or float32 (TYPE: double or float), row-major.
 * Prints the sum of the chosen elements and the fastest repeat's seconds of processor time. */
#include "align/assignment.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    int64_t n = argc == 4 ? strtoll(argv[1], NULL, 10) : 0;
    bool is_float = argc == 4 && !strcmp(argv[2], "float");
    long repeats = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
    if (n < 1 || n > 1 << 15 || repeats < 1 || (!is_float && strcmp(argv[2], "double"))) {
        fprintf(stderr, "usage: assign N double|float REPEATS < MATRIX\n");
        return 2;
    }
    size_t count = (size_t)(n * n), size = is_float ? sizeof(float) : sizeof(double);
    void *a = malloc(count * size);
    int64_t *column = malloc((size_t)n * sizeof *column);
    if (!a || !column || fread(a, size, count, stdin) != count) {
        fprintf(stderr, "assign: can't read %zu elements\n", count);
        return 1;
    }
    double best = 0, sum = 0;
    for (long k = 0; k < repeats; k++) {
        double start = now();
        PapaStatus status = is_float ? papa_assign_float(column, NULL, NULL, a, n) : papa_assign(column, NULL, NULL, a, n);
        double seconds = now() - start;
        if (status) {
            fprintf(stderr, "assign: %s\n", papa_error());
            return 1;
        }
        best = k == 0 || seconds < best ? seconds : best;
    }
    for (int64_t i = 0; i < n; i++)
        sum += is_float ? (double)((float *)a)[i * n + column[i]] : ((double *)a)[i * n + column[i]];
    printf("%.17g %.9g\n", sum, best);
    free(a);
    free(column);
    return 0;
}
