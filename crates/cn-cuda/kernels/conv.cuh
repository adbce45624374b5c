// Convolutions as products of matrices that exist only tile by tile, and the products of the fully connected layer.
//
// Weights are (O, Kh, Kw, I). These kernels need no library; where cuDNN is there, it is faster.
#pragma once
#include "portable.cuh"

#define TILE 64
#define DEPTH 16
#define PER_THREAD 4

struct ConvShape {
    int batch, height, width, in_channels, out_channels;
    int kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x;
    int out_height, out_width;
};

// Rows of the product are positions of the output, its columns output channels; the sum runs over taps and channels.
template <class T>
struct ForwardOperands {
    const T *x, *w;
    ConvShape s;
    MEMBER float left(int64_t m, int64_t k) const {
        int c = (int)(k % s.in_channels), kx = (int)(k / s.in_channels % s.kernel_x), ky = (int)(k / s.in_channels / s.kernel_x);
        int ox = (int)(m % s.out_width), oy = (int)(m / s.out_width % s.out_height);
        int64_t b = m / s.out_width / s.out_height;
        int iy = oy * s.stride_y + ky - s.padding_y, ix = ox * s.stride_x + kx - s.padding_x;
        if (iy < 0 || ix < 0 || iy >= s.height || ix >= s.width) return 0;
        return load(x[((b * s.height + iy) * s.width + ix) * s.in_channels + c]);
    }
    MEMBER float right(int64_t k, int64_t n) const {
        return load(w[n * s.kernel_y * s.kernel_x * s.in_channels + k]);
    }
};

// Rows are positions of the input, columns input channels; the sum runs over taps and output channels.
template <class T>
struct DataOperands {
    const T *dy, *w;
    ConvShape s;
    MEMBER float left(int64_t m, int64_t k) const {
        int o = (int)(k % s.out_channels), kx = (int)(k / s.out_channels % s.kernel_x), ky = (int)(k / s.out_channels / s.kernel_x);
        int ix = (int)(m % s.width), iy = (int)(m / s.width % s.height);
        int64_t b = m / s.width / s.height;
        int y = iy + s.padding_y - ky, x = ix + s.padding_x - kx;
        if (y < 0 || x < 0 || y % s.stride_y || x % s.stride_x) return 0;
        int oy = y / s.stride_y, ox = x / s.stride_x;
        if (oy >= s.out_height || ox >= s.out_width) return 0;
        return load(dy[((b * s.out_height + oy) * s.out_width + ox) * s.out_channels + o]);
    }
    MEMBER float right(int64_t k, int64_t n) const {
        int64_t o = k % s.out_channels, tap = k / s.out_channels;
        return load(w[(o * s.kernel_y * s.kernel_x + tap) * s.in_channels + n]);
    }
};

// Rows are output channels, columns taps and input channels; the sum runs over positions of the output.
template <class T>
struct WeightOperands {
    ForwardOperands<T> forward;
    const T *dy;
    MEMBER float left(int64_t m, int64_t k) const { return load(dy[k * forward.s.out_channels + m]); }
    MEMBER float right(int64_t k, int64_t n) const { return forward.left(k, n); }
};

// One 64 x 64 tile of a product, summed over [begin, end); 256 threads, 16 products each a step. Every element is summed
// in the order of k.
template <class Operands>
DEVICE void tile_product(const Operands &operands, int64_t rows, int64_t columns, int64_t begin, int64_t end, float (*sums)[PER_THREAD]) {
    SHARED float left[DEPTH][TILE], right[DEPTH][TILE];
    int64_t first_row = (int64_t)blockIdx.x * TILE, first_column = (int64_t)blockIdx.y * TILE;
    int t = threadIdx.x, tx = t % 16, ty = t / 16;
    for (int i = 0; i < PER_THREAD; i++) {
        for (int j = 0; j < PER_THREAD; j++) sums[i][j] = 0;
    }
    for (int64_t k0 = begin; k0 < end; k0 += DEPTH) {
        for (int i = t; i < TILE * DEPTH; i += 256) {
            // Neighbouring threads read along k, which runs over channels.
            int d = i % DEPTH, at = i / DEPTH;
            int64_t k = k0 + d;
            left[d][at] = k < end && first_row + at < rows ? operands.left(first_row + at, k) : 0.0f;
            right[d][at] = k < end && first_column + at < columns ? operands.right(k, first_column + at) : 0.0f;
        }
        BARRIER();
        for (int d = 0; d < DEPTH; d++) {
            for (int i = 0; i < PER_THREAD; i++) {
                for (int j = 0; j < PER_THREAD; j++) sums[i][j] += left[d][ty * PER_THREAD + i] * right[d][tx + 16 * j];
            }
        }
        BARRIER();
    }
}

// What happens to a product on its way to memory; pointers may be null.
template <class T>
struct Epilogue {
    const float *bias;
    const T *residual;
    // Whether it is added to what is there, and rectified.
    int add, relu;
};

// Writes the tile to (rows, columns).
template <class T>
DEVICE void write_tile(float (*sums)[PER_THREAD], int64_t rows, int64_t columns, const Epilogue<T> &e, T *out) {
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    for (int i = 0; i < PER_THREAD; i++) {
        int64_t row = (int64_t)blockIdx.x * TILE + ty * PER_THREAD + i;
        for (int j = 0; j < PER_THREAD; j++) {
            int64_t column = (int64_t)blockIdx.y * TILE + tx + 16 * j;
            if (row >= rows || column >= columns) continue;
            int64_t at = row * columns + column;
            float value = sums[i][j];
            if (e.bias) value += e.bias[column];
            if (e.residual) value += load(e.residual[at]);
            if (e.add) value += load(out[at]);
            store(out + at, e.relu && value < 0 ? 0.0f : value);
        }
    }
}

KERNELS_WITH_BARRIER(conv_forward, (const T *x, const T *w, ConvShape s, const float *bias, const T *residual, int relu, T *y), {
    ForwardOperands<T> operands = {x, w, s};
    float sums[PER_THREAD][PER_THREAD];
    int64_t rows = (int64_t)s.batch * s.out_height * s.out_width;
    tile_product(operands, rows, s.out_channels, 0, (int64_t)s.kernel_y * s.kernel_x * s.in_channels, sums);
    Epilogue<T> e = {bias, residual, 0, relu};
    write_tile<T>(sums, rows, s.out_channels, e, y);
})

KERNELS_WITH_BARRIER(conv_data_grad, (const T *dy, const T *w, ConvShape s, int add, T *dx), {
    DataOperands<T> operands = {dy, w, s};
    float sums[PER_THREAD][PER_THREAD];
    int64_t rows = (int64_t)s.batch * s.height * s.width;
    tile_product(operands, rows, s.in_channels, 0, (int64_t)s.kernel_y * s.kernel_x * s.out_channels, sums);
    Epilogue<T> e = {nullptr, nullptr, add, 0};
    write_tile<T>(sums, rows, s.in_channels, e, dx);
})

// Piece z of the positions goes to partial[z], (O, Kh * Kw * I).
KERNELS_WITH_BARRIER(conv_weight_grad, (const T *x, const T *dy, ConvShape s, int64_t piece, float *partial), {
    WeightOperands<T> operands = {{x, nullptr, s}, dy};
    float sums[PER_THREAD][PER_THREAD];
    int64_t positions = (int64_t)s.batch * s.out_height * s.out_width;
    int64_t columns = (int64_t)s.kernel_y * s.kernel_x * s.in_channels;
    int64_t begin = blockIdx.z * piece;
    int64_t end = begin + piece < positions ? begin + piece : positions;
    tile_product(operands, s.out_channels, columns, begin, end, sums);
    Epilogue<float> e = {nullptr, nullptr, 0, 0};
    write_tile<float>(sums, s.out_channels, columns, e, partial + (int64_t)blockIdx.z * s.out_channels * columns);
})

// A convolution and the norm behind it, as one: scales each output of the weight (O, columns) and leaves the bias, in f32
// and in T.
KERNELS(fold_norm, (const float *w, const float *conv_bias, const float *gamma, const float *beta, const float *mean, const float *var, double eps, int outputs, int columns, T *to, float *bias, T *narrow_bias), {
    int64_t n = (int64_t)outputs * columns;
    for (int64_t i = first_item(); i < n; i += item_step()) {
        int o = (int)(i / columns);
        float inv_std = (float)(1.0 / sqrt((double)var[o] + eps));
        float scale = gamma[o] * inv_std;
        store(to + i, w[i] * scale);
        if (i % columns == 0) {
            float value = beta[o] + ((conv_bias ? conv_bias[o] : 0.0f) - mean[o]) * scale;
            bias[o] = value;
            store(narrow_bias + o, value);
        }
    }
})

#define SUM_LANES 32
#define SUM_THREADS 8

// Sums the pieces, always in the same order: block (32, 8), 32 elements a block.
KERNEL_WITH_BARRIER(sum_pieces, (const float *partial, int64_t n, int pieces, float *out), {
    SHARED float shared[SUM_THREADS][SUM_LANES];
    int64_t i = (int64_t)blockIdx.x * SUM_LANES + threadIdx.x;
    float sum = 0;
    UNROLL_4
    for (int z = threadIdx.y; z < pieces; z += SUM_THREADS) {
        if (i < n) sum += partial[z * n + i];
    }
    shared[threadIdx.y][threadIdx.x] = sum;
    BARRIER();
    if (threadIdx.y == 0 && i < n) {
        for (int z = 1; z < SUM_THREADS; z++) sum += shared[z][threadIdx.x];
        out[i] = sum;
    }
})

// A matrix with strides, in elements.
struct Strided {
    const float *at;
    int64_t row, column, rows, columns;
    // 0 outside.
    MEMBER float get(int64_t r, int64_t c) const { return r < rows && c < columns ? at[r * row + c * column] : 0.0f; }
};

#define DENSE_TILE 32
#define DENSE_DEPTH 32
#define DENSE_THREADS 256
#define DENSE_LOADS (DENSE_TILE * DENSE_DEPTH / DENSE_THREADS)

// Positions in a tile of 32 x 32: neighbouring threads read along the dimension that lies close in memory.
DEVICE void dense_position(int i, bool along_second, int *first, int *second) {
    int t = threadIdx.x + i * DENSE_THREADS, high = t / 32, low = t % 32;
    *first = along_second ? high : low;
    *second = along_second ? low : high;
}

// Products of small matrices, (rows, depth) by (depth, columns): tiles of 32 x 32, so that a batch of some hundred rows
// fills a GPU. The next pieces of both are on their way while one is multiplied. Sums run in the order of depth.
KERNEL_WITH_BARRIER(dense, (const float *a, const float *b, int64_t a_row, int64_t a_column, int64_t b_row, int64_t b_column, int64_t rows, int64_t columns, int64_t depth, const float *bias, float *out), {
    SHARED float left[DENSE_DEPTH][DENSE_TILE + 1];
    SHARED float right[DENSE_DEPTH][DENSE_TILE + 1];
    Strided a_matrix = {a, a_row, a_column, rows, depth};
    Strided b_matrix = {b, b_row, b_column, depth, columns};
    int64_t row0 = (int64_t)blockIdx.x * DENSE_TILE;
    int64_t column0 = (int64_t)blockIdx.y * DENSE_TILE;
    int tx = threadIdx.x % 16 * 2;
    int ty = threadIdx.x / 16 * 2;
    float sums[2][2] = {{0, 0}, {0, 0}};
    float next_left[DENSE_LOADS];
    float next_right[DENSE_LOADS];
    bool a_along = a_column == 1;
    bool b_along = b_column == 1;
    for (int64_t k0 = -DENSE_DEPTH; k0 < depth; k0 += DENSE_DEPTH) {
        if (k0 >= 0) {
            for (int i = 0; i < DENSE_LOADS; i++) {
                int m;
                int k;
                dense_position(i, a_along, &m, &k);
                left[k][m] = next_left[i];
                int n;
                dense_position(i, b_along, &k, &n);
                right[k][n] = next_right[i];
            }
        }
        BARRIER();
        for (int i = 0; i < DENSE_LOADS; i++) {
            int m;
            int k;
            dense_position(i, a_along, &m, &k);
            next_left[i] = a_matrix.get(row0 + m, k0 + DENSE_DEPTH + k);
            int n;
            dense_position(i, b_along, &k, &n);
            next_right[i] = b_matrix.get(k0 + DENSE_DEPTH + k, column0 + n);
        }
        if (k0 >= 0) {
            for (int d = 0; d < DENSE_DEPTH; d++) {
                float l[2] = {left[d][ty], left[d][ty + 1]};
                float r[2] = {right[d][tx], right[d][tx + 1]};
                for (int i = 0; i < 2; i++) {
                    for (int j = 0; j < 2; j++) sums[i][j] = fused(l[i], r[j], sums[i][j]);
                }
            }
        }
        BARRIER();
    }
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            int64_t row = row0 + ty + i;
            int64_t column = column0 + tx + j;
            if (row < rows && column < columns) out[row * columns + column] = sums[i][j] + (bias ? bias[column] : 0.0f);
        }
    }
})

// Sums of the rows of (rows, columns), in order; a thread a column.
KERNELS(column_sums, (const T *x, int64_t rows, int columns, float *sums), {
    int64_t c = first_item();
    if (c >= columns) return;
    float sum = 0;
    for (int64_t r = 0; r < rows; r++) sum += load(x[r * columns + c]);
    sums[c] = sum;
})
