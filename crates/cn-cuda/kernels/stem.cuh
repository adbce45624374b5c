// Convolutions of images with few channels, on tensor cores: the first layer of a network, where libraries that want
// multiples of 8 channels are slow.
//
// Of a window's row, the taps and channels lie side by side in memory. So the sum runs over rows of the window, each
// padded to groups of 8 elements; what is read beyond the window meets weights of zero.
#pragma once
#include "conv.cuh"
#include "tensor_core.cuh"

#define STEM_THREADS 128
// Output channels of a block, and outputs of a tile: 16 along x, some rows.
#define STEM_OUT 64
#define STEM_WIDTH 16
#define STEM_FORWARD_ROWS 8
#define STEM_GRAD_ROWS 4
// Loads of 16 bytes of a thread for the gradients of a tile.
#define STEM_GRAD_LOADS (STEM_WIDTH * STEM_GRAD_ROWS * STEM_OUT / 8 / STEM_THREADS)
// Steps of 16 elements of a padded window, at most.
#define STEM_STEPS 11
#define STEM_DEPTH (STEM_STEPS * 16)
// Rows of pixels under a tile that a warp loads, forward and for the gradient; elements of such a row for each thread; and
// all elements, at most.
#define STEM_FORWARD_LOADS 6
#define STEM_GRAD_ROW_LOADS 4
#define STEM_ROW_LOADS 4
#define STEM_PIXELS 3072
// Elements from row to row in shared memory: 16 bytes more than there are, against conflicts of banks.
#define STEM_PITCH (STEM_DEPTH + 8)
#define STEM_OUT_PITCH (STEM_OUT + 8)

// How windows lie in shared memory.
struct StemPlan {
    // Groups of 8 in a row of the window, and in all of it; steps of 16; elements from pixel row to pixel row.
    int row_groups, groups, steps, pitch;
    // Elements of a row of the window, and from output to output.
    int taps, stride;
    MEMBER StemPlan(const ConvShape &s) {
        taps = s.kernel_x * s.in_channels;
        stride = s.stride_x * s.in_channels;
        row_groups = (taps + 7) / 8;
        groups = s.kernel_y * row_groups;
        steps = (groups + 1) / 2;
        pitch = (STEM_WIDTH - 1) * stride + row_groups * 8;
    }
    // Where a group of the window lies; those beyond it, which meet weights of zero or are left out, at the first.
    MEMBER int offset(int group) const {
        return group < groups ? group / row_groups * pitch + group % row_groups * 8 : 0;
    }
    // The element of the weight (Kh, Kw, I) that element k of the padded window meets; -1 for none.
    MEMBER int weight(int k) const {
        int group = k / 8, tap = group % row_groups * 8 + k % 8;
        return group < groups && tap < taps ? group / row_groups * taps + tap : -1;
    }
};

// A tile of outputs.
struct StemTile {
    int image, y, x;
    MEMBER StemTile(const ConvShape &s, int tile, int rows) {
        int across = (s.out_width + STEM_WIDTH - 1) / STEM_WIDTH, down = (s.out_height + rows - 1) / rows;
        x = tile % across * STEM_WIDTH;
        y = tile / across % down * rows;
        image = tile / across / down;
    }
    // The output of position p, or -1 outside the image.
    MEMBER int64_t output(const ConvShape &s, int p) const {
        int oy = y + p / STEM_WIDTH, ox = x + p % STEM_WIDTH;
        if (oy >= s.out_height || ox >= s.out_width) return -1;
        return ((int64_t)image * s.out_height + oy) * s.out_width + ox;
    }
};

// The pixels under a tile, zeros outside the image; a warp takes a row, of at most 4 ROWS rows. Loads have no branch around
// them, so that all are on their way before the first is needed: while the tile before is multiplied.
template <int ROWS>
struct StemPixels {
    uint16_t held[ROWS][STEM_ROW_LOADS];
    MEMBER void fetch(const bf16 *x, const ConvShape &s, const StemTile &tile, int rows) {
        int width = s.width * s.in_channels, first = (tile.x * s.stride_x - s.padding_x) * s.in_channels;
        int n_rows = (rows - 1) * s.stride_y + s.kernel_y, warp = threadIdx.x / 32;
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            int r = warp + i * (STEM_THREADS / 32), iy = tile.y * s.stride_y - s.padding_y + r;
            bool in_image = r < n_rows & iy >= 0 & iy < s.height;
            const bf16 *row = x + ((int64_t)tile.image * s.height + (in_image ? iy : 0)) * width;
            UNROLL
            for (int j = 0; j < STEM_ROW_LOADS; j++) {
                int at = first + lane_of() + j * 32;
                bool inside = in_image & at >= 0 & at < width;
                uint16_t bits = row[inside ? at : 0].bits;
                held[i][j] = inside ? bits : (uint16_t)0;
            }
        }
    }
    MEMBER void put(const ConvShape &s, const StemPlan &plan, int rows, bf16 *pixels) const {
        int n_rows = (rows - 1) * s.stride_y + s.kernel_y, warp = threadIdx.x / 32;
        UNROLL
        for (int i = 0; i < ROWS; i++) {
            int r = warp + i * (STEM_THREADS / 32);
            UNROLL
            for (int j = 0; j < STEM_ROW_LOADS; j++) {
                int e = lane_of() + j * 32;
                if (r < n_rows & e < plan.pitch) pixels[r * plan.pitch + e].bits = held[i][j];
            }
        }
    }
};

// Where each group of the window lies, for all threads of a block.
DEVICE void fill_offsets(const StemPlan &plan, int *offsets) {
    if (threadIdx.x < STEM_STEPS * 2) offsets[threadIdx.x] = plan.offset(threadIdx.x);
}

// A block takes every so many tiles for 64 output channels; a warp two rows of a tile.
KERNEL_OF_BLOCKS(stem_forward, STEM_THREADS, 4, (const bf16 *x, const bf16 *w, ConvShape s, int tiles, const float *bias, int relu, bf16 *y), {
    alignas(16) SHARED bf16 weights[STEM_OUT * STEM_PITCH];
    alignas(16) SHARED bf16 pixels[STEM_PIXELS];
    alignas(16) SHARED bf16 out[STEM_WIDTH * STEM_FORWARD_ROWS * STEM_OUT_PITCH];
    SHARED int offsets[STEM_STEPS * 2];
    typedef Pack<bf16, 8> P;
    typedef Pack<bf16, 2> Pair;
    StemPlan plan(s);
    int t = threadIdx.x;
    int warp = t / 32;
    int first_out = (int)blockIdx.y * STEM_OUT;
    fill_offsets(plan, offsets);
    for (int k = lane_of(); k < STEM_PITCH; k += 32) {
        int at = plan.weight(k);
        const bf16 *column = w + (int64_t)first_out * s.kernel_y * plan.taps + at;
        UNROLL
        for (int o = warp; o < STEM_OUT; o += STEM_THREADS / 32) {
            weights[o * STEM_PITCH + k].bits = at < 0 ? (uint16_t)0 : column[(int64_t)o * s.kernel_y * plan.taps].bits;
        }
    }
    StemPixels<STEM_FORWARD_LOADS> next;
    if ((int)blockIdx.x < tiles) next.fetch(x, s, StemTile(s, blockIdx.x, STEM_FORWARD_ROWS), STEM_FORWARD_ROWS);
    for (int n = blockIdx.x; n < tiles; n += gridDim.x) {
        StemTile tile(s, n, STEM_FORWARD_ROWS);
        next.put(s, plan, STEM_FORWARD_ROWS, pixels);
        BARRIER();
        int after = n + (int)gridDim.x;
        if (after < tiles) next.fetch(x, s, StemTile(s, after, STEM_FORWARD_ROWS), STEM_FORWARD_ROWS);
        float sums[2][8][4] = {};
        const bf16 *rows = pixels + warp * 2 * s.stride_y * plan.pitch;
        for (int step = 0; step < plan.steps; step++) {
            int first = offsets[step * 2];
            int second = offsets[step * 2 + 1];
            Operand upper = left_of_rows(rows, plan.stride, first, second);
            Operand lower = left_of_rows(rows + s.stride_y * plan.pitch, plan.stride, first, second);
            UNROLL
            for (int j = 0; j < 4; j++) {
                Operand b = right_of_columns(weights + j * 16 * STEM_PITCH + step * 16, STEM_PITCH);
                for (int half = 0; half < 2; half++) {
                    multiply(sums[0][j * 2 + half], upper, b, half);
                    multiply(sums[1][j * 2 + half], lower, b, half);
                }
            }
        }
        UNROLL
        for (int i = 0; i < 2; i++) {
            UNROLL
            for (int j = 0; j < 8; j++) {
                int o = j * 8 + lane_of() % 4 * 2;
                for (int half = 0; half < 2; half++) {
                    int m = (warp * 2 + i) * STEM_WIDTH + lane_of() / 4 + half * 8;
                    Pair pair;
                    for (int v = 0; v < 2; v++) {
                        float value = sums[i][j][half * 2 + v] + (bias ? bias[first_out + o + v] : 0.0f);
                        store(&pair.values[v], relu && value < 0 ? 0.0f : value);
                    }
                    *(Pair *)(out + m * STEM_OUT_PITCH + o) = pair;
                }
            }
        }
        BARRIER();
        for (int i = t; i < STEM_WIDTH * STEM_FORWARD_ROWS * STEM_OUT / 8; i += STEM_THREADS) {
            int p = i / (STEM_OUT / 8);
            int c = i % (STEM_OUT / 8) * 8;
            int64_t at = tile.output(s, p);
            if (at >= 0) *(P *)(y + at * s.out_channels + first_out + c) = *(const P *)(out + p * STEM_OUT_PITCH + c);
        }
    }
})

// A thread's part of the gradients of a tile, zeros outside the image.
DEVICE void fetch_grads(const bf16 *dy, const ConvShape &s, const StemTile &tile, int first_out, Pack<bf16, 8> *in) {
    typedef Pack<bf16, 8> P;
    int t = threadIdx.x;
    UNROLL
    for (int i = 0; i < STEM_GRAD_LOADS; i++) {
        int64_t at = tile.output(s, (t + i * STEM_THREADS) / (STEM_OUT / 8));
        in[i] = *(const P *)(dy + (at < 0 ? 0 : at) * s.out_channels + first_out + t % (STEM_OUT / 8) * 8);
        for (int v = 0; v < 8; v++) in[i].values[v].bits = at < 0 ? (uint16_t)0 : in[i].values[v].bits;
    }
}

// The gradient of the weight: a block sums every so many tiles, for 64 output channels, into its piece of
// partial (pieces, O, Kh, Kw, I); a warp takes 16 output channels.
KERNEL_OF_BLOCKS(stem_weight_grad, STEM_THREADS, 3, (const bf16 *x, const bf16 *dy, ConvShape s, int tiles, float *partial), {
    const int POSITIONS = STEM_WIDTH * STEM_GRAD_ROWS;
    alignas(16) SHARED bf16 windows[STEM_WIDTH * STEM_GRAD_ROWS * STEM_PITCH];
    alignas(16) SHARED bf16 grads[STEM_WIDTH * STEM_GRAD_ROWS * STEM_OUT_PITCH];
    alignas(16) SHARED bf16 pixels[STEM_PIXELS];
    SHARED int offsets[STEM_STEPS * 2];
    typedef Pack<bf16, 8> P;
    typedef Pack<bf16, 2> Pair;
    StemPlan plan(s);
    fill_offsets(plan, offsets);
    int t = threadIdx.x;
    int warp = t / 32;
    int first_out = (int)blockIdx.y * STEM_OUT;
    float sums[STEM_STEPS][2][4] = {};
    StemPixels<STEM_GRAD_ROW_LOADS> next;
    P in[STEM_GRAD_LOADS];
    if ((int)blockIdx.x < tiles) {
        StemTile tile(s, blockIdx.x, STEM_GRAD_ROWS);
        next.fetch(x, s, tile, STEM_GRAD_ROWS);
        fetch_grads(dy, s, tile, first_out, in);
    }
    for (int n = blockIdx.x; n < tiles; n += gridDim.x) {
        next.put(s, plan, STEM_GRAD_ROWS, pixels);
        UNROLL
        for (int i = 0; i < STEM_GRAD_LOADS; i++) {
            *(P *)(grads + (t + i * STEM_THREADS) / (STEM_OUT / 8) * STEM_OUT_PITCH + t % (STEM_OUT / 8) * 8) = in[i];
        }
        BARRIER();
        if (n + (int)gridDim.x < tiles) {
            StemTile tile(s, n + gridDim.x, STEM_GRAD_ROWS);
            next.fetch(x, s, tile, STEM_GRAD_ROWS);
            fetch_grads(dy, s, tile, first_out, in);
        }
        // The windows, one a row: of every position half of the groups.
        int p = t % POSITIONS;
        const bf16 *window = pixels + p / STEM_WIDTH * s.stride_y * plan.pitch + p % STEM_WIDTH * plan.stride;
        UNROLL
        for (int i = 0; i < STEM_STEPS * 2 * POSITIONS / STEM_THREADS; i++) {
            int group = t / POSITIONS + i * (STEM_THREADS / POSITIONS);
            const bf16 *from = window + offsets[group];
            P out;
            for (int v = 0; v < 8; v += 2) *(Pair *)(out.values + v) = *(const Pair *)(from + v);
            *(P *)(windows + p * STEM_PITCH + group * 8) = out;
        }
        BARRIER();
        for (int k = 0; k < POSITIONS; k += 16) {
            Operand b = right_of_rows(grads + k * STEM_OUT_PITCH + warp * 16, STEM_OUT_PITCH);
            UNROLL
            for (int m = 0; m < STEM_STEPS; m++) {
                Operand a = left_of_columns(windows + k * STEM_PITCH + m * 16, STEM_PITCH);
                multiply(sums[m][0], a, b, 0);
                multiply(sums[m][1], a, b, 1);
            }
        }
        BARRIER();
    }
    int64_t len = (int64_t)s.kernel_y * plan.taps;
    float *to = partial + ((int64_t)blockIdx.x * s.out_channels + first_out) * len;
    UNROLL
    for (int m = 0; m < STEM_STEPS; m++) {
        for (int half = 0; half < 2; half++) {
            for (int v = 0; v < 4; v++) {
                int at = plan.weight(m * 16 + lane_of() / 4 + v / 2 * 8);
                int o = warp * 16 + half * 8 + lane_of() % 4 * 2 + v % 2;
                if (at >= 0) to[o * len + at] = sums[m][half][v];
            }
        }
    }
})
