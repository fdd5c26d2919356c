// The CPU kernels: `sample_along` and its gradient, with two reads for each output and no column buffer; and what
// `summarise_offsets` counts, in one pass.
//
// A line is one row (branch "width") or one column (branch "height") of one image; shifts stay on it, so each thread
// owns whole lines and adds up the gradient of their tokens without a lock, in a fixed order.
// Legend: O offsets of a token, S channels sharing one, C = O * S. Strides count elements; channels are adjacent.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

struct Grid {
    int64_t batch, lines, size, offsets, shared;
    int64_t side_by_side;  // lines walked together: adjacent columns share cache lines and pages
};

struct Strides {
    int64_t batch, line, token;

    int64_t at(int64_t b, int64_t l, int64_t t) const { return b * batch + l * line + t * token; }
};

// Where a token's O offsets point: the two neighbours of each position, inside the line, and their weights. A
// neighbour outside the line weighs nothing.
template <typename T>
struct Reads {
    std::vector<int32_t> low, high;
    std::vector<T> inside_low, inside_high, fraction;

    explicit Reads(int64_t n) : low(n), high(n), inside_low(n), inside_high(n), fraction(n) {}

    void locate(const T* __restrict offset, int64_t own, int32_t size) {
        int32_t* __restrict first = low.data();
        int32_t* __restrict second = high.data();
        T *__restrict in_low = inside_low.data(), *__restrict in_high = inside_high.data();
        T* __restrict part = fraction.data();
        const T from = -2, to = size + 1;  // beyond, all reads are zero: huge offsets stay finite
        for (size_t o = 0; o < low.size(); ++o) {
            T position = T(own) + offset[o];
            position = position < from ? from : position;
            position = position > to ? to : position;
            const T floor = std::floor(position);
            const int32_t index = static_cast<int32_t>(floor);
            part[o] = position - floor;
            in_low[o] = T((index >= 0) & (index < size));
            in_high[o] = T((index >= -1) & (index < size - 1));
            const int32_t a = index < 0 ? 0 : index, b = index < -1 ? 0 : index + 1;
            first[o] = a > size - 1 ? size - 1 : a;
            second[o] = b > size - 1 ? size - 1 : b;
        }
    }
};

// Calls visit(b, line, token) for all tokens, whole lines to a thread.
template <typename Visit>
void for_each_token(const Grid& grid, const Visit& visit) {
#pragma omp for collapse(2) schedule(static)
    for (int64_t b = 0; b < grid.batch; ++b)
        for (int64_t first = 0; first < grid.lines; first += grid.side_by_side)
            for (int64_t token = 0; token < grid.size; ++token)
                for (int64_t line = first; line < std::min(first + grid.side_by_side, grid.lines); ++line)
                    visit(b, line, token);
}

template <typename T, int SHARED>
void forward(const T* x, const T* offset, T* out, Grid grid, Strides xs, Strides os, int threads) {
    const int64_t S = SHARED ? SHARED : grid.shared;
#pragma omp parallel num_threads(threads)
    {
        Reads<T> reads(grid.offsets);
        for_each_token(grid, [&](int64_t b, int64_t line, int64_t token) {
            const T* tokens = x + xs.at(b, line, 0);
            T* __restrict y = out + xs.at(b, line, token);
            reads.locate(offset + os.at(b, line, token), token, grid.size);
            for (int64_t o = 0; o < grid.offsets; ++o) {
                const T weight_low = (1 - reads.fraction[o]) * reads.inside_low[o];
                const T weight_high = reads.fraction[o] * reads.inside_high[o];
                const T* low = tokens + reads.low[o] * xs.token + o * S;
                const T* high = tokens + reads.high[o] * xs.token + o * S;
                for (int64_t s = 0; s < S; ++s) y[o * S + s] = weight_low * low[s] + weight_high * high[s];
            }
        });
    }
}

// grad_x comes in as zeros.
template <typename T, int SHARED>
void backward(const T* x, const T* offset, const T* grad, T* grad_x, T* grad_offset, Grid grid, Strides xs, Strides os,
              Strides gs, int threads) {
    const int64_t S = SHARED ? SHARED : grid.shared;
#pragma omp parallel num_threads(threads)
    {
        Reads<T> reads(grid.offsets);
        for_each_token(grid, [&](int64_t b, int64_t line, int64_t token) {
            const T *tokens = x + xs.at(b, line, 0), *dy = grad + xs.at(b, line, token);
            T *sums = grad_x + xs.at(b, line, 0), *slopes = grad_offset + gs.at(b, line, token);
            reads.locate(offset + os.at(b, line, token), token, grid.size);
            for (int64_t o = 0; o < grid.offsets; ++o) {
                const T inside_low = reads.inside_low[o], inside_high = reads.inside_high[o];
                const T weight_low = (1 - reads.fraction[o]) * inside_low, weight_high = reads.fraction[o] * inside_high;
                const T* low = tokens + reads.low[o] * xs.token + o * S;
                const T* high = tokens + reads.high[o] * xs.token + o * S;
                T* sum_low = sums + reads.low[o] * xs.token + o * S;
                T* sum_high = sums + reads.high[o] * xs.token + o * S;
                const T* g = dy + o * S;
                T slope = 0;
                for (int64_t s = 0; s < S; ++s) slope += g[s] * (inside_high * high[s] - inside_low * low[s]);
                slopes[o] = slope;
                // Two loops: at the border both neighbours may be the same token.
                for (int64_t s = 0; s < S; ++s) sum_low[s] += weight_low * g[s];
                for (int64_t s = 0; s < S; ++s) sum_high[s] += weight_high * g[s];
            }
        });
    }
}

// The released networks share an offset among 2, 4 or 8 channels: known counts become vector instructions.
template <typename T, typename... Rest>
void forward_any(const T* x, const T* offset, T* out, Grid grid, Rest... rest) {
    const auto run = grid.shared == 2   ? forward<T, 2>
                     : grid.shared == 4 ? forward<T, 4>
                     : grid.shared == 8 ? forward<T, 8>
                                        : forward<T, 0>;
    run(x, offset, out, grid, rest...);
}

template <typename T, typename... Rest>
void backward_any(const T* x, const T* offset, const T* grad, T* grad_x, T* grad_offset, Grid grid, Rest... rest) {
    const auto run = grid.shared == 2   ? backward<T, 2>
                     : grid.shared == 4 ? backward<T, 4>
                     : grid.shared == 8 ? backward<T, 8>
                                        : backward<T, 0>;
    run(x, offset, grad, grad_x, grad_offset, grid, rest...);
}

// Counts of all offsets [batch, height, width, 2, offsets], which lie one after the other in memory.
struct Map {
    int64_t batch, height, width, offsets, reach;
};

// `sum` [batch, 2] of |offset|; `outside` [batch, 2], samples whose nearest token is not on the map; `counts`
// [2, 2 reach + 1] of nearest offsets, the ends holding all beyond.
void summarise(const float* offset, double* sum, int64_t* outside, int64_t* counts, Map map, int threads) {
    constexpr int LANES = 4;  // tables of counts: equal neighbours do not wait for each other
    const int64_t bins = 2 * map.reach + 1;
    const float from = -float(map.reach), to = float(map.reach);
#pragma omp parallel num_threads(threads)
    {
        std::vector<int64_t> own(LANES * 2 * bins, 0);
        std::vector<int32_t> nearest(map.offsets);
#pragma omp for schedule(static)
        for (int64_t b = 0; b < map.batch; ++b)
            for (int64_t token = 0; token < map.height * map.width; ++token)
                for (int axis = 0; axis < 2; ++axis) {
                    const float* __restrict values = offset + ((b * map.height * map.width + token) * 2 + axis) * map.offsets;
                    int32_t* __restrict bin = nearest.data();
                    const float place = axis ? token / map.width : token % map.width;
                    const float last = (axis ? map.height : map.width) - 1;
                    float distance = 0;
                    int32_t beyond = 0;
#pragma omp simd reduction(+ : distance, beyond)
                    for (int64_t o = 0; o < map.offsets; ++o) {
                        const float rounded = std::nearbyint(values[o]);
                        const float low = rounded >= from ? rounded : from;  // a NaN too: the sum tells of it
                        bin[o] = static_cast<int32_t>(low <= to ? low : to) + static_cast<int32_t>(map.reach);
                        distance += std::fabs(values[o]);
                        beyond += !((place + low >= 0) & (place + low <= last));
                    }
                    sum[2 * b + axis] += distance;
                    outside[2 * b + axis] += beyond;
                    for (int64_t o = 0; o < map.offsets; ++o) ++own[(o % LANES * 2 + axis) * bins + bin[o]];
                }
#pragma omp critical
        for (int64_t k = 0; k < LANES * 2 * bins; ++k) counts[k % (2 * bins)] += own[k];
    }
}

}  // namespace

// `out`, `grad` and `grad_x` lie in memory as `x` does.
#define EXPORT(T)                                                                                                  \
    extern "C" void forward_##T(const T* x, const T* offset, T* out, const Grid* grid, const Strides* xs,          \
                                const Strides* os, int threads) {                                                  \
        forward_any(x, offset, out, *grid, *xs, *os, threads);                                                     \
    }                                                                                                              \
    extern "C" void backward_##T(const T* x, const T* offset, const T* grad, T* grad_x, T* grad_offset,            \
                                 const Grid* grid, const Strides* xs, const Strides* os, const Strides* gs,        \
                                 int threads) {                                                                    \
        backward_any(x, offset, grad, grad_x, grad_offset, *grid, *xs, *os, *gs, threads);                         \
    }

EXPORT(float)
EXPORT(double)

extern "C" void summarise_float(const float* offset, double* sum, int64_t* outside, int64_t* counts, const Map* map,
                                int threads) {
    summarise(offset, sum, outside, counts, *map, threads);
}
