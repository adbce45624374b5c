// A norm with its activation and the max pool behind it in one pass: what lies between is written nowhere.
#pragma once
#include "norm.cuh"
#include "pool.cuh"

// An input as the norm would write it, rounded to its type.
template <class T, int V>
struct NormedInput {
    float scale[V], shift[V];
    int relu;
    MEMBER NormedInput(const float *saved, int channels, int c, int relu) : relu(relu) {
        for (int v = 0; v < V; v++) {
            scale[v] = saved[2 * channels + c + v];
            shift[v] = saved[3 * channels + c + v];
        }
    }
    MEMBER float get(const Pack<T, V> &in, int v) const {
        float value = fused(scale[v], load(in.values[v]), shift[v]);
        T rounded;
        store(&rounded, relu && value < 0 ? 0.0f : value);
        return load(rounded);
    }
};

// The grid makes whole rows of channels, so that each thread keeps its own.
template <class T, int V>
DEVICE void norm_max_pool(const T *x, const float *saved, const PoolShape &s, int relu, T *y, uint8_t *winners) {
    uint32_t lanes = s.channels / V, lane = (uint32_t)first_item() % lanes, step = (uint32_t)item_step() / lanes;
    NormedInput<T, V> input(saved, s.channels, lane * V, relu);
    uint32_t n = (uint32_t)(s.batch * s.out_height * s.out_width);
    for (uint32_t at = (uint32_t)first_item() / lanes; at < n; at += step) pool_window<T, V>(x, input, s, lane, at, y, winners);
}

KERNELS(norm_max_pool, (const T *x, const float *saved, PoolShape s, int relu, int wide, T *y, uint8_t *winners), {
    if (wide) {
        norm_max_pool<T, WIDE>(x, saved, s, relu, y, winners);
    } else {
        norm_max_pool<T, 1>(x, saved, s, relu, y, winners);
    }
})

// The gradient of the norm's output, gathered from the windows that it won.
template <class T, int V>
struct PooledGrad {
    const T *dy;
    const uint8_t *winners;
    PoolShape s;
    MEMBER void get(int64_t row, int c, float *g) const { pool_gather<T, V>(dy, winners, s, c / V, (uint32_t)row, g); }
};

KERNELS_WITH_BARRIER(norm_pool_grad_sums, (const T *x, const T *dy, const uint8_t *winners, PoolShape s, const float *saved, int piece, int relu, int wide, float *partial), {
    int64_t rows = (int64_t)s.batch * s.height * s.width;
    if (wide) {
        norm_grad_sums<T, WIDE>(x, (const T *)nullptr, PooledGrad<T, WIDE>{dy, winners, s}, saved, rows, s.channels, piece, relu, partial);
    } else {
        norm_grad_sums<T, 1>(x, (const T *)nullptr, PooledGrad<T, 1>{dy, winners, s}, saved, rows, s.channels, piece, relu, partial);
    }
})

KERNELS(norm_pool_grad_apply, (const T *x, const T *dy, const uint8_t *winners, PoolShape s, const float *saved, const float *factors, int relu, int wide, T *dx), {
    int64_t rows = (int64_t)s.batch * s.height * s.width;
    if (wide) {
        norm_grad_apply<T, WIDE>(x, (const T *)nullptr, PooledGrad<T, WIDE>{dy, winners, s}, saved, factors, s.channels, rows, relu, dx, (T *)nullptr);
    } else {
        norm_grad_apply<T, 1>(x, (const T *)nullptr, PooledGrad<T, 1>{dy, winners, s}, saved, factors, s.channels, rows, relu, dx, (T *)nullptr);
    }
})
