/* The linear assignment problem, which every matching of units comes down to: pair the rows and the columns of a square matrix so that
 * the sum of the chosen elements is as large as can be.
 *
 * Exact, O(n^3) at worst, O(n^2) where most rows have a favourite column of their own. Knows numbers only; owns nothing. */
#ifndef PAPA_ASSIGNMENT_H
#define PAPA_ASSIGNMENT_H

#include "base/status.h"

#include <stdint.h>

/* a: (n, n), row-major, finite. column[i]: the column of row i, a permutation of 0 .. n-1 that maximises sum_i a[i][column[i]].
 *
 * u, v (n each; both may be NULL) are the solution of the dual problem, which proves it: u[i] + v[j] >= a[i][j] for all i, j, with equality
 * where j = column[i], and hence sum(u) + sum(v) is the sum of the chosen elements. All of it holds up to rounding in float64, relative
 * to the largest |a[i][j]|; where sums are exact (integers below 2^53 / n) it holds exactly.
 *
 * Where several pairings are best, which one is found follows from the numbers alone (equal input, equal output, on every
 * machine), but from no rule: neither the identity nor the first in any order is preferred. Errors: PAPA_ERR_NUMERIC (an element that is
 * not finite, or so large that sums overflow: names it), PAPA_ERR_MEMORY, PAPA_ERR_ARGUMENT (n is negative or above INT32_MAX). */
PapaStatus papa_assign(int64_t *column, double *u, double *v, const double *a, int64_t n);

/* The same for float32 elements; sums and duals in float64 as above. */
PapaStatus papa_assign_float(int64_t *column, double *u, double *v, const float *a, int64_t n);

#endif
