// Norms of few rows, each pass in one launch: a block takes all rows of the channels that lie in 16 bytes, keeps them in
// registers, and reads and writes each number once.
#pragma once
#include "norm.cuh"

// Threads of a block, and rows that each of them holds at most.
#define SMALL_THREADS 512
#define SMALL_HELD 8
// Threads that add up the numbers of a channel in a first step, and channels of a block at most.
#define SMALL_PARTS 16
#define SMALL_CHANNELS 8

// What the threads of a block share. A thread's sums are one float apart from the next one's, against conflicts of banks.
struct SmallSpace {
    float sums[SMALL_THREADS][2 * SMALL_CHANNELS + 1];
    double parts[SMALL_PARTS][2 * SMALL_CHANNELS];
    float factors[3][SMALL_CHANNELS];
};

// Two sums over the block for each of V channels, always in the same order: of channel t in thread t, for t below V.
template <int V>
DEVICE void small_sums(SmallSpace &space, const float *a, const float *b, double *a_sum, double *b_sum) {
    int t = threadIdx.x;
    for (int v = 0; v < V; v++) {
        space.sums[t][v] = a[v];
        space.sums[t][V + v] = b[v];
    }
    BARRIER();
    if (t < 2 * V * SMALL_PARTS) {
        int part = t % SMALL_PARTS, which = t / SMALL_PARTS;
        double sum = 0;
        UNROLL_4
        for (int i = part; i < SMALL_THREADS; i += SMALL_PARTS) sum += (double)space.sums[i][which];
        space.parts[part][which] = sum;
    }
    BARRIER();
    if (t >= V) return;
    *a_sum = 0, *b_sum = 0;
    for (int part = 0; part < SMALL_PARTS; part++) {
        *a_sum += space.parts[part][t];
        *b_sum += space.parts[part][V + t];
    }
}

template <class T, int V>
DEVICE void norm_small(SmallSpace &space, const T *x, const T *residual, int rows, int channels, const float *gamma, const float *beta, double eps, double momentum, float *running_mean, float *running_var, float *saved, int relu, T *y) {
    typedef Pack<T, V> P;
    int first = blockIdx.x * V, t = threadIdx.x, c = first + t;
    P held[SMALL_HELD], add[SMALL_HELD];
    UNROLL
    for (int k = 0; k < SMALL_HELD; k++) {
        int64_t r = t + k * SMALL_THREADS, i = r * channels + first;
        if (r >= rows) break;
        held[k] = *(const P *)(x + i);
        if (residual) add[k] = *(const P *)(residual + i);
    }
    // Around the first row, since a large mean would eat the variance.
    P row = *(const P *)(x + first);
    float sum[V], square[V];
    for (int v = 0; v < V; v++) sum[v] = square[v] = 0;
    UNROLL
    for (int k = 0; k < SMALL_HELD; k++) {
        if (t + k * SMALL_THREADS >= rows) break;
        for (int v = 0; v < V; v++) {
            float d = load(held[k].values[v]) - load(row.values[v]);
            sum[v] += d;
            square[v] = fused(d, d, square[v]);
        }
    }
    double all, squares;
    small_sums<V>(space, sum, square, &all, &squares);
    if (t < V) {
        double n = rows, mean = (double)load(x[c]) + all / n, var = (squares - all * all / n) / n;
        if (var < 0) var = 0;
        float inv_std = (float)(1.0 / sqrt(var + eps)), centre = (float)mean, scale = gamma[c] * inv_std;
        float shift = beta[c] - centre * scale;
        space.factors[0][t] = scale;
        space.factors[1][t] = shift;
        saved[c] = centre;
        saved[channels + c] = inv_std;
        saved[2 * channels + c] = scale;
        saved[3 * channels + c] = shift;
        double unbiased = rows > 1 ? n / (n - 1) : 1.0;
        running_mean[c] = (float)((1.0 - momentum) * running_mean[c] + momentum * centre);
        running_var[c] = (float)((1.0 - momentum) * running_var[c] + momentum * ((double)(float)var * unbiased));
    }
    BARRIER();
    float scale[V], shift[V];
    for (int v = 0; v < V; v++) scale[v] = space.factors[0][v], shift[v] = space.factors[1][v];
    UNROLL
    for (int k = 0; k < SMALL_HELD; k++) {
        int64_t r = t + k * SMALL_THREADS;
        if (r >= rows) break;
        P out;
        for (int v = 0; v < V; v++) {
            float value = fused(scale[v], load(held[k].values[v]), shift[v]);
            if (residual) value += load(add[k].values[v]);
            store(&out.values[v], relu && value < 0 ? 0.0f : value);
        }
        *(P *)(y + r * channels + first) = out;
    }
}

// As norm_moments, norm_join and norm_apply: at most 4,096 rows, a block for each pack of channels.
KERNELS_OF_BLOCKS(norm_small, SMALL_THREADS, 1, (const T *x, const T *residual, int rows, int channels, const float *gamma, const float *beta, double eps, double momentum, float *running_mean, float *running_var, float *saved, int relu, int wide, T *y), {
    SHARED SmallSpace space;
    if (wide) {
        norm_small<T, WIDE>(space, x, residual, rows, channels, gamma, beta, eps, momentum, running_mean, running_var, saved, relu, y);
    } else {
        norm_small<T, 1>(space, x, residual, rows, channels, gamma, beta, eps, momentum, running_mean, running_var, saved, relu, y);
    }
})

template <class T, int V>
DEVICE void norm_small_grad(SmallSpace &space, const T *x, const T *y, const T *dy, const float *gamma, const float *saved, int rows, int channels, int relu, float *dgamma, float *dbeta, T *dx, T *d_residual) {
    typedef Pack<T, V> P;
    int first = blockIdx.x * V, t = threadIdx.x, c = first + t;
    NormMask<T, V> mask(y, saved, channels, first, relu);
    P held[SMALL_HELD], grads[SMALL_HELD];
    UNROLL
    for (int k = 0; k < SMALL_HELD; k++) {
        int64_t r = t + k * SMALL_THREADS, i = r * channels + first;
        if (r >= rows) break;
        held[k] = *(const P *)(x + i);
        grads[k] = *(const P *)(dy + i);
    }
    float mean[V], g_sum[V], gx_sum[V];
    load_channels<V>(mean, saved + first);
    for (int v = 0; v < V; v++) g_sum[v] = gx_sum[v] = 0;
    UNROLL
    for (int k = 0; k < SMALL_HELD; k++) {
        int64_t r = t + k * SMALL_THREADS, i = r * channels + first;
        if (r >= rows) break;
        P outputs = mask.at(i);
        for (int v = 0; v < V; v++) {
            float value = load(held[k].values[v]), masked = mask.apply(outputs, v, value, load(grads[k].values[v]));
            g_sum[v] += masked;
            gx_sum[v] = fused(masked, value - mean[v], gx_sum[v]);
            store(&grads[k].values[v], masked);
        }
        if (d_residual) *(P *)(d_residual + i) = grads[k];
    }
    double sum_g, sum_gx;
    small_sums<V>(space, g_sum, gx_sum, &sum_g, &sum_gx);
    if (t < V) {
        double inv_std = saved[channels + c];
        sum_gx *= inv_std;
        float a = gamma[c] * saved[channels + c];
        double b = -(double)a * sum_gx * inv_std / (double)rows;
        space.factors[0][t] = a;
        space.factors[1][t] = (float)b;
        space.factors[2][t] = (float)(-(double)a * sum_g / (double)rows - b * (double)saved[c]);
        dgamma[c] = (float)sum_gx;
        dbeta[c] = (float)sum_g;
    }
    BARRIER();
    float a[V], b[V], shift[V];
    for (int v = 0; v < V; v++) a[v] = space.factors[0][v], b[v] = space.factors[1][v], shift[v] = space.factors[2][v];
    UNROLL
    for (int k = 0; k < SMALL_HELD; k++) {
        int64_t r = t + k * SMALL_THREADS;
        if (r >= rows) break;
        P out;
        for (int v = 0; v < V; v++) {
            float value = load(held[k].values[v]), g = load(grads[k].values[v]);
            store(&out.values[v], fused(a[v], g, fused(b[v], value, shift[v])));
        }
        *(P *)(dx + r * channels + first) = out;
    }
}

// As norm_grad_sums, norm_grad_join and norm_grad_apply, under the same bounds.
KERNELS_OF_BLOCKS(norm_small_grad, SMALL_THREADS, 1, (const T *x, const T *y, const T *dy, const float *gamma, const float *saved, int rows, int channels, int relu, int wide, float *dgamma, float *dbeta, T *dx, T *d_residual), {
    SHARED SmallSpace space;
    if (wide) {
        norm_small_grad<T, WIDE>(space, x, y, dy, gamma, saved, rows, channels, relu, dgamma, dbeta, dx, d_residual);
    } else {
        norm_small_grad<T, 1>(space, x, y, dy, gamma, saved, rows, channels, relu, dgamma, dbeta, dx, d_residual);
    }
})
