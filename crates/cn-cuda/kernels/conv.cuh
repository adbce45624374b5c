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

// Of a convolution of single pixels in steps, the pixels that it reads.
template <class T, int V>
DEVICE void pick_pixels(const T *x, const ConvShape &s, T *out) {
    typedef Pack<T, V> P;
    uint32_t lanes = s.in_channels / V, n = (uint32_t)(s.batch * s.out_height * s.out_width) * lanes;
    for (uint32_t i = (uint32_t)first_item(); i < n; i += (uint32_t)item_step()) {
        uint32_t at = i / lanes, ox = at % s.out_width, row = at / s.out_width, oy = row % s.out_height, b = row / s.out_height;
        ((P *)out)[i] = ((const P *)x)[((b * s.height + oy * s.stride_y) * s.width + ox * s.stride_x) * lanes + i % lanes];
    }
}

KERNELS(pick_pixels, (const T *x, ConvShape s, int wide, T *out), {
    if (wide) {
        pick_pixels<T, WIDE>(x, s, out);
    } else {
        pick_pixels<T, 1>(x, s, out);
    }
})

// Back to where they come from: added, or among zeros.
template <class T, int V>
DEVICE void spread_pixels(const T *from, const ConvShape &s, int add, T *x) {
    typedef Pack<T, V> P;
    uint32_t lanes = s.in_channels / V;
    uint32_t n = (add ? (uint32_t)(s.batch * s.out_height * s.out_width) : (uint32_t)(s.batch * s.height * s.width)) * lanes;
    for (uint32_t i = (uint32_t)first_item(); i < n; i += (uint32_t)item_step()) {
        uint32_t at = i / lanes, lane = i % lanes;
        if (add) {
            uint32_t ox = at % s.out_width, row = at / s.out_width, oy = row % s.out_height, b = row / s.out_height;
            P *to = (P *)x + ((b * s.height + oy * s.stride_y) * s.width + ox * s.stride_x) * lanes + lane;
            P in = ((const P *)from)[i], sum = *to;
            for (int v = 0; v < V; v++) store(&sum.values[v], load(sum.values[v]) + load(in.values[v]));
            *to = sum;
            continue;
        }
        uint32_t ix = at % s.width, row = at / s.width, iy = row % s.height, b = row / s.height;
        P out;
        for (int v = 0; v < V; v++) store(&out.values[v], 0.0f);
        if (ix % s.stride_x == 0 && iy % s.stride_y == 0) {
            out = ((const P *)from)[((b * s.out_height + iy / s.stride_y) * s.out_width + ix / s.stride_x) * lanes + lane];
        }
        ((P *)x)[i] = out;
    }
}

KERNELS(spread_pixels, (const T *from, ConvShape s, int add, int wide, T *x), {
    if (wide) {
        spread_pixels<T, WIDE>(from, s, add, x);
    } else {
        spread_pixels<T, 1>(from, s, add, x);
    }
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

#define DENSE_TILE 32
#define DENSE_DEPTH 32
#define DENSE_THREADS 256
#define DENSE_LOADS (DENSE_TILE * DENSE_DEPTH / DENSE_THREADS)
// Threads that make a tile, 4 x 4 products each; every such group of a block sums its own part of the depth.
#define DENSE_GROUP 64
#define DENSE_GROUPS (DENSE_THREADS / DENSE_GROUP)
#define DENSE_PITCH (DENSE_TILE + 4)

// One operand of a product, a tile at a time: element (i, k) lies at `at[i * outer + k * inner]`, and is 0 outside.
struct DenseOperand {
    const float *at;
    int64_t inner, depth;
    int first[DENSE_LOADS], second[DENSE_LOADS];
    int64_t offset[DENSE_LOADS];
    float held[DENSE_LOADS];
    uint32_t inside;
    // Neighbouring threads read along the dimension that lies close in memory: 8 steps of depth, or a row of the tile.
    MEMBER DenseOperand(const float *from, int64_t outer, int64_t inner, int64_t begin, int64_t n, int64_t depth)
        : at(from + begin * outer), inner(inner), depth(depth), inside(0) {
        UNROLL
        for (int j = 0; j < DENSE_LOADS; j++) {
            int t = threadIdx.x + j * DENSE_THREADS, warp = t / 32, lane = t % 32;
            first[j] = inner == 1 ? warp / 4 * 4 + lane / 8 : lane;
            second[j] = inner == 1 ? warp % 4 * 8 + lane % 8 : warp;
            if (begin + first[j] < n) inside |= 1u << j;
            offset[j] = first[j] * outer + second[j] * inner;
        }
    }
    MEMBER void fetch(int64_t k0) {
        UNROLL
        for (int j = 0; j < DENSE_LOADS; j++) {
            bool there = (inside >> j & 1) && k0 + second[j] < depth;
            held[j] = there ? at[offset[j] + k0 * inner] : 0.0f;
        }
    }
    MEMBER void put(float (*tile)[DENSE_PITCH]) const {
        UNROLL
        for (int j = 0; j < DENSE_LOADS; j++) tile[second[j]][first[j]] = held[j];
    }
};

// Products of small matrices, (rows, depth) by (depth, columns): tiles of 32 x 32, so that a batch of some hundred rows
// fills a GPU. The next pieces of both are on their way while one is multiplied. The order of a sum depends on the depth
// alone.
KERNEL_WITH_BARRIER(dense, (const float *a, const float *b, int64_t a_row, int64_t a_column, int64_t b_row, int64_t b_column, int64_t rows, int64_t columns, int64_t depth, const float *bias, float *out), {
    alignas(16) SHARED float left[DENSE_DEPTH][DENSE_PITCH];
    alignas(16) SHARED float right[DENSE_DEPTH][DENSE_PITCH];
    SHARED float parts[DENSE_GROUPS - 1][16][DENSE_GROUP];
    typedef Pack<float, 4> P;
    int64_t row0 = (int64_t)blockIdx.x * DENSE_TILE;
    int64_t column0 = (int64_t)blockIdx.y * DENSE_TILE;
    int group = threadIdx.x / DENSE_GROUP;
    int own = threadIdx.x % DENSE_GROUP;
    int tx = own % 8 * 4;
    int ty = own / 8 * 4;
    float sums[4][4] = {};
    DenseOperand a_tile(a, a_row, a_column, row0, rows, depth);
    DenseOperand b_tile(b, b_column, b_row, column0, columns, depth);
    a_tile.fetch(0);
    b_tile.fetch(0);
    for (int64_t k0 = 0; k0 < depth; k0 += DENSE_DEPTH) {
        a_tile.put(left);
        b_tile.put(right);
        BARRIER();
        a_tile.fetch(k0 + DENSE_DEPTH);
        b_tile.fetch(k0 + DENSE_DEPTH);
        UNROLL
        for (int i = 0; i < DENSE_DEPTH / DENSE_GROUPS; i++) {
            int d = group * (DENSE_DEPTH / DENSE_GROUPS) + i;
            P l = *(const P *)(left[d] + ty);
            P r = *(const P *)(right[d] + tx);
            for (int y = 0; y < 4; y++) {
                for (int x = 0; x < 4; x++) sums[y][x] = fused(l.values[y], r.values[x], sums[y][x]);
            }
        }
        BARRIER();
    }
    if (group > 0) {
        UNROLL
        for (int i = 0; i < 16; i++) parts[group - 1][i][own] = sums[i / 4][i % 4];
    }
    BARRIER();
    if (group == 0) {
        UNROLL
        for (int i = 0; i < 16; i++) {
            int64_t row = row0 + ty + i / 4;
            int64_t column = column0 + tx + i % 4;
            float sum = sums[i / 4][i % 4];
            for (int part = 0; part < DENSE_GROUPS - 1; part++) sum += parts[part][i][own];
            if (row < rows && column < columns) out[row * columns + column] = sum + (bias ? bias[column] : 0.0f);
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
