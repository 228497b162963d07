/* What stands in front of and behind a library's product, for conv_cuda.cu and matmul_cuda.cu: parameters turned into the element that the
 * product wants, the bias, the ReLU. Behind cuda.cuh. */
#ifndef PAPA_EPILOGUE_CUH
#define PAPA_EPILOGUE_CUH

namespace papa {
namespace {

/* to[i] = from[i]; n packs of N. */
template <class To, class From, int N> __global__ void __launch_bounds__(kThreads) convert_packs(To *__restrict__ to, const From *__restrict__ from, int64_t n)
{
    PAPA_GRID_STRIDE(i, n)
    {
        Pack<From, N> x = reinterpret_cast<const Pack<From, N> *>(from)[i];
        Pack<To, N> y;
#pragma unroll
        for (int k = 0; k < N; k++)
            y.v[k] = store<To>(load(x.v[k]));
        reinterpret_cast<Pack<To, N> *>(to)[i] = y;
    }
}

template <class To, class From> PapaStatus convert(PapaDevice *dev, To *to, const From *from, int64_t n)
{
    if (n <= 0)
        return PAPA_OK;
    if (n % 4 == 0 && aligned(to, 4) && aligned(from, 4))
        PAPA_LAUNCH(dev, (convert_packs<To, From, 4>), blocks_for(dev, n / 4), kThreads, 0, to, from, n / 4);
    else
        PAPA_LAUNCH(dev, (convert_packs<To, From, 1>), blocks_for(dev, n), kThreads, 0, to, from, n);
    return PAPA_OK;
}

/* to[m][r][c] = from[m * stride + r * ld + c], `to` dense. */
template <class To, class From>
__global__ void __launch_bounds__(kThreads) convert_rows(To *__restrict__ to, const From *__restrict__ from, int64_t n, int64_t rows, int64_t columns, int64_t ld, int64_t stride)
{
    PAPA_GRID_STRIDE(i, n)
    {
        int64_t row = i / columns, column = i - row * columns, m = row / rows;
        to[i] = store<To>(load(from[m * stride + (row - m * rows) * ld + column]));
    }
}

/* y[r][c] = beta * y[r][c] + bias[c], or max(0, that); a NaN stays one. bias may be NULL, beta 0 doesn't read y. Rows are ld elements apart, and hold
 * `packs` packs of N. */
template <class T, int N>
__global__ void __launch_bounds__(kThreads) finish_rows(T *__restrict__ y, const float *__restrict__ bias, int64_t rows, int64_t packs, int64_t ld, float beta, bool relu)
{
    int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, step = (int64_t)gridDim.x * blockDim.x;
    int64_t row = first / packs, column = first - row * packs, rows_on = step / packs, columns_on = step - rows_on * packs;
    for (; row < rows; row += rows_on, column += columns_on) {
        if (column >= packs) {
            column -= packs;
            if (++row >= rows)
                break;
        }
        Pack<T, N> *at = reinterpret_cast<Pack<T, N> *>(y + row * ld) + column;
        Pack<T, N> old, now;
        if (beta != 0.f)
            old = *at;
#pragma unroll
        for (int k = 0; k < N; k++) {
            float x = beta != 0.f ? beta * load(old.v[k]) : 0.f;
            if (bias)
                x += bias[column * N + k];
            now.v[k] = store<T>(relu && x < 0.f ? 0.f : x);
        }
        *at = now;
    }
}

template <class T> PapaStatus finish(PapaDevice *dev, T *y, const float *bias, int64_t rows, int64_t columns, int64_t ld, float beta, bool relu)
{
    constexpr int N = kPack<T>;
    if (rows <= 0 || columns <= 0)
        return PAPA_OK;
    if (columns % N == 0 && ld % N == 0 && aligned(y, N))
        PAPA_LAUNCH(dev, (finish_rows<T, N>), blocks_for(dev, rows * (columns / N)), kThreads, 0, y, bias, rows, columns / N, ld, beta, relu);
    else
        PAPA_LAUNCH(dev, (finish_rows<T, 1>), blocks_for(dev, rows * columns), kThreads, 0, y, bias, rows, columns, ld, beta, relu);
    return PAPA_OK;
}

} // namespace
} // namespace papa

#endif
