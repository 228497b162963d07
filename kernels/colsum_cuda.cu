/* CUDA half of matmul.h's papa_colsum: a sum over rows (kernels/sum.cuh) whose x has gaps between its rows. */
#include "kernels/cuda.cuh"

#include "kernels/sum.cuh"

extern "C" {
#include "kernels/matmul.h"
}

namespace papa {
namespace {

template <class T> PapaStatus run(PapaDevice *dev, Sum<float, T> s, int64_t M, int64_t N, int64_t ldx)
{
    constexpr int P = kPack<T>;
    const bool packs = N % P == 0 && ldx % P == 0 && aligned(s.x, P);
    s.kept = s.summed = no_axes();
    axes_add(&s.kept, N / (packs ? P : 1), packs ? P : 1, 0);
    axes_add(&s.summed, M, ldx, 0);
    return packs ? sum_run<TERM_X, true, P>(dev, s) : sum_run<TERM_X, true, 1>(dev, s);
}

} // namespace
} // namespace papa

using namespace papa;

PapaStatus papa_colsum_cuda(PapaDevice *dev, float *sums, const PapaReal *x, int64_t M, int64_t N, int64_t ldx, bool accumulate)
{
    PAPA_FOR_ELEMENT(dev, [&] {
        Sum<float, T> s = {};
        s.to = sums, s.x = (const T *)x, s.scale = 1, s.accumulate = accumulate;
        return run(dev, s, M, N, ldx);
    }());
    return PAPA_OK;
}
