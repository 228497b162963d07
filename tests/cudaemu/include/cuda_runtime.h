/* What host code written in C++ includes. Kernels get the language's own words from cudaemu_kernel.h. */
#ifndef CUDA_RUNTIME_H
#define CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#endif
