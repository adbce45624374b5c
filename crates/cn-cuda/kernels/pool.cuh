// Pools over channels-last images.
#pragma once
#include "portable.cuh"

struct PoolShape {
    int batch, height, width, channels;
    int kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x;
    int out_height, out_width;
};

// An input as it is.
template <class T, int V>
struct PlainInput {
    MEMBER float get(const Pack<T, V> &in, int v) const { return load(in.values[v]); }
    MEMBER int winner(float, int tap) const { return tap; }
};

// The largest value of the window of output `at` and its place there, of the V channels of a lane; the first of equal
// values wins, NaN over all.
template <class T, int V, class Input>
DEVICE void pool_window(const T *x, const Input &input, const PoolShape &s, uint32_t lane, uint32_t at, T *y, uint8_t *winners) {
    typedef Pack<T, V> P;
    typedef Pack<uint8_t, V> Winners;
    uint32_t lanes = s.channels / V;
    int ox = (int)(at % s.out_width), oy = (int)(at / s.out_width % s.out_height), b = (int)(at / s.out_width / s.out_height);
    float best[V];
    int winner[V];
    for (int v = 0; v < V; v++) best[v] = -INFINITY, winner[v] = -1;
    for (int ky = 0; ky < s.kernel_y; ky++) {
        int iy = oy * s.stride_y + ky - s.padding_y;
        if (iy < 0 || iy >= s.height) continue;
        for (int kx = 0; kx < s.kernel_x; kx++) {
            int ix = ox * s.stride_x + kx - s.padding_x;
            if (ix < 0 || ix >= s.width) continue;
            P in = ((const P *)x)[(uint32_t)((b * s.height + iy) * s.width + ix) * lanes + lane];
            for (int v = 0; v < V; v++) {
                float value = input.get(in, v);
                if (winner[v] < 0 || value > best[v] || value != value) {
                    best[v] = value;
                    winner[v] = ky * s.kernel_x + kx;
                }
            }
        }
    }
    P out;
    Winners places;
    for (int v = 0; v < V; v++) {
        store(&out.values[v], best[v]);
        places.values[v] = (uint8_t)input.winner(best[v], winner[v]);
    }
    ((P *)y)[at * lanes + lane] = out;
    ((Winners *)winners)[at * lanes + lane] = places;
}

template <class T, int V>
DEVICE void max_pool(const T *x, const PoolShape &s, T *y, uint8_t *winners) {
    uint32_t lanes = s.channels / V, n = (uint32_t)(s.batch * s.out_height * s.out_width) * lanes;
    PlainInput<T, V> input;
    for (uint32_t i = (uint32_t)first_item(); i < n; i += (uint32_t)item_step()) {
        pool_window<T, V>(x, input, s, i % lanes, i / lanes, y, winners);
    }
}

KERNELS(max_pool, (const T *x, PoolShape s, int wide, T *y, uint8_t *winners), {
    if (wide) {
        max_pool<T, WIDE>(x, s, y, winners);
    } else {
        max_pool<T, 1>(x, s, y, winners);
    }
})

// The gradient of input `at` of V channels, gathered from the windows that it won, in order.
template <class T, int V>
DEVICE void pool_gather(const T *dy, const uint8_t *winners, const PoolShape &s, uint32_t lane, uint32_t at, float *sum) {
    typedef Pack<T, V> P;
    typedef Pack<uint8_t, V> Winners;
    uint32_t lanes = s.channels / V;
    int ix = (int)(at % s.width), iy = (int)(at / s.width % s.height), b = (int)(at / s.width / s.height);
    for (int v = 0; v < V; v++) sum[v] = 0;
    // Windows o with o * stride <= i + padding < o * stride + kernel.
    int y = iy + s.padding_y, x = ix + s.padding_x;
    int first_y = y < s.kernel_y ? 0 : (y - s.kernel_y) / s.stride_y + 1;
    int first_x = x < s.kernel_x ? 0 : (x - s.kernel_x) / s.stride_x + 1;
    for (int oy = first_y; oy < s.out_height && oy * s.stride_y <= y; oy++) {
        for (int ox = first_x; ox < s.out_width && ox * s.stride_x <= x; ox++) {
            uint32_t o = (uint32_t)((b * s.out_height + oy) * s.out_width + ox) * lanes + lane;
            int tap = (y - oy * s.stride_y) * s.kernel_x + x - ox * s.stride_x;
            Winners places = ((const Winners *)winners)[o];
            P grad = ((const P *)dy)[o];
            for (int v = 0; v < V; v++) {
                if (places.values[v] == tap) sum[v] += load(grad.values[v]);
            }
        }
    }
}

// No two threads write to one place.
template <class T, int V>
DEVICE void max_pool_grad(const T *dy, const uint8_t *winners, const PoolShape &s, T *dx) {
    uint32_t lanes = s.channels / V, n = (uint32_t)(s.batch * s.height * s.width) * lanes;
    for (uint32_t i = (uint32_t)first_item(); i < n; i += (uint32_t)item_step()) {
        float sum[V];
        pool_gather<T, V>(dy, winners, s, i % lanes, i / lanes, sum);
        Pack<T, V> out;
        for (int v = 0; v < V; v++) store(&out.values[v], sum[v]);
        ((Pack<T, V> *)dx)[i] = out;
    }
}

KERNELS(max_pool_grad, (const T *dy, const uint8_t *winners, PoolShape s, int wide, T *dx), {
    if (wide) {
        max_pool_grad<T, WIDE>(dy, winners, s, dx);
    } else {
        max_pool_grad<T, 1>(dy, winners, s, dx);
    }
})

// (B, P, C) to (B, 2 C): maxima, then means; a thread makes both of one channel.
KERNELS(concat_pool, (const T *x, int batch, int positions, int channels, float *y, uint32_t *winners), {
    for (int64_t i = first_item(); i < (int64_t)batch * channels; i += item_step()) {
        int64_t b = i / channels;
        int c = (int)(i % channels);
        const T *image = x + b * positions * channels + c;
        float best = load(image[0]);
        float sum = 0;
        int winner = 0;
        for (int p = 0; p < positions; p++) {
            float value = load(image[(int64_t)p * channels]);
            if (value > best || value != value) best = value, winner = p;
            sum += value;
        }
        y[b * 2 * channels + c] = best;
        y[b * 2 * channels + channels + c] = sum / (float)positions;
        winners[i] = (uint32_t)winner;
    }
})

KERNELS(concat_pool_grad, (const float *dy, const uint32_t *winners, int batch, int positions, int channels, T *dx), {
    float share = (float)(1.0 / positions);
    for (int64_t i = first_item(); i < (int64_t)batch * channels; i += item_step()) {
        int64_t b = i / channels;
        int c = (int)(i % channels);
        float most = dy[b * 2 * channels + c];
        float mean = dy[b * 2 * channels + channels + c] * share;
        uint32_t winner = winners[i];
        T *image = dx + b * positions * channels + c;
        for (int p = 0; p < positions; p++) store(image + (int64_t)p * channels, winner == (uint32_t)p ? mean + most : mean);
    }
})

KERNELS(mean_pool, (const T *x, int batch, int positions, int channels, float *y), {
    float share = (float)(1.0 / positions);
    for (int64_t i = first_item(); i < (int64_t)batch * channels; i += item_step()) {
        const T *image = x + i / channels * positions * channels + i % channels;
        float sum = 0;
        for (int p = 0; p < positions; p++) sum += load(image[(int64_t)p * channels]);
        y[i] = sum * share;
    }
})

KERNELS(mean_pool_grad, (const float *dy, int batch, int positions, int channels, T *dx), {
    float share = (float)(1.0 / positions);
    for (int64_t i = first_item(); i < (int64_t)batch * positions * channels; i += item_step()) {
        int64_t b = i / channels / positions;
        store(dx + i, dy[b * channels + i % channels] * share);
    }
})
