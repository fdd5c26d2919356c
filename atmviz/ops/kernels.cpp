// The CPU kernels, one pass over memory each: `sample_along` and its gradient, with two reads per output and no column
// buffer; `weighted_sum` and its gradient; the GELU of `channel_mlp` with its gradient; `summarize_offsets`.
//
// A line is one row (branch "width") or one column (branch "height") of one image. Shifts never leave it, so each thread
// owns whole lines and adds up the gradients of their tokens without locks, in a fixed order.
// Legend: O offsets of a token, S channels sharing one, C = O * S. Strides count elements; channels are adjacent.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
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

// The two neighbors that each of a token's O offsets reads, clamped to the line, with the fraction between them. A
// neighbor outside the line has weight 0 (`inside_...`).
template <typename T>
struct Reads {
    std::vector<int32_t> low, high;
    std::vector<T> inside_low, inside_high, fraction;

    explicit Reads(int64_t n) : low(n), high(n), inside_low(n), inside_high(n), fraction(n) {}

    void locate(const T* __restrict offset, int64_t query, int32_t size) {
        int32_t* __restrict first = low.data();
        int32_t* __restrict second = high.data();
        T *__restrict in_low = inside_low.data(), *__restrict in_high = inside_high.data();
        T* __restrict part = fraction.data();
        const T from = -2, to = size + 1;  // beyond, all reads are zero: huge offsets stay finite
        for (size_t o = 0; o < low.size(); ++o) {
            T position = T(query) + offset[o];
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

// Prefetch distance in tokens; the offsets of one branch are strided, which defeats hardware prefetching.
constexpr int64_t TOKENS_AHEAD = 6;

template <typename T>
void prefetch(const T* values, int64_t count) {
    for (int64_t i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(values + i);
}

// For a few lines at a time: calls visit(b, line, token) for all their tokens, one visit after the other. A line stays
// with one thread.
template <typename... Visits>
void for_each_token(const Grid& grid, const Visits&... visits) {
#pragma omp for collapse(2) schedule(static)
    for (int64_t b = 0; b < grid.batch; ++b)
        for (int64_t first = 0; first < grid.lines; first += grid.side_by_side) {
            const int64_t last = std::min(first + grid.side_by_side, grid.lines);
            const auto walk = [&](const auto& visit) {
                for (int64_t token = 0; token < grid.size; ++token)
                    for (int64_t line = first; line < last; ++line) visit(b, line, token);
            };
            (walk(visits), ...);
        }
}

template <typename T, int SHARED>
void forward(const T* x, const T* offset, T* out, Grid grid, Strides xs, Strides os, int threads) {
    const int64_t S = SHARED ? SHARED : grid.shared;
#pragma omp parallel num_threads(threads)
    {
        Reads<T> reads(grid.offsets);
        for_each_token(grid, [&](int64_t b, int64_t line, int64_t token) {
            if (const int64_t soon = token + TOKENS_AHEAD; soon < grid.size) {
                prefetch(x + xs.at(b, line, soon), grid.offsets * S);
                prefetch(offset + os.at(b, line, soon), grid.offsets);
            }
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

template <typename T, int SHARED>
void backward(const T* x, const T* offset, const T* grad, T* grad_x, T* grad_offset, Grid grid, Strides xs, Strides os,
              Strides gs, int threads) {
    const int64_t S = SHARED ? SHARED : grid.shared;
#pragma omp parallel num_threads(threads)
    {
        Reads<T> reads(grid.offsets);
        const auto clear = [&](int64_t b, int64_t line, int64_t token) {
            std::fill_n(grad_x + xs.at(b, line, token), grid.offsets * S, T(0));
        };
        for_each_token(grid, clear, [&](int64_t b, int64_t line, int64_t token) {
            if (const int64_t soon = token + TOKENS_AHEAD; soon < grid.size) {
                prefetch(x + xs.at(b, line, soon), grid.offsets * S);
                prefetch(grad + xs.at(b, line, soon), grid.offsets * S);
                prefetch(offset + os.at(b, line, soon), grid.offsets);
            }
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
                // Two loops: at the border both neighbors may be the same token.
                for (int64_t s = 0; s < S; ++s) sum_low[s] += weight_low * g[s];
                for (int64_t s = 0; s < S; ++s) sum_high[s] += weight_high * g[s];
            }
        });
    }
}

// The released networks share an offset among 2, 4 or 8 channels; constant counts let the compiler vectorize.
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

// Branches [count] of tokens [batch, tokens, channels], added with weights [batch, count, channels].
struct Branches {
    int64_t batch, tokens, channels, count, together;  // one thread takes `together` tokens of an image
};

// Calls visit(b, first, last) for each run of tokens.
template <typename Visit>
void for_each_run(const Branches& of, const Visit& visit) {
#pragma omp for collapse(2) schedule(static)
    for (int64_t b = 0; b < of.batch; ++b)
        for (int64_t first = 0; first < of.tokens; first += of.together)
            visit(b, first, std::min(first + of.together, of.tokens));
}

template <typename T>
void weighted_sum(const T* const* branches, const T* weights, T* out, Branches of, int threads) {
    const int64_t C = of.channels;
#pragma omp parallel num_threads(threads)
    for_each_run(of, [&](int64_t b, int64_t first, int64_t last) {
        for (int64_t token = b * of.tokens + first; token < b * of.tokens + last; ++token) {
            T* __restrict y = out + token * C;
            for (int64_t k = 0; k < of.count; ++k) {
                const T *__restrict x = branches[k] + token * C, *__restrict w = weights + (b * of.count + k) * C;
                if (k == 0)
                    for (int64_t c = 0; c < C; ++c) y[c] = w[c] * x[c];
                else
                    for (int64_t c = 0; c < C; ++c) y[c] += w[c] * x[c];
            }
        }
    });
}

// grad_weights [batch, runs, count, channels] has one sum per run of tokens, so that threads never share one.
template <typename T>
void weighted_sum_backward(const T* const* branches, const T* weights, const T* grad, T* const* grad_branches,
                           T* grad_weights, Branches of, int threads) {
    const int64_t C = of.channels, runs = (of.tokens + of.together - 1) / of.together;
#pragma omp parallel num_threads(threads)
    for_each_run(of, [&](int64_t b, int64_t first, int64_t last) {
        T* sums = grad_weights + (b * runs + first / of.together) * of.count * C;
        std::fill_n(sums, of.count * C, T(0));
        for (int64_t token = b * of.tokens + first; token < b * of.tokens + last; ++token) {
            const T* __restrict dy = grad + token * C;
            for (int64_t k = 0; k < of.count; ++k) {
                const T *__restrict x = branches[k] + token * C, *__restrict w = weights + (b * of.count + k) * C;
                T *__restrict dx = grad_branches[k] + token * C, *__restrict sum = sums + k * C;
                for (int64_t c = 0; c < C; ++c) {
                    dx[c] = w[c] * dy[c];
                    sum[c] += x[c] * dy[c];
                }
            }
        }
    });
}

// e^x for x in [-87, 0], written so that the compiler can vectorize it.
inline float exponential(float x) {
    const float n = std::nearbyint(x * 1.44269504f);                    // x = n ln 2 + r
    const float r = x - n * 0.693359375f + n * 2.12194440e-4f;          // ln 2 in two parts, the first exact times n
    const float terms[] = {1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 1.f / 2, 1, 1};
    float power = 1.f / 5040;
    for (const float term : terms) power = power * r + term;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;  // 2^n
    float scale;
    std::memcpy(&scale, &bits, sizeof scale);
    return power * scale;
}

// Normal distribution at x: cumulative distribution (`below`), and density times sqrt(2 pi). Source: Abramowitz and
// Stegun, 7.1.26, which gives erf within 1.5e-7.
inline void normal(float x, float& below, float& density) {
    const float z = std::fabs(x) * 0.70710678f, t = 1 / (1 + 0.3275911f * z);
    density = exponential(std::max(-z * z, -87.f));
    const float sum = 0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f)));
    const float beyond = 0.5f * density * t * sum;
    below = x < 0 ? beyond : 1 - beyond;
}

inline void normal(double x, double& below, double& density) {
    below = 0.5 * std::erfc(-x * 0.70710678118654752);
    density = std::exp(-0.5 * x * x);
}

// Fills `out` with GELU(x), and turns its gradient into that of x.
template <typename T>
void gelu_with_gradient(const T* __restrict x, T* __restrict grad, T* __restrict out, int64_t count, int threads) {
#pragma omp parallel for simd schedule(static) num_threads(threads)
    for (int64_t i = 0; i < count; ++i) {
        T below, density;
        normal(x[i], below, density);
        out[i] = x[i] * below;
        grad[i] *= below + x[i] * T(0.39894228040143268) * density;
    }
}

// Shape of contiguous offsets [batch, height, width, 2, offsets]; `reach` is the larger of height and width.
struct Map {
    int64_t batch, height, width, offsets, reach;
};

// Sums over a row of tokens, for each of a token's values: O horizontal offsets, then O vertical ones.
struct RowTally {
    std::vector<float> position, last, distance;  // position of the token, last position of the axis, sum of |offset|
    std::vector<int32_t> beyond;                  // samples whose nearest token is outside the map
    std::vector<int32_t> zero, bin;               // histogram bin of an offset of 0, and of this token's offset

    explicit RowTally(int64_t n) : position(n), last(n), distance(n), beyond(n), zero(n), bin(n) {}

    void add(const float* __restrict offset, float from, float to) {
        const float *__restrict query = position.data(), *__restrict end = last.data();
        const int32_t* __restrict middle = zero.data();
        float* __restrict sum = distance.data();
        int32_t *__restrict outside = beyond.data(), *__restrict index = bin.data();
        for (size_t k = 0; k < bin.size(); ++k) {
            const float rounded = std::nearbyint(offset[k]);
            const float low = rounded >= from ? rounded : from;  // for a NaN too, which makes the distance NaN
            index[k] = middle[k] + static_cast<int32_t>(low <= to ? low : to);
            outside[k] += !((query[k] + low >= 0) & (query[k] + low <= end[k]));
            sum[k] += std::fabs(offset[k]);
        }
    }
};

// Adds to `sum` [batch, 2] of |offset|, to `outside` [batch, 2], samples whose nearest token is outside the map, and to
// `counts` [2, 2 reach + 1], a histogram of rounded offsets whose end bins also collect everything further out.
void summarize(const float* offset, double* sum, int64_t* outside, int64_t* counts, Map map, int threads) {
    constexpr int TABLES = 4;  // histograms filled in turn: equal adjacent offsets do not wait for each other
    const int64_t bins = 2 * map.reach + 1, values = 2 * map.offsets;
    const float from = -float(map.reach), to = float(map.reach);
#pragma omp parallel num_threads(threads)
    {
        std::vector<int64_t> local(TABLES * 2 * bins, 0);
        RowTally row(values);
        for (int64_t k = 0; k < values; ++k) {
            const bool vertical = k >= map.offsets;
            row.last[k] = float((vertical ? map.height : map.width) - 1);
            row.zero[k] = static_cast<int32_t>((k % TABLES * 2 + vertical) * bins + map.reach);
        }
#pragma omp for schedule(static)
        for (int64_t b = 0; b < map.batch; ++b)
            for (int64_t i = 0; i < map.height; ++i) {
                std::fill(row.beyond.begin(), row.beyond.end(), 0);
                std::fill(row.distance.begin(), row.distance.end(), 0.f);
                std::fill(row.position.begin() + map.offsets, row.position.end(), float(i));
                for (int64_t j = 0; j < map.width; ++j) {
                    std::fill_n(row.position.begin(), map.offsets, float(j));
                    row.add(offset + ((b * map.height + i) * map.width + j) * values, from, to);
                    for (const int32_t bin : row.bin) ++local[bin];
                }
                for (int64_t k = 0; k < values; ++k) {
                    const int64_t axis = 2 * b + (k >= map.offsets);
                    sum[axis] += row.distance[k];
                    outside[axis] += row.beyond[k];
                }
            }
#pragma omp critical
        for (int64_t k = 0; k < TABLES * 2 * bins; ++k) counts[k % (2 * bins)] += local[k];
    }
}

}  // namespace

// `out`, `grad` and `grad_x` have the memory layout of `x`.
#define EXPORT(T)                                                                                                  \
    extern "C" void forward_##T(const T* x, const T* offset, T* out, const Grid* grid, const Strides* xs,          \
                                const Strides* os, int threads) {                                                  \
        forward_any(x, offset, out, *grid, *xs, *os, threads);                                                     \
    }                                                                                                              \
    extern "C" void backward_##T(const T* x, const T* offset, const T* grad, T* grad_x, T* grad_offset,            \
                                 const Grid* grid, const Strides* xs, const Strides* os, const Strides* gs,        \
                                 int threads) {                                                                    \
        backward_any(x, offset, grad, grad_x, grad_offset, *grid, *xs, *os, *gs, threads);                         \
    }                                                                                                              \
    extern "C" void weighted_sum_##T(const T* const* branches, const T* weights, T* out, const Branches* of,       \
                                     int threads) {                                                                \
        weighted_sum(branches, weights, out, *of, threads);                                                        \
    }                                                                                                              \
    extern "C" void weighted_sum_backward_##T(const T* const* branches, const T* weights, const T* grad,           \
                                              T* const* grad_branches, T* grad_weights, const Branches* of,        \
                                              int threads) {                                                       \
        weighted_sum_backward(branches, weights, grad, grad_branches, grad_weights, *of, threads);                 \
    }                                                                                                              \
    extern "C" void gelu_with_gradient_##T(const T* x, T* grad, T* out, int64_t count, int threads) {              \
        gelu_with_gradient(x, grad, out, count, threads);                                                          \
    }

EXPORT(float)
EXPORT(double)

extern "C" void summarize_float(const float* offset, double* sum, int64_t* outside, int64_t* counts, const Map* map,
                                int threads) {
    summarize(offset, sum, outside, counts, *map, threads);
}
