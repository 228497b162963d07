/* Winograd's loops for AVX2: 16 registers of 8 floats. Compiled with -mavx2 -mfma. */
#define VECTOR_BYTES 32
#define UNIT papa_winograd_avx2
#define UNIT_NAME "winograd avx2"
#include "kernels/winograd_kernels.h"
