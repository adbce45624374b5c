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

// Matrices with strides, in elements.
struct DenseOperands {
    const float *a, *b;
    int64_t a_row, a_column, b_row, b_column;
    MEMBER float left(int64_t m, int64_t k) const { return a[m * a_row + k * a_column]; }
    MEMBER float right(int64_t k, int64_t n) const { return b[k * b_row + n * b_column]; }
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

// Writes the tile: to (rows, columns), added to what is there if `add`, plus a value a column if there is a bias.
template <class T>
DEVICE void write_tile(float (*sums)[PER_THREAD], int64_t rows, int64_t columns, const float *bias, int add, T *out) {
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    for (int i = 0; i < PER_THREAD; i++) {
        int64_t row = (int64_t)blockIdx.x * TILE + ty * PER_THREAD + i;
        for (int j = 0; j < PER_THREAD; j++) {
            int64_t column = (int64_t)blockIdx.y * TILE + tx + 16 * j;
            if (row >= rows || column >= columns) continue;
            T *to = out + row * columns + column;
            float value = sums[i][j] + (bias ? bias[column] : 0.0f);
            store(to, add ? load(*to) + value : value);
        }
    }
}

KERNELS_WITH_BARRIER(conv_forward, (const T *x, const T *w, ConvShape s, T *y), {
    ForwardOperands<T> operands = {x, w, s};
    float sums[PER_THREAD][PER_THREAD];
    int64_t rows = (int64_t)s.batch * s.out_height * s.out_width;
    tile_product(operands, rows, s.out_channels, 0, (int64_t)s.kernel_y * s.kernel_x * s.in_channels, sums);
    write_tile<T>(sums, rows, s.out_channels, nullptr, 0, y);
})

KERNELS_WITH_BARRIER(conv_data_grad, (const T *dy, const T *w, ConvShape s, int add, T *dx), {
    DataOperands<T> operands = {dy, w, s};
    float sums[PER_THREAD][PER_THREAD];
    int64_t rows = (int64_t)s.batch * s.height * s.width;
    tile_product(operands, rows, s.in_channels, 0, (int64_t)s.kernel_y * s.kernel_x * s.out_channels, sums);
    write_tile<T>(sums, rows, s.in_channels, nullptr, add, dx);
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
    write_tile<float>(sums, s.out_channels, columns, nullptr, 0, partial + (int64_t)blockIdx.z * s.out_channels * columns);
})

// Sums the pieces in order.
KERNEL(sum_pieces, (const float *partial, int64_t n, int pieces, float *out), {
    for (int64_t i = first_item(); i < n; i += item_step()) {
        float sum = 0;
        for (int z = 0; z < pieces; z++) sum += partial[z * n + i];
        out[i] = sum;
    }
})

KERNEL_WITH_BARRIER(dense, (const float *a, const float *b, int64_t a_row, int64_t a_column, int64_t b_row, int64_t b_column, int64_t rows, int64_t columns, int64_t depth, const float *bias, float *out), {
    DenseOperands operands = {a, b, a_row, a_column, b_row, b_column};
    float sums[PER_THREAD][PER_THREAD];
    tile_product(operands, rows, columns, 0, depth, sums);
    write_tile<float>(sums, rows, columns, bias, 0, out);
})

// Sums of the rows of (rows, columns), in order; a thread a column.
KERNELS(column_sums, (const T *x, int64_t rows, int columns, float *sums), {
    int64_t c = first_item();
    if (c >= columns) return;
    float sum = 0;
    for (int64_t r = 0; r < rows; r++) sum += load(x[r * columns + c]);
    sums[c] = sum;
})
