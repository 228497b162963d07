/* Winograd's loops for AVX-512: 32 registers of 16 floats. Compiled with -mavx512f -mfma. */
#define VECTOR_BYTES 64
#define UNIT papa_winograd_avx512
#define UNIT_NAME "winograd avx512"
#include "kernels/winograd_kernels.h"
