/* CUDA's small vectors: the layout and alignment that the hardware's wide loads ask for. */
#ifndef VECTOR_TYPES_H
#define VECTOR_TYPES_H

#define CUDAEMU_ALIGNED(n) __attribute__((aligned(n)))

typedef struct uint3 { unsigned int x, y, z; } uint3;
typedef struct int2 { int x, y; } CUDAEMU_ALIGNED(8) int2;
typedef struct int4 { int x, y, z, w; } CUDAEMU_ALIGNED(16) int4;
typedef struct uint2 { unsigned int x, y; } CUDAEMU_ALIGNED(8) uint2;
typedef struct uint4 { unsigned int x, y, z, w; } CUDAEMU_ALIGNED(16) uint4;
typedef struct float2 { float x, y; } CUDAEMU_ALIGNED(8) float2;
typedef struct float3 { float x, y, z; } float3;
typedef struct float4 { float x, y, z, w; } CUDAEMU_ALIGNED(16) float4;
typedef struct double2 { double x, y; } CUDAEMU_ALIGNED(16) double2;
typedef struct uchar4 { unsigned char x, y, z, w; } CUDAEMU_ALIGNED(4) uchar4;

typedef struct dim3 {
    unsigned int x, y, z;
#ifdef __cplusplus
    constexpr dim3(unsigned int vx = 1, unsigned int vy = 1, unsigned int vz = 1) : x(vx), y(vy), z(vz) {}
#endif
} dim3;

#endif
