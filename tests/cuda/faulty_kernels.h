/* Kernels with a mistake planted in them, and sound ones that host code makes mistakes with: for test_cudaemu_faults.cpp. */
#ifndef FAULTY_KERNELS_H
#define FAULTY_KERNELS_H

#include "cuda_runtime_api.h"

#include <cstddef>

/* Sound. n: elements; any stream. */
void fill(float *y, int n, float value, cudaStream_t stream);                          /* y = value */
void copy(float *y, const float *x, int n, cudaStream_t stream);                       /* y = x */
void add(float *y, const float *x, int n, cudaStream_t stream);                        /* y += x */
void touch_bytes(unsigned char *y, int n, cudaStream_t stream);                        /* neighbours by different threads */
void touch_halves(void *y, int n, cudaStream_t stream);                                /* the same with bfloat16 */
void block_sums(float *y, const float *x, int n, int blocks, cudaStream_t stream);     /* y[block]: through shared memory, barriers, shuffles */
void reverse_rows(float *y, const float *x, int rows, int columns, cudaStream_t stream); /* dynamic shared memory; columns <= 1024 */
void count_positive(int *y, const float *x, int n, cudaStream_t stream);               /* votes and integer atomics; y starts as 0 */
void odd_warps(int *y, cudaStream_t stream);                                           /* y: 48; half-masks, and a warp of 16 */

/* Launched with these sizes and nothing else: what the hardware's limits refuse. Returns what the launch reported. */
void launch_empty(dim3 grid, dim3 block, size_t shared, cudaStream_t stream);
void launch_static_shared(size_t shared, cudaStream_t stream);                         /* beside 40 KB of static arrays */
cudaError_t allow_shared(int bytes);                                                   /* for launch_empty's kernel */
void launch_unchecked(float *y, int n, cudaStream_t stream);

/* With a mistake. */
struct Pair {
    const float *from;
    float *to;
};
void copy_pair(Pair pair, int n, cudaStream_t stream);
void copy_one_more(float *y, const float *x, int n, bool read, cudaStream_t stream);   /* reads, or writes, element n too */
void shared_one_more(float *y, bool dynamic, cudaStream_t stream);
void local_one_more(float *y, int index, cudaStream_t stream);
void read_fresh_shared(float *y, cudaStream_t stream);
void no_barrier(float *y, int which, cudaStream_t stream);                             /* y: 256 */
void bad_barrier(float *y, int which, cudaStream_t stream);
void racing_blocks(float *y, int which, cudaStream_t stream);                          /* y: 64, initialised */
void misaligned(float *y, int which, cudaStream_t stream);                             /* y: 64, initialised */
void bad_warp(float *y, int which, cudaStream_t stream);                               /* y: 64 */
void overflowing(int *y, int by, cudaStream_t stream);
void wild(float *y, cudaStream_t stream);
void deep(float *y, int depth, cudaStream_t stream);                                   /* more stack than there is */
float read_on_host(const float *p);                                                    /* host code of a .cu file */

#endif
