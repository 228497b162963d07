/* Functions of cuBLASLt that programs link but that are not written yet: weak, and a fault when called. */
#include "cudaemu.h"

#define MISSING(name)                                                                              \
    extern "C" __attribute__((weak)) int name(void) { cudaemu::fault("%s is not emulated", #name); }
MISSING(cublasLtCreate)
MISSING(cublasLtDestroy)
extern "C" __attribute__((weak)) const char *cublasLtGetStatusString(int) { return "cuBLASLt"; }
