/* A matrix product for the libraries' stand-ins: tiles of 6 x 16 sums in registers over b in panels of 16 columns. */
#include "cudaemu_libmath.h"

#include <algorithm>
#include <vector>

/* Compiled for each of the usual x86-64 levels and picked at load time; the sanitizers run later than that. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(PAPA_NO_CLONES)
#define CUDAEMU_SIMD __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CUDAEMU_SIMD
#endif

namespace cudaemu {
namespace {

constexpr std::ptrdiff_t kRows = 6, kColumns = 16, kDepth = 256;
typedef float Lanes __attribute__((vector_size(kColumns * sizeof(float)), aligned(4), may_alias));

/* sums (kRows, kColumns) = the six rows of a times the panel (k, kColumns). */
CUDAEMU_SIMD void tile(float *sums, const float *const *rows, std::ptrdiff_t column, const float *panel, std::ptrdiff_t k)
{
    Lanes s0 = {}, s1 = {}, s2 = {}, s3 = {}, s4 = {}, s5 = {};
    const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3], *r4 = rows[4], *r5 = rows[5];
    for (std::ptrdiff_t i = 0; i < k; i++) {
        const Lanes b = *reinterpret_cast<const Lanes *>(panel + i * kColumns);
        const std::ptrdiff_t at = i * column;
        s0 += r0[at] * b;
        s1 += r1[at] * b;
        s2 += r2[at] * b;
        s3 += r3[at] * b;
        s4 += r4[at] * b;
        s5 += r5[at] * b;
    }
    Lanes *out = reinterpret_cast<Lanes *>(sums);
    out[0] = s0, out[1] = s1, out[2] = s2, out[3] = s3, out[4] = s4, out[5] = s5;
}

/* Rows [0, k) of b in panels; columns that b doesn't have are 0. */
void pack(std::vector<float> *panels, MatrixView b, std::ptrdiff_t k, std::ptrdiff_t n)
{
    float *to = panels->data();
    for (std::ptrdiff_t j = 0; j < n; j += kColumns)
        for (std::ptrdiff_t i = 0; i < k; i++)
            for (std::ptrdiff_t c = 0; c < kColumns; c++)
                *to++ = j + c < n ? b.p[i * b.row + (j + c) * b.column] : 0.f;
}

} // namespace

void multiply(float *c, std::ptrdiff_t ldc, MatrixView a, MatrixView b, std::ptrdiff_t m, std::ptrdiff_t n, std::ptrdiff_t k)
{
    for (std::ptrdiff_t i = 0; i < m; i++)
        std::fill(c + i * ldc, c + i * ldc + n, 0.f);
    if (!m || !n || !k)
        return;
    std::vector<float> panels(static_cast<std::size_t>((n + kColumns - 1) / kColumns * kColumns * std::min(k, kDepth)));
    for (std::ptrdiff_t done = 0; done < k; done += kDepth) {
        std::ptrdiff_t depth = std::min(kDepth, k - done);
        pack(&panels, {b.p + done * b.row, b.row, b.column}, depth, n);
        for (std::ptrdiff_t i = 0; i < m; i += kRows) {
            const float *rows[kRows];
            for (std::ptrdiff_t r = 0; r < kRows; r++) /* beyond the end: the last one again, its sums dropped */
                rows[r] = a.p + std::min(i + r, m - 1) * a.row + done * a.column;
            for (std::ptrdiff_t j = 0; j < n; j += kColumns) {
                float sums[kRows * kColumns];
                tile(sums, rows, a.column, panels.data() + j * depth, depth);
                for (std::ptrdiff_t r = 0; r < std::min(kRows, m - i); r++)
                    for (std::ptrdiff_t x = 0; x < std::min(kColumns, n - j); x++)
                        c[(i + r) * ldc + j + x] += sums[r * kColumns + x];
            }
        }
    }
}

} // namespace cudaemu
