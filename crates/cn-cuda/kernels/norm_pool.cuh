// A norm with its activation and the max pool behind it in one pass: what lies between is written nowhere.
//
// Where the largest value of a window is what the rectifier has cut, nothing has won it: so the backward pass needs no mask.
#pragma once
#include "norm.cuh"
#include "pool.cuh"

// The place in a window that nothing has.
#define NO_WINNER 255

// An input as the norm would write it, rounded to its type.
template <class T, int V>
struct NormedInput {
    float scale[V], shift[V];
    int relu;
    MEMBER NormedInput(const float *saved, int channels, int c, int relu) : relu(relu) {
        load_channels<V>(scale, saved + 2 * channels + c);
        load_channels<V>(shift, saved + 3 * channels + c);
    }
    MEMBER float get(const Pack<T, V> &in, int v) const {
        float value = fused(scale[v], load(in.values[v]), shift[v]);
        T rounded;
        store(&rounded, relu && value < 0 ? 0.0f : value);
        return load(rounded);
    }
    MEMBER int winner(float best, int tap) const { return relu && best <= 0 ? NO_WINNER : tap; }
};

// Windows of 3 x 3 in steps of 2 with a margin of 1 over images of even sides: they have a path of their own, in which all
// loads of a thread are on their way at once.
DEVICE bool is_halving(const PoolShape &s) {
    return s.kernel_y == 3 && s.kernel_x == 3 && s.stride_y == 2 && s.stride_x == 2 && s.padding_y == 1 && s.padding_x == 1 &&
           s.height % 2 == 0 && s.width % 2 == 0;
}

// A rectified value as bf16 above the place where it was seen, counted from behind: of two such keys the larger one is
// that of the larger value, and of equal ones that of the first.
DEVICE uint32_t key_of(float value, int tap) {
#ifdef __CUDACC__
    uint32_t key;
    asm("{\n .reg .f32 v;\n .reg .b16 h, l;\n max.NaN.f32 v, %1, 0f00000000;\n cvt.rn.bf16.f32 h, v;\n cvt.u16.u32 l, %2;\n mov.b32 %0, {l, h};\n}"
        : "=r"(key)
        : "f"(value), "r"((uint32_t)(NO_WINNER - tap)));
    return key;
#else
    bf16 rounded;
    store(&rounded, value > 0 || value != value ? value : 0.0f);
    return ((uint32_t)rounded.bits << 16) | (uint32_t)(NO_WINNER - tap);
#endif
}

// Output `at` of a halving pool behind a rectified norm, of V channels of bf16. Beyond the edge there is nothing to win, as
// where the rectifier cuts: so the nearest pixel stands in with a scale and shift of 0.
template <int V>
DEVICE void halving_window(const bf16 *x, const NormedInput<bf16, V> &input, const PoolShape &s, uint32_t lane, uint32_t at, bf16 *y, uint8_t *winners) {
    typedef Pack<bf16, V> P;
    typedef Pack<uint8_t, V> Winners;
    uint32_t lanes = s.channels / V;
    uint32_t ox = at % s.out_width, row = at / s.out_width, oy = row % s.out_height;
    const P *centre = (const P *)x + ((row * 2) * s.width + ox * 2) * lanes + lane;
    int64_t up = oy ? -(int64_t)s.width * lanes : 0, left = ox ? -(int64_t)lanes : 0;
    P in[9];
    UNROLL
    for (int tap = 0; tap < 9; tap++) {
        int64_t down = tap / 3 == 0 ? up : (tap / 3 == 1 ? 0 : (int64_t)s.width * lanes);
        int64_t right = tap % 3 == 0 ? left : (tap % 3 == 1 ? 0 : (int64_t)lanes);
        in[tap] = centre[down + right];
    }
    P out;
    Winners places;
    UNROLL
    for (int v = 0; v < V; v++) {
        uint32_t best = 0;
        UNROLL
        for (int tap = 0; tap < 9; tap++) {
            float value = fused(input.scale[v], load(in[tap].values[v]), input.shift[v]);
            bool inside = (tap / 3 != 0 || oy) && (tap % 3 != 0 || ox);
            uint32_t key = inside ? key_of(value, tap) : 0;
            best = key > best ? key : best;
        }
        out.values[v].bits = (uint16_t)(best >> 16);
        places.values[v] = (uint8_t)(best >> 16 ? NO_WINNER - (best & 0xFF) : NO_WINNER);
    }
    ((P *)y)[at * lanes + lane] = out;
    ((Winners *)winners)[at * lanes + lane] = places;
}

// Only rectified bf16 has such keys.
template <int V>
DEVICE bool halved(const bf16 *x, const NormedInput<bf16, V> &input, const PoolShape &s, uint32_t lane, uint32_t at, bf16 *y, uint8_t *winners) {
    if (V == 1 || !input.relu || !is_halving(s)) return false;
    halving_window<V>(x, input, s, lane, at, y, winners);
    return true;
}
template <int V>
DEVICE bool halved(const float *, const NormedInput<float, V> &, const PoolShape &, uint32_t, uint32_t, float *, uint8_t *) {
    return false;
}

// The grid makes whole rows of channels, so that each thread keeps its own.
template <class T, int V>
DEVICE void norm_max_pool(const T *x, const float *saved, const PoolShape &s, int relu, T *y, uint8_t *winners) {
    uint32_t lanes = s.channels / V, lane = (uint32_t)first_item() % lanes, step = (uint32_t)item_step() / lanes;
    NormedInput<T, V> input(saved, s.channels, lane * V, relu);
    uint32_t n = (uint32_t)(s.batch * s.out_height * s.out_width);
    for (uint32_t at = (uint32_t)first_item() / lanes; at < n; at += step) {
        if (!halved<V>(x, input, s, lane, at, y, winners)) pool_window<T, V>(x, input, s, lane, at, y, winners);
    }
}

KERNELS(norm_max_pool, (const T *x, const float *saved, PoolShape s, int relu, int wide, T *y, uint8_t *winners), {
    if (wide) {
        norm_max_pool<T, WIDE>(x, saved, s, relu, y, winners);
    } else {
        norm_max_pool<T, 1>(x, saved, s, relu, y, winners);
    }
})

// The gradient of the norm's output, gathered from the windows that it won; one pixel.
template <class T, int V>
struct PooledPixel {
    static const int N = 1;
    typedef Pack<T, V> P;
    const T *x, *dy;
    const uint8_t *winners;
    PoolShape s;
    MEMBER uint32_t count() const { return (uint32_t)(s.batch * s.height * s.width); }
    MEMBER uint32_t place(uint32_t n, int) const { return n * (s.channels / V); }
    MEMBER void get(uint32_t n, uint32_t lane, P *in, float (*g)[V]) const {
        in[0] = ((const P *)x)[place(n, 0) + lane];
        pool_gather<T, V>(dy, winners, s, lane, n, g[0]);
    }
};

// The same of a halving pool: four pixels, and the four windows that they can have won.
template <class T, int V>
struct PooledPatch {
    static const int N = 4;
    typedef Pack<T, V> P;
    typedef Pack<uint8_t, V> Winners;
    const T *x, *dy;
    const uint8_t *winners;
    PoolShape s;
    MEMBER uint32_t count() const { return (uint32_t)(s.batch * s.out_height * s.out_width); }
    MEMBER uint32_t place(uint32_t n, int pixel) const {
        uint32_t column = n % s.out_width, row = n / s.out_width;
        return ((row * 2 + pixel / 2) * s.width + column * 2 + pixel % 2) * (s.channels / V);
    }
    MEMBER void get(uint32_t n, uint32_t lane, P *in, float (*g)[V]) const {
        uint32_t lanes = s.channels / V, right = n % s.out_width + 1 < (uint32_t)s.out_width ? 1 : 0;
        uint32_t down = n / s.out_width % s.out_height + 1 < (uint32_t)s.out_height ? s.out_width : 0;
        P grads[4];
        Winners places[4];
        UNROLL
        for (int w = 0; w < 4; w++) {
            uint32_t at = (n + (w / 2) * down + (w % 2) * right) * lanes + lane;
            grads[w] = ((const P *)dy)[at];
            places[w] = ((const Winners *)winners)[at];
        }
        UNROLL
        for (int pixel = 0; pixel < 4; pixel++) in[pixel] = ((const P *)x)[place(n, pixel) + lane];
        UNROLL
        for (int v = 0; v < V; v++) {
            float value[4];
            int tap[4];
            for (int w = 0; w < 4; w++) {
                bool there = (w / 2 == 0 || down) && (w % 2 == 0 || right);
                value[w] = load(grads[w].values[v]);
                tap[w] = there ? places[w].values[v] : NO_WINNER;
            }
            // Windows in order, as they are gathered elsewhere.
            g[0][v] = tap[0] == 4 ? value[0] : 0.0f;
            g[1][v] = (tap[0] == 5 ? value[0] : 0.0f) + (tap[1] == 3 ? value[1] : 0.0f);
            g[2][v] = (tap[0] == 7 ? value[0] : 0.0f) + (tap[2] == 1 ? value[2] : 0.0f);
            g[3][v] = (((tap[0] == 8 ? value[0] : 0.0f) + (tap[1] == 6 ? value[1] : 0.0f)) + (tap[2] == 2 ? value[2] : 0.0f)) +
                      (tap[3] == 0 ? value[3] : 0.0f);
        }
    }
};

// As norm_grad_sums; pieces are of equal numbers of pixels or patches.
template <class T, int V, class Pooled>
DEVICE void norm_pool_grad_sums(const Pooled &pooled, const float *saved, float *partial) {
    int channels = pooled.s.channels, c = (blockIdx.x * NORM_LANES + threadIdx.x) * V;
    uint32_t n = pooled.count(), piece = (n + gridDim.y - 1) / gridDim.y, begin = blockIdx.y * piece;
    uint32_t end = begin + piece < n ? begin + piece : n;
    float g_sum[V], gx_sum[V], mean[V];
    for (int v = 0; v < V; v++) g_sum[v] = gx_sum[v] = 0;
    if (c < channels) {
        load_channels<V>(mean, saved + c);
        for (uint32_t i = begin + threadIdx.y; i < end; i += NORM_ROWS) {
            Pack<T, V> in[Pooled::N];
            float g[Pooled::N][V];
            pooled.get(i, c / V, in, g);
            UNROLL
            for (int pixel = 0; pixel < Pooled::N; pixel++) {
                for (int v = 0; v < V; v++) {
                    g_sum[v] += g[pixel][v];
                    gx_sum[v] = fused(g[pixel][v], load(in[pixel].values[v]) - mean[v], gx_sum[v]);
                }
            }
        }
    }
    leave_sums<V>(g_sum, gx_sum, channels, partial);
}

KERNELS_WITH_BARRIER(norm_pool_grad_sums, (const T *x, const T *dy, const uint8_t *winners, PoolShape s, const float *saved, int wide, float *partial), {
    if (!wide) {
        norm_pool_grad_sums<T, 1>(PooledPixel<T, 1>{x, dy, winners, s}, saved, partial);
    } else if (is_halving(s)) {
        norm_pool_grad_sums<T, WIDE>(PooledPatch<T, WIDE>{x, dy, winners, s}, saved, partial);
    } else {
        norm_pool_grad_sums<T, WIDE>(PooledPixel<T, WIDE>{x, dy, winners, s}, saved, partial);
    }
})

// As norm_grad_apply.
template <class T, int V, class Pooled>
DEVICE void norm_pool_grad_apply(const Pooled &pooled, const float *factors, T *dx) {
    uint32_t lanes = pooled.s.channels / V, step = (uint32_t)item_step() / lanes;
    int c = own_channel(pooled.s.channels, V);
    float a[V], b[V], shift[V];
    load_channels<V>(a, factors + c);
    load_channels<V>(b, factors + pooled.s.channels + c);
    load_channels<V>(shift, factors + 2 * pooled.s.channels + c);
    for (int64_t i = (int64_t)pooled.count() - 1 - (uint32_t)first_item() / lanes; i >= 0; i -= step) {
        Pack<T, V> in[Pooled::N];
        float g[Pooled::N][V];
        pooled.get((uint32_t)i, c / V, in, g);
        UNROLL
        for (int pixel = 0; pixel < Pooled::N; pixel++) {
            Pack<T, V> out;
            for (int v = 0; v < V; v++) {
                store(&out.values[v], fused(a[v], g[pixel][v], fused(b[v], load(in[pixel].values[v]), shift[v])));
            }
            ((Pack<T, V> *)dx)[pooled.place((uint32_t)i, pixel) + c / V] = out;
        }
    }
}

KERNELS(norm_pool_grad_apply, (const T *x, const T *dy, const uint8_t *winners, PoolShape s, const float *factors, int wide, T *dx), {
    if (!wide) {
        norm_pool_grad_apply<T, 1>(PooledPixel<T, 1>{x, dy, winners, s}, factors, dx);
    } else if (is_halving(s)) {
        norm_pool_grad_apply<T, WIDE>(PooledPatch<T, WIDE>{x, dy, winners, s}, factors, dx);
    } else {
        norm_pool_grad_apply<T, WIDE>(PooledPixel<T, WIDE>{x, dy, winners, s}, factors, dx);
    }
})
