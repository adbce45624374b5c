// Batch normalisation over the rows of (rows, C), with an optional residual sum and ReLU.
//
// Sums over rows go through pieces of fixed size: a block adds up one piece for 32 channels, and a second kernel joins
// the pieces in order, so that the bits depend on the shape alone.
#pragma once
#include "portable.cuh"

#define NORM_CHANNELS 32
#define NORM_ROWS 8

// Sums around the first row of the piece, since a large mean would eat the variance. Block (32, 8), grid
// (channels / 32, pieces); `partial` is (pieces, 2, C): the mean of each piece and its sum of squares about that.
template <class T>
DEVICE void norm_moments(const T *x, int64_t rows, int channels, int piece, float *partial) {
    SHARED float sums[NORM_ROWS][NORM_CHANNELS], squares[NORM_ROWS][NORM_CHANNELS];
    int c = blockIdx.x * NORM_CHANNELS + threadIdx.x;
    int64_t begin = (int64_t)blockIdx.y * piece, end = begin + piece < rows ? begin + piece : rows;
    float sum = 0, square = 0, origin = 0;
    if (c < channels) {
        origin = load(x[begin * channels + c]);
        for (int64_t r = begin + threadIdx.y; r < end; r += NORM_ROWS) {
            float d = load(x[r * channels + c]) - origin;
            sum += d;
            square += d * d;
        }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    squares[threadIdx.y][threadIdx.x] = square;
    BARRIER();
    if (threadIdx.y == 0 && c < channels) {
        for (int i = 1; i < NORM_ROWS; i++) {
            sum += sums[i][threadIdx.x];
            square += squares[i][threadIdx.x];
        }
        float n = (float)(end - begin), about = square - sum * sum / n;
        float *to = partial + (int64_t)blockIdx.y * 2 * channels + c;
        to[0] = origin + sum / n;
        to[channels] = about > 0 ? about : (about == about ? 0 : about);
    }
}

KERNELS_WITH_BARRIER(norm_moments, (const T *x, int64_t rows, int channels, int piece, float *partial), {
    norm_moments<T>(x, rows, channels, piece, partial);
})

// Joins the pieces (Chan, Golub & LeVeque 1979), moves the running moments, and leaves for each channel what the other
// kernels read: `saved` is (4, C): mean, 1 / std, scale, shift. One thread a channel.
KERNEL(norm_join, (const float *partial, int64_t rows, int channels, int piece, int pieces, const float *gamma, const float *beta, double eps, double momentum, float *running_mean, float *running_var, float *saved), {
    int c = (int)first_item();
    if (c >= channels) return;
    double n = 0, mean = 0, about = 0;
    for (int i = 0; i < pieces; i++) {
        int64_t left = rows - (int64_t)i * piece;
        double k = (double)(left < piece ? left : piece);
        double d = (double)partial[(int64_t)i * 2 * channels + c] - mean;
        mean += d * k / (n + k);
        about += (double)partial[((int64_t)i * 2 + 1) * channels + c] + d * d * n * k / (n + k);
        n += k;
    }
    double var = about / (double)rows;
    float inv_std = (float)(1.0 / sqrt(var + eps)), centre = (float)mean;
    float scale = gamma[c] * inv_std;
    saved[c] = centre;
    saved[channels + c] = inv_std;
    saved[2 * channels + c] = scale;
    saved[3 * channels + c] = beta[c] - centre * scale;
    double unbiased = rows > 1 ? (double)rows / (double)(rows - 1) : 1.0;
    running_mean[c] = (float)((1.0 - momentum) * running_mean[c] + momentum * centre);
    running_var[c] = (float)((1.0 - momentum) * running_var[c] + momentum * ((double)(float)var * unbiased));
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

// y = activation(scale x + shift + residual), V channels a thread; NaN passes through the ReLU.
template <class T, int V>
DEVICE void norm_apply(const T *x, const T *residual, const float *saved, int channels, int64_t n, int relu, T *y) {
    typedef Pack<T, V> P;
    const float *scale = saved + 2 * channels, *shift = saved + 3 * channels;
    for (int64_t i = first_item(); i < n / V; i += item_step()) {
        int c = (int)(i * V % channels);
        P in = ((const P *)x)[i], add, out;
        if (residual) add = ((const P *)residual)[i];
        for (int v = 0; v < V; v++) {
            float value = scale[c + v] * load(in.values[v]) + shift[c + v];
            if (residual) value += load(add.values[v]);
            store(&out.values[v], relu && value < 0 ? 0.0f : value);
        }
        ((P *)y)[i] = out;
    }
}

KERNELS(norm_apply, (const T *x, const T *residual, const float *saved, int channels, int64_t n, int relu, T *y), {
    if (channels % 4 == 0) {
        norm_apply<T, 4>(x, residual, saved, channels, n, relu, y);
    } else {
        norm_apply<T, 1>(x, residual, saved, channels, n, relu, y);
    }
})

// Sums of the masked gradient g and of g (x - mean), by pieces as in norm_moments; `partial` is (pieces, 2, C).
template <class T>
DEVICE void norm_grad_sums(const T *x, const T *y, const T *dy, const float *saved, int64_t rows, int channels, int piece, int relu, float *partial) {
    SHARED float g_sums[NORM_ROWS][NORM_CHANNELS], gx_sums[NORM_ROWS][NORM_CHANNELS];
    int c = blockIdx.x * NORM_CHANNELS + threadIdx.x;
    int64_t begin = (int64_t)blockIdx.y * piece, end = begin + piece < rows ? begin + piece : rows;
    float g_sum = 0, gx_sum = 0;
    if (c < channels) {
        float mean = saved[c];
        for (int64_t r = begin + threadIdx.y; r < end; r += NORM_ROWS) {
            int64_t i = r * channels + c;
            float g = relu && load(y[i]) <= 0 ? 0.0f : load(dy[i]);
            g_sum += g;
            gx_sum += g * (load(x[i]) - mean);
        }
    }
    g_sums[threadIdx.y][threadIdx.x] = g_sum;
    gx_sums[threadIdx.y][threadIdx.x] = gx_sum;
    BARRIER();
    if (threadIdx.y == 0 && c < channels) {
        for (int i = 1; i < NORM_ROWS; i++) {
            g_sum += g_sums[i][threadIdx.x];
            gx_sum += gx_sums[i][threadIdx.x];
        }
        float *to = partial + (int64_t)blockIdx.y * 2 * channels + c;
        to[0] = g_sum;
        to[channels] = gx_sum;
    }
}

KERNELS_WITH_BARRIER(norm_grad_sums, (const T *x, const T *y, const T *dy, const float *saved, int64_t rows, int channels, int piece, int relu, float *partial), {
    norm_grad_sums<T>(x, y, dy, saved, rows, channels, piece, relu, partial);
})

// Joins the pieces in order: gradients of scale and shift (overwritten), and (3, C) factors so that the gradient of x is
// factors[0] g + factors[1] x + factors[2].
KERNEL(norm_grad_join, (const float *partial, int64_t rows, int channels, int pieces, const float *gamma, const float *saved, float *dgamma, float *dbeta, float *factors), {
    int c = (int)first_item();
    if (c >= channels) return;
    double sum_g = 0, sum_gx = 0;
    double mean = saved[c], inv_std = saved[channels + c];
    for (int i = 0; i < pieces; i++) {
        sum_g += (double)partial[(int64_t)i * 2 * channels + c];
        sum_gx += (double)partial[((int64_t)i * 2 + 1) * channels + c] * inv_std;
    }
    float a = gamma[c] * saved[channels + c];
    double b = -(double)a * sum_gx * inv_std / (double)rows;
    factors[c] = a;
    factors[channels + c] = (float)b;
    factors[2 * channels + c] = (float)(-(double)a * sum_g / (double)rows - b * mean);
    dgamma[c] = (float)sum_gx;
    dbeta[c] = (float)sum_g;
})

// dx = a g + b x + shift, and the residual's gradient g where it is wanted.
template <class T, int V>
DEVICE void norm_grad_apply(const T *x, const T *y, const T *dy, const float *factors, int channels, int64_t n, int relu, T *dx, T *d_residual) {
    typedef Pack<T, V> P;
    for (int64_t i = first_item(); i < n / V; i += item_step()) {
        int c = (int)(i * V % channels);
        P in = ((const P *)x)[i], grad = ((const P *)dy)[i], out, mask, rest;
        if (relu) mask = ((const P *)y)[i];
        for (int v = 0; v < V; v++) {
            float g = relu && load(mask.values[v]) <= 0 ? 0.0f : load(grad.values[v]);
            float value = factors[c + v] * g + factors[channels + c + v] * load(in.values[v]) + factors[2 * channels + c + v];
            store(&out.values[v], value);
            store(&rest.values[v], g);
        }
        ((P *)dx)[i] = out;
        if (d_residual) ((P *)d_residual)[i] = rest;
    }
}

KERNELS(norm_grad_apply, (const T *x, const T *y, const T *dy, const float *factors, int channels, int64_t n, int relu, T *dx, T *d_residual), {
    if (channels % 4 == 0) {
        norm_grad_apply<T, 4>(x, y, dy, factors, channels, n, relu, dx, d_residual);
    } else {
        norm_grad_apply<T, 1>(x, y, dy, factors, channels, n, relu, dx, d_residual);
    }
})
