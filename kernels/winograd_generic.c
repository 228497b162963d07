/* Winograd's loops for vectors of 4 floats, which every 64-bit processor has. */
#define VECTOR_BYTES 16
#define UNIT papa_winograd_generic
#define UNIT_NAME "winograd generic"
#include "kernels/winograd_kernels.h"
