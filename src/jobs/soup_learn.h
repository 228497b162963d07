/* Learned soups (Wortsman et al. 2022, arXiv 2203.05482, appendix): weights that make the loss on held-out images least.
 *
 * The weights of a row are the softmax of its alphas, which start equal. One row serves the whole network, or each trained tensor has its own; what is not
 * trained (running statistics) then takes the mean of the rows, each counted as often as its tensor has elements. With
 *     theta_T = sum_k weight[T][k] w_k[T],   d[T][k] = <dL/dtheta_T, w_k[T]>,
 *     dL/dalpha[T][k] = weight[T][k] (d[T][k] - sum_j weight[T][j] d[T][j]),
 * summed over the tensors that share a row, one gradient of the network gives that of all alphas. The inner products are taken on the host, in double:
 * on a GPU that costs a download of the gradient in each step, and a copy of all models in the host's memory. */
#ifndef PAPA_SOUP_LEARN_H
#define PAPA_SOUP_LEARN_H

#include "jobs/judge.h"

typedef struct PapaSoupLearning PapaSoupLearning;

/* judge: opened for learning. stores: n of them, on its device, borrowed. */
PapaStatus papa_soup_learning_new(PapaSoupLearning **out, PapaJudge *judge, float *const *stores, int n, bool by_tensor);
void papa_soup_learning_free(PapaSoupLearning *learning);

/* Rows of alphas and weights, each of n. */
int papa_soup_learning_rows(const PapaSoupLearning *learning);

/* Of step's batch: the loss at these alphas, and its gradient. Both (rows, n). */
PapaStatus papa_soup_learning_gradient(PapaSoupLearning *learning, double *loss, double *gradient, const double *alphas, int64_t step);

/* Adam (beta 0.9 and 0.999, eps 1e-8) on the alphas; its rate falls from `rate` to 0 along a cosine. Errors: PAPA_ERR_NUMERIC: a loss that is no finite number. */
PapaStatus papa_soup_learning_run(PapaSoupLearning *learning, int64_t n_steps, double rate);

/* The weights that were learned: (rows, n); and the mean of the rows, (n). Valid while the learning lives. */
const double *papa_soup_learning_weights(const PapaSoupLearning *learning);
const double *papa_soup_learning_mean(const PapaSoupLearning *learning);

/* By tensor of the file, as papa_onnx_tensors lists them: (tensors, n), for PapaMergeOptions.tensor_weights. Allocated. */
PapaStatus papa_soup_learning_tensor_weights(double **out, const PapaSoupLearning *learning);

#endif
