/* The arithmetic that the stand-ins for cuDNN and cuBLASLt share: roundings, and a matrix product that is fast enough for tests. */
#ifndef CUDAEMU_LIBMATH_H
#define CUDAEMU_LIBMATH_H

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cudaemu {

inline uint32_t bits_of(float x)
{
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits)
{
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

/* To the nearest float with `kept` of the 23 bits behind the point, ties to even. NaN and infinity stay. */
inline float rounded(float x, int kept)
{
    uint32_t bits = bits_of(x), last = 1u << (23 - kept);
    if ((bits & 0x7f800000u) == 0x7f800000u)
        return x;
    bits += last / 2 - 1 + (bits / last & 1);
    return float_of(bits & ~(last - 1));
}
constexpr int kTf32Bits = 10, kBfloat16Bits = 7;

inline float load_bfloat16(const void *p)
{
    uint16_t half;
    std::memcpy(&half, p, sizeof half);
    return float_of(static_cast<uint32_t>(half) << 16);
}

inline void store_bfloat16(void *p, float x)
{
    uint32_t bits = bits_of(rounded(x, kBfloat16Bits));
    uint16_t half = static_cast<uint16_t>(bits >> 16);
    if (x != x)
        half |= 0x40; /* a NaN whose upper bits are those of infinity stays one */
    std::memcpy(p, &half, sizeof half);
}

/* Element (i, j) of a matrix is p[i * row + j * column]. */
struct MatrixView {
    const float *p;
    std::ptrdiff_t row, column;
};

/* c = a b: c (m, n) with rows of ldc floats, a (m, k), b (k, n). Sums of 256 products each are added up in order, all in float32. */
void multiply(float *c, std::ptrdiff_t ldc, MatrixView a, MatrixView b, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k);

} // namespace cudaemu

#endif
