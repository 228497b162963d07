/* cuDNN's stand-in: what graphs compute, in float32. Tensors are brought into one form (N, H, W, C), whatever their strides and type; convolutions
 * are products of matrices over windows laid out in rows. Only called while device memory may be touched. */
#include "cudaemu_cudnn.h"
#include "cudaemu_libmath.h"

#include <algorithm>

namespace cudaemu::dnn {
namespace {

using Floats = std::vector<float>;
constexpr std::array<std::size_t, 4> kOrder = {0, 2, 3, 1}; /* channels innermost */

/* Calls at(place in dense (N, H, W, C), place in the tensor) for each element of `dims`; the tensor is broadcast where it has 1. */
template <class At> void each(const std::vector<int64_t> &dims, const Tensor &tensor, At at)
{
    std::array<int64_t, 4> n, stride;
    for (std::size_t i = 0; i < 4; i++) {
        n[i] = dims[kOrder[i]];
        stride[i] = tensor.dims[kOrder[i]] == 1 ? 0 : tensor.strides[kOrder[i]];
    }
    std::size_t dense = 0;
    for (int64_t i = 0; i < n[0]; i++)
        for (int64_t j = 0; j < n[1]; j++)
            for (int64_t k = 0; k < n[2]; k++) {
                int64_t row = i * stride[0] + j * stride[1] + k * stride[2];
                for (int64_t c = 0; c < n[3]; c++)
                    at(dense++, static_cast<std::size_t>(row + c * stride[3]));
            }
}

std::size_t product(const std::vector<int64_t> &dims)
{
    int64_t n = 1;
    for (int64_t dim : dims)
        n *= dim;
    return static_cast<std::size_t>(n);
}

Floats load(const std::vector<int64_t> &dims, const Tensor &tensor, const void *p)
{
    Floats values(product(dims));
    auto bytes = static_cast<const unsigned char *>(p);
    if (tensor.type == CUDNN_DATA_BFLOAT16)
        each(dims, tensor, [&](std::size_t i, std::size_t j) { values[i] = load_bfloat16(bytes + 2 * j); });
    else
        each(dims, tensor, [&](std::size_t i, std::size_t j) { std::memcpy(&values[i], bytes + 4 * j, 4); });
    return values;
}

void store(const Tensor &tensor, void *p, const Floats &values)
{
    auto bytes = static_cast<unsigned char *>(p);
    if (tensor.type == CUDNN_DATA_BFLOAT16)
        each(tensor.dims, tensor, [&](std::size_t i, std::size_t j) { store_bfloat16(bytes + 2 * j, values[i]); });
    else
        each(tensor.dims, tensor, [&](std::size_t i, std::size_t j) { std::memcpy(bytes + 4 * j, &values[i], 4); });
}

/* ---------------------------------------------------------------- convolutions */

/* A convolution on dense tensors, one group of channels at a time. */
class Convolver {
public:
    explicit Convolver(const Operation &o)
        : conv_(o.conv), N_(o.x.dims[0]), C_(o.x.dims[1]), H_(o.x.dims[2]), W_(o.x.dims[3]), K_(o.w.dims[0]), c_(o.w.dims[1]), R_(o.w.dims[2]),
          S_(o.w.dims[3]), OH_(o.y.dims[2]), OW_(o.y.dims[3]), groups_(C_ / c_), k_(K_ / groups_), window_(R_ * S_ * c_), rows_(N_ * OH_ * OW_),
          chunk_(std::max<int64_t>(64, 65536 / window_)), windows_(static_cast<std::size_t>(std::min(chunk_, rows_) * window_))
    {
    }

    Floats forward(const Floats &x, const Floats &w)
    {
        Floats y(static_cast<std::size_t>(rows_ * K_));
        pieces([&](int64_t g, int64_t first, int64_t n) {
            gather(x, g, first, n);
            multiply(y.data() + first * K_ + g * k_, K_, {windows_.data(), window_, 1}, {w.data() + g * k_ * window_, 1, window_}, n, k_, window_);
        });
        return y;
    }

    Floats data(const Floats &w, const Floats &y)
    {
        Floats x(static_cast<std::size_t>(N_ * H_ * W_ * C_));
        pieces([&](int64_t g, int64_t first, int64_t n) {
            multiply(windows_.data(), window_, {y.data() + first * K_ + g * k_, K_, 1}, {w.data() + g * k_ * window_, window_, 1}, n, window_, k_);
            scatter(x, g, first, n);
        });
        return x;
    }

    Floats filter(const Floats &x, const Floats &y)
    {
        std::vector<double> total(static_cast<std::size_t>(K_ * window_));
        Floats part(static_cast<std::size_t>(k_ * window_));
        pieces([&](int64_t g, int64_t first, int64_t n) {
            gather(x, g, first, n);
            multiply(part.data(), window_, {y.data() + first * K_ + g * k_, 1, K_}, {windows_.data(), window_, 1}, k_, window_, n);
            for (std::size_t i = 0; i < part.size(); i++)
                total[static_cast<std::size_t>(g) * part.size() + i] += static_cast<double>(part[i]);
        });
        return Floats(total.begin(), total.end());
    }

private:
    template <class Body> void pieces(Body body)
    {
        for (int64_t g = 0; g < groups_; g++)
            for (int64_t first = 0; first < rows_; first += chunk_)
                body(g, first, std::min(chunk_, rows_ - first));
    }

    /* Calls at(place in windows_, place in x or -1: padding) for each pixel of the windows of n outputs. */
    template <class At> void walk(int64_t g, int64_t first, int64_t n, At at) const
    {
        int64_t place = 0;
        for (int64_t row = first; row < first + n; row++) {
            int64_t image = row / (OH_ * OW_), top = row / OW_ % OH_ * conv_.stride[0] - conv_.before[0],
                    left = row % OW_ * conv_.stride[1] - conv_.before[1];
            for (int64_t r = 0; r < R_; r++)
                for (int64_t s = 0; s < S_; s++, place += c_) {
                    int64_t h = top + r * conv_.dilation[0], w = left + s * conv_.dilation[1];
                    bool inside = h >= 0 && h < H_ && w >= 0 && w < W_;
                    at(place, inside ? ((image * H_ + h) * W_ + w) * C_ + g * c_ : -1);
                }
        }
    }

    void gather(const Floats &x, int64_t g, int64_t first, int64_t n)
    {
        walk(g, first, n, [&](int64_t place, int64_t pixel) {
            if (pixel < 0)
                std::fill_n(windows_.data() + place, c_, 0.f);
            else
                std::copy_n(x.data() + pixel, c_, windows_.data() + place);
        });
    }

    void scatter(Floats &x, int64_t g, int64_t first, int64_t n) const
    {
        walk(g, first, n, [&](int64_t place, int64_t pixel) {
            for (int64_t c = 0; pixel >= 0 && c < c_; c++)
                x[static_cast<std::size_t>(pixel + c)] += windows_[static_cast<std::size_t>(place + c)];
        });
    }

    const Convolution conv_;
    const int64_t N_, C_, H_, W_, K_, c_, R_, S_, OH_, OW_, groups_, k_, window_, rows_, chunk_;
    Floats windows_; /* (rows of a piece, R, S, C / groups) */
};

/* ---------------------------------------------------------------- engines */

/* The last bits of a result that is not deterministic, another time other ones. */
void disturb(Floats *values, const Tensor &output)
{
    static std::atomic<uint32_t> times{0};
    uint32_t state = ++times * 2654435761u;
    float step = output.type == CUDNN_DATA_BFLOAT16 ? 0x1p-11f : 0x1p-21f;
    for (float &value : *values) {
        state = state * 1664525u + 1013904223u;
        value *= 1 + step * static_cast<float>(static_cast<int>(state >> 30) - 1);
    }
}

class Run {
public:
    Run(const Graph &graph, const Engine &engine, const Places &places) : engine_(engine), places_(places)
    {
        for (const Operation &o : graph.operations)
            put(o, o.pass == Pass::pointwise ? element_wise(o) : convolution(o));
    }

private:
    Floats get(const std::vector<int64_t> &dims, const Tensor &tensor) const
    {
        return tensor.is_virtual ? between_.at(tensor.uid) : load(dims, tensor, places_.at(tensor.uid));
    }

    /* A factor of products, as the engine takes it. */
    Floats factor(const Tensor &tensor) const
    {
        Floats values = get(tensor.dims, tensor);
        bool down = engine_.fits(CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS), tensor_core = engine_.fits(CUDNN_NUMERICAL_NOTE_TENSOR_CORE);
        if (tensor.type == CUDNN_DATA_FLOAT && (down || tensor_core))
            for (float &value : values)
                value = rounded(value, down ? kBfloat16Bits : kTf32Bits);
        return values;
    }

    Floats convolution(const Operation &o) const
    {
        Convolver convolver(o);
        Floats result = o.pass == Pass::forward ? convolver.forward(factor(o.x), factor(o.w))
            : o.pass == Pass::data              ? convolver.data(factor(o.w), factor(o.y))
                                                : convolver.filter(factor(o.x), factor(o.y));
        if (engine_.fits(CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION))
            for (float &value : result)
                value = rounded(value, kTf32Bits);
        if (engine_.fits(CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC))
            disturb(&result, o.output());
        Floats before;
        if (o.beta != 0)
            before = load(o.output().dims, o.output(), places_.at(o.output().uid));
        for (std::size_t i = 0; i < result.size(); i++)
            result[i] = static_cast<float>(o.alpha) * result[i] + (o.beta != 0 ? static_cast<float>(o.beta) * before[i] : 0.f);
        return result;
    }

    Floats element_wise(const Operation &o) const
    {
        Floats result = get(o.y.dims, o.x);
        if (o.pointwise.mode == CUDNN_POINTWISE_ADD) {
            Floats other = get(o.y.dims, o.w);
            for (std::size_t i = 0; i < result.size(); i++)
                result[i] += other[i];
        } else {
            for (float &value : result)
                value = value > 0 ? value : 0; /* NaN becomes 0: cuDNN doesn't propagate it unless told to */
        }
        return result;
    }

    void put(const Operation &o, Floats result)
    {
        const Tensor &output = o.output();
        if (!output.is_virtual) {
            store(output, places_.at(output.uid), result);
            return;
        }
        for (float &value : result)
            value = output.type == CUDNN_DATA_BFLOAT16 ? rounded(value, kBfloat16Bits) : value;
        between_[output.uid] = std::move(result);
    }

    const Engine &engine_;
    const Places &places_;
    std::map<int64_t, Floats> between_; /* virtual tensors */
};

} // namespace

void compute(const Graph &graph, const Engine &engine, const Places &places)
{
    Run(graph, engine, places);
}

} // namespace cudaemu::dnn
