// Batch normalisation over the rows of (rows, C), with an optional residual sum and ReLU.
//
// Sums over rows go through pieces of fixed size: a block adds up one piece for some channels, and a second kernel joins
// the pieces in order, so that the bits depend on the shape alone.
#pragma once
#include "portable.cuh"

// Threads of a block that sums: packs of channels, and rows.
#define NORM_LANES 8
#define NORM_ROWS 32
// Threads of a block that joins pieces: channels, and pieces at a time.
#define JOIN_CHANNELS 8
#define JOIN_THREADS 128

// The rows that a block sums.
struct Piece {
    int64_t begin, end;
    MEMBER Piece(int64_t rows, int piece) {
        begin = (int64_t)blockIdx.y * piece;
        end = begin + piece < rows ? begin + piece : rows;
    }
};

// Adds up two sums of V channels over the rows of a block, in order: of channel t of the block in thread t, true where
// there is such a channel.
template <int V>
DEVICE bool sum_rows(const float *a, const float *b, float *a_sum, float *b_sum) {
    SHARED float shared[2][NORM_ROWS][NORM_LANES * V];
    for (int v = 0; v < V; v++) {
        shared[0][threadIdx.y][threadIdx.x * V + v] = a[v];
        shared[1][threadIdx.y][threadIdx.x * V + v] = b[v];
    }
    BARRIER();
    int t = threadIdx.y * NORM_LANES + threadIdx.x;
    if (t >= NORM_LANES * V) return false;
    *a_sum = 0, *b_sum = 0;
    for (int i = 0; i < NORM_ROWS; i++) {
        *a_sum += shared[0][i][t];
        *b_sum += shared[1][i][t];
    }
    return true;
}

// Leaves the two sums of a block for each channel as its piece of (pieces, 2, C).
template <int V>
DEVICE void leave_sums(const float *a, const float *b, int channels, float *partial) {
    int own = blockIdx.x * NORM_LANES * V + threadIdx.y * NORM_LANES + threadIdx.x;
    float a_all, b_all;
    if (sum_rows<V>(a, b, &a_all, &b_all) && own < channels) {
        float *to = partial + (int64_t)blockIdx.y * 2 * channels + own;
        to[0] = a_all;
        to[channels] = b_all;
    }
}

// Sums around the first row of the piece, since a large mean would eat the variance. Block (8, 32), V channels a thread,
// grid (channels / 8V, pieces); `partial` is (pieces, 2, C): the mean of each piece and its sum of squares about that.
template <class T, int V>
DEVICE void norm_moments(const T *x, int64_t rows, int channels, int piece, float *partial) {
    typedef Pack<T, V> P;
    int first = blockIdx.x * NORM_LANES * V, c = first + threadIdx.x * V;
    Piece p(rows, piece);
    float sum[V], square[V], origin[V];
    for (int v = 0; v < V; v++) sum[v] = square[v] = origin[v] = 0;
    if (c < channels) {
        P row = *(const P *)(x + p.begin * channels + c);
        for (int v = 0; v < V; v++) origin[v] = load(row.values[v]);
        UNROLL_4
        for (int64_t r = p.begin + threadIdx.y; r < p.end; r += NORM_ROWS) {
            P in = *(const P *)(x + r * channels + c);
            for (int v = 0; v < V; v++) {
                float d = load(in.values[v]) - origin[v];
                sum[v] += d;
                square[v] = fused(d, d, square[v]);
            }
        }
    }
    int own = first + threadIdx.y * NORM_LANES + threadIdx.x;
    float all, squares;
    if (sum_rows<V>(sum, square, &all, &squares) && own < channels) {
        float n = (float)(p.end - p.begin), about = squares - all * all / n;
        float *to = partial + (int64_t)blockIdx.y * 2 * channels + own;
        to[0] = load(x[p.begin * channels + own]) + all / n;
        to[channels] = about > 0 ? about : (about == about ? 0 : about);
    }
}

KERNELS_WITH_BARRIER(norm_moments, (const T *x, int64_t rows, int channels, int piece, int wide, float *partial), {
    if (wide) {
        norm_moments<T, WIDE>(x, rows, channels, piece, partial);
    } else {
        norm_moments<T, 1>(x, rows, channels, piece, partial);
    }
})

// The sums of two numbers of each thread (x, y) over y, always in the same order.
DEVICE void join_sums(double *a, double *b) {
    SHARED double shared[2][JOIN_THREADS][JOIN_CHANNELS];
    int x = threadIdx.x, y = threadIdx.y;
    shared[0][y][x] = *a;
    shared[1][y][x] = *b;
    BARRIER();
    for (int half = JOIN_THREADS / 2; half > 0; half /= 2) {
        if (y < half) {
            shared[0][y][x] += shared[0][y + half][x];
            shared[1][y][x] += shared[1][y + half][x];
        }
        BARRIER();
    }
    *a = shared[0][0][x];
    *b = shared[1][0][x];
}

// Joins the pieces, moves the running moments, and leaves for each channel what the other kernels read: `saved` is (4, C):
// mean, 1 / std, scale, shift. Sums of squares about 0 are safe in f64. Block (8, 128), 8 channels a block.
KERNEL_OF_BLOCKS(norm_join, JOIN_CHANNELS * JOIN_THREADS, 1, (const float *partial, int64_t rows, int channels, int piece, int pieces, const float *gamma, const float *beta, double eps, double momentum, float *running_mean, float *running_var, float *saved), {
    int c = (int)blockIdx.x * JOIN_CHANNELS + (int)threadIdx.x;
    double sum = 0;
    double squares = 0;
    UNROLL_4
    for (int i = threadIdx.y; i < pieces; i += JOIN_THREADS) {
        int64_t left = rows - (int64_t)i * piece;
        double k = (double)(left < piece ? left : piece);
        if (c < channels) {
            double mean = (double)partial[(int64_t)i * 2 * channels + c];
            sum += k * mean;
            squares += (double)partial[((int64_t)i * 2 + 1) * channels + c] + k * mean * mean;
        }
    }
    join_sums(&sum, &squares);
    if (threadIdx.y == 0 && c < channels) {
        double mean = sum / (double)rows;
        double var = squares / (double)rows - mean * mean;
        if (var < 0) var = 0;
        float inv_std = (float)(1.0 / sqrt(var + eps));
        float centre = (float)mean;
        float scale = gamma[c] * inv_std;
        saved[c] = centre;
        saved[channels + c] = inv_std;
        saved[2 * channels + c] = scale;
        saved[3 * channels + c] = beta[c] - centre * scale;
        double unbiased = rows > 1 ? (double)rows / (double)(rows - 1) : 1.0;
        running_mean[c] = (float)((1.0 - momentum) * running_mean[c] + momentum * centre);
        running_var[c] = (float)((1.0 - momentum) * running_var[c] + momentum * ((double)(float)var * unbiased));
    }
})

// The same (4, C) from running moments.
KERNEL(norm_running, (const float *running_mean, const float *running_var, int channels, const float *gamma, const float *beta, double eps, float *saved), {
    int c = (int)first_item();
    if (c >= channels) return;
    float inv_std = (float)(1.0 / sqrt((double)running_var[c] + eps)), scale = gamma[c] * inv_std;
    saved[c] = running_mean[c];
    saved[channels + c] = inv_std;
    saved[2 * channels + c] = scale;
    saved[3 * channels + c] = beta[c] - running_mean[c] * scale;
})

// V neighbours of a list of f32 by channel, 16 bytes at a time where there are as many.
template <int V>
DEVICE void load_channels(float *to, const float *from) {
    const int N = V % 4 ? 1 : 4;
    for (int v = 0; v < V; v += N) {
        Pack<float, N> in = *(const Pack<float, N> *)(from + v);
        for (int n = 0; n < N; n++) to[v + n] = in.values[n];
    }
}

// Packs of a thread that are on their way at once in passes that write what they read.
#define NORM_FLIGHT 2

// The first of the V channels of this thread, which takes packs from the end on: what was read last before is still in the
// cache. The threads of the grid are as many as make whole rows, so that each keeps its channels.
DEVICE int own_channel(int channels, int v) {
    uint32_t lanes = channels / v;
    return (int)(lanes - 1 - (uint32_t)first_item() % lanes) * v;
}

// y = activation(scale x + shift + residual), V channels a thread; NaN passes through the ReLU.
template <class T, int V>
DEVICE void norm_apply(const T *x, const T *residual, const float *saved, int channels, int64_t n, int relu, T *y) {
    typedef Pack<T, V> P;
    int c = own_channel(channels, V);
    float scale[V], shift[V];
    load_channels<V>(scale, saved + 2 * channels + c);
    load_channels<V>(shift, saved + 3 * channels + c);
    int64_t step = item_step();
    for (int64_t i = n / V - 1 - first_item(); i >= 0; i -= step * NORM_FLIGHT) {
        P in[NORM_FLIGHT], add[NORM_FLIGHT];
        UNROLL
        for (int u = 0; u < NORM_FLIGHT; u++) {
            if (i < u * step) break;
            in[u] = ((const P *)x)[i - u * step];
            if (residual) add[u] = ((const P *)residual)[i - u * step];
        }
        UNROLL
        for (int u = 0; u < NORM_FLIGHT; u++) {
            if (i < u * step) break;
            P out;
            for (int v = 0; v < V; v++) {
                float value = fused(scale[v], load(in[u].values[v]), shift[v]);
                if (residual) value += load(add[u].values[v]);
                store(&out.values[v], relu && value < 0 ? 0.0f : value);
            }
            ((P *)y)[i - u * step] = out;
        }
    }
}

KERNELS(norm_apply, (const T *x, const T *residual, const float *saved, int channels, int64_t n, int relu, int wide, T *y), {
    if (wide) {
        norm_apply<T, WIDE>(x, residual, saved, channels, n, relu, y);
    } else {
        norm_apply<T, 1>(x, residual, saved, channels, n, relu, y);
    }
})

// What the backward pass does to the gradient of the output before all else: nothing, or the ReLU's mask. Without a
// residual the sign of the output follows from x, and y is not read.
template <class T, int V>
struct NormMask {
    typedef Pack<T, V> P;
    const T *y;
    int relu;
    float scale[V], shift[V];
    MEMBER NormMask(const T *y, const float *saved, int channels, int c, int relu) : y(y), relu(relu) {
        for (int v = 0; v < V; v++) scale[v] = shift[v] = 0;
        if (relu && !y && c < channels) {
            load_channels<V>(scale, saved + 2 * channels + c);
            load_channels<V>(shift, saved + 3 * channels + c);
        }
    }
    MEMBER P at(int64_t i) const {
        P out;
        if (relu && y) out = *(const P *)(y + i);
        return out;
    }
    MEMBER float apply(const P &outputs, int v, float x, float dy) const {
        if (!relu) return dy;
        float output = y ? load(outputs.values[v]) : fused(scale[v], x, shift[v]);
        return output <= 0 ? 0.0f : dy;
    }
};

// Sums of the masked gradient g and of g (x - mean), by pieces as in norm_moments; `partial` is (pieces, 2, C). Leaves g,
// the gradient of the residual, where it is wanted: what reads it then needs neither y nor the mask.
template <class T, int V>
DEVICE void norm_grad_sums(const T *x, const T *y, const T *dy, const float *saved, int64_t rows, int channels, int piece, int relu, T *d_residual, float *partial) {
    typedef Pack<T, V> P;
    int c = (blockIdx.x * NORM_LANES + threadIdx.x) * V;
    Piece p(rows, piece);
    NormMask<T, V> mask(y, saved, channels, c, relu);
    float g_sum[V], gx_sum[V], mean[V];
    for (int v = 0; v < V; v++) g_sum[v] = gx_sum[v] = 0;
    if (c < channels) {
        load_channels<V>(mean, saved + c);
        UNROLL_4
        for (int64_t r = p.begin + threadIdx.y; r < p.end; r += NORM_ROWS) {
            int64_t i = r * channels + c;
            P in = *(const P *)(x + i), grads = *(const P *)(dy + i), outputs = mask.at(i), rest;
            for (int v = 0; v < V; v++) {
                float value = load(in.values[v]), masked = mask.apply(outputs, v, value, load(grads.values[v]));
                g_sum[v] += masked;
                gx_sum[v] = fused(masked, value - mean[v], gx_sum[v]);
                store(&rest.values[v], masked);
            }
            if (d_residual) *(P *)(d_residual + i) = rest;
        }
    }
    leave_sums<V>(g_sum, gx_sum, channels, partial);
}

KERNELS_WITH_BARRIER(norm_grad_sums, (const T *x, const T *y, const T *dy, const float *saved, int64_t rows, int channels, int piece, int relu, int wide, T *d_residual, float *partial), {
    if (wide) {
        norm_grad_sums<T, WIDE>(x, y, dy, saved, rows, channels, piece, relu, d_residual, partial);
    } else {
        norm_grad_sums<T, 1>(x, y, dy, saved, rows, channels, piece, relu, d_residual, partial);
    }
})

// Joins the pieces in order: gradients of scale and shift (overwritten), and (3, C) factors so that the gradient of x is
// factors[0] g + factors[1] x + factors[2]. Block (8, 128), 8 channels a block.
KERNEL_OF_BLOCKS(norm_grad_join, JOIN_CHANNELS * JOIN_THREADS, 1, (const float *partial, int64_t rows, int channels, int pieces, const float *gamma, const float *saved, float *dgamma, float *dbeta, float *factors), {
    int c = (int)blockIdx.x * JOIN_CHANNELS + (int)threadIdx.x;
    double sum_g = 0;
    double sum_gx = 0;
    UNROLL_4
    for (int i = threadIdx.y; i < pieces; i += JOIN_THREADS) {
        if (c >= channels) continue;
        sum_g += (double)partial[(int64_t)i * 2 * channels + c];
        sum_gx += (double)partial[((int64_t)i * 2 + 1) * channels + c];
    }
    join_sums(&sum_g, &sum_gx);
    if (threadIdx.y == 0 && c < channels) {
        double mean = saved[c];
        double inv_std = saved[channels + c];
        sum_gx *= inv_std;
        float a = gamma[c] * saved[channels + c];
        double b = -(double)a * sum_gx * inv_std / (double)rows;
        factors[c] = a;
        factors[channels + c] = (float)b;
        factors[2 * channels + c] = (float)(-(double)a * sum_g / (double)rows - b * mean);
        dgamma[c] = (float)sum_gx;
        dbeta[c] = (float)sum_g;
    }
})

// dx = a g + b x + shift.
template <class T, int V>
DEVICE void norm_grad_apply(const T *x, const T *y, const T *dy, const float *saved, const float *factors, int channels, int64_t n, int relu, T *dx) {
    typedef Pack<T, V> P;
    int c = own_channel(channels, V);
    NormMask<T, V> mask(y, saved, channels, c, relu);
    float a[V], b[V], shift[V];
    load_channels<V>(a, factors + c);
    load_channels<V>(b, factors + channels + c);
    load_channels<V>(shift, factors + 2 * channels + c);
    int64_t step = item_step();
    for (int64_t i = n / V - 1 - first_item(); i >= 0; i -= step * NORM_FLIGHT) {
        P in[NORM_FLIGHT], grads[NORM_FLIGHT], outputs[NORM_FLIGHT];
        UNROLL
        for (int u = 0; u < NORM_FLIGHT; u++) {
            if (i < u * step) break;
            in[u] = ((const P *)x)[i - u * step];
            grads[u] = ((const P *)dy)[i - u * step];
            outputs[u] = mask.at((i - u * step) * V);
        }
        UNROLL
        for (int u = 0; u < NORM_FLIGHT; u++) {
            if (i < u * step) break;
            P out;
            for (int v = 0; v < V; v++) {
                float value = load(in[u].values[v]), masked = mask.apply(outputs[u], v, value, load(grads[u].values[v]));
                store(&out.values[v], fused(a[v], masked, fused(b[v], value, shift[v])));
            }
            ((P *)dx)[i - u * step] = out;
        }
    }
}

KERNELS(norm_grad_apply, (const T *x, const T *y, const T *dy, const float *saved, const float *factors, int channels, int64_t n, int relu, int wide, T *dx), {
    if (wide) {
        norm_grad_apply<T, WIDE>(x, y, dy, saved, factors, channels, n, relu, dx);
    } else {
        norm_grad_apply<T, 1>(x, y, dy, saved, factors, channels, n, relu, dx);
    }
})
