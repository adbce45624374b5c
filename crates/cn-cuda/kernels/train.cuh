// Losses, dropout, the optimizer's step, and what lies between layers.
#pragma once
#include "portable.cuh"

// What changes from step to step; kernels read it from memory, so that a captured graph of launches stays valid.
struct StepState {
    uint32_t seed[2];
    uint32_t epoch;
    // Set where a number of this step was NaN or infinite: then the optimizer does nothing.
    uint32_t not_finite;
};

// One block of Philox4x32-10 (Salmon et al. 2011), as cn-random's.
DEVICE void philox(uint32_t *words, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * words[0], b = (uint64_t)0xCD9E8D57u * words[2];
        uint32_t w1 = words[1], w3 = words[3];
        words[0] = (uint32_t)(b >> 32) ^ w1 ^ key0;
        words[1] = (uint32_t)b;
        words[2] = (uint32_t)(a >> 32) ^ w3 ^ key1;
        words[3] = (uint32_t)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

// Multiplies each of `row_len` elements of image b by 0 or `scale`: word i of the stream (seed, epoch, ids[b], purpose)
// decides about element i. The backward pass is the same kernel.
KERNELS(dropout, (const T *x, const uint32_t *ids, const StepState *state, uint32_t purpose, uint32_t threshold, float scale, int64_t row_len, int64_t n_blocks, T *y), {
    int64_t blocks_of_row = (row_len + 3) / 4;
    for (int64_t i = first_item(); i < n_blocks; i += item_step()) {
        int64_t b = i / blocks_of_row;
        int64_t block = i % blocks_of_row;
        uint32_t words[4] = {(uint32_t)block, purpose, ids[b], state->epoch};
        philox(words, state->seed[0], state->seed[1]);
        for (int j = 0; j < 4 && block * 4 + j < row_len; j++) {
            int64_t at = b * row_len + block * 4 + j;
            store(y + at, load(x[at]) * (words[j] < threshold ? 0.0f : scale));
        }
    }
})

KERNELS(relu, (const T *x, int64_t n, T *y), {
    for (int64_t i = first_item(); i < n; i += item_step()) {
        float value = load(x[i]);
        store(y + i, value < 0 ? 0.0f : value);
    }
})

KERNELS(relu_grad, (const T *y, const T *dy, int64_t n, T *dx), {
    for (int64_t i = first_item(); i < n; i += item_step()) store(dx + i, load(y[i]) <= 0 ? 0.0f : load(dy[i]));
})

KERNELS(add, (const T *x, int64_t n, T *sum), {
    for (int64_t i = first_item(); i < n; i += item_step()) store(sum + i, load(sum[i]) + load(x[i]));
})

// Adds a value a channel.
KERNELS(add_bias, (const float *bias, int channels, int64_t n, T *y), {
    for (int64_t i = first_item(); i < n; i += item_step()) store(y + i, load(y[i]) + bias[i % channels]);
})

KERNEL(widen, (const bf16 *from, int64_t n, float *to), {
    for (int64_t i = first_item(); i < n; i += item_step()) to[i] = load(from[i]);
})

KERNEL(narrow, (const float *from, int64_t n, bf16 *to), {
    for (int64_t i = first_item(); i < n; i += item_step()) store(to + i, from[i]);
})

#define LOSS_THREADS 256

// Adds up one number of each thread, in order.
DEVICE double sum_of_threads(double value, double *shared) {
    shared[threadIdx.x] = value;
    BARRIER();
    double sum = 0;
    if (threadIdx.x == 0) {
        for (int i = 0; i < LOSS_THREADS; i++) sum += shared[i];
    }
    BARRIER();
    return sum;
}

// Mean binary cross-entropy of the sigmoids over n logits, and its gradient; one block. In f64 as on the CPU: these are
// a few thousand numbers.
KERNEL_WITH_BARRIER(bce_loss, (const float *logits, const float *targets, int n, float *loss, float *d_logits), {
    SHARED double shared[LOSS_THREADS];
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += LOSS_THREADS) {
        double x = logits[i];
        double t = targets[i];
        double e = exp(-fabs(x));
        sum += (x > 0 ? x : (x == x ? 0 : x)) - x * t + log1p(e);
        double sigmoid = x >= 0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
        d_logits[i] = (float)((sigmoid - t) / n);
    }
    double total = sum_of_threads(sum, shared);
    if (threadIdx.x == 0) *loss = (float)(total / n);
})

// Mean cross-entropy of the softmax over the rows; `smoothing` of each target is spread over all classes.
KERNEL_WITH_BARRIER(softmax_loss, (const float *logits, const float *targets, int rows, int classes, double smoothing, float *loss, float *d_logits), {
    SHARED double shared[LOSS_THREADS];
    double sum = 0;
    for (int r = threadIdx.x; r < rows; r += LOSS_THREADS) {
        const float *x = logits + (int64_t)r * classes;
        const float *t = targets + (int64_t)r * classes;
        double most = x[0];
        double total = 0;
        double mass = 0;
        for (int k = 1; k < classes; k++) most = x[k] > most ? x[k] : most;
        for (int k = 0; k < classes; k++) total += exp(x[k] - most);
        for (int k = 0; k < classes; k++) mass += (float)(t[k] * (1.0 - smoothing) + smoothing / classes);
        for (int k = 0; k < classes; k++) {
            double target = (float)(t[k] * (1.0 - smoothing) + smoothing / classes);
            double at = x[k] - most;
            sum += target * (log(total) - at);
            d_logits[(int64_t)r * classes + k] = (float)((exp(at) / total * mass - target) / rows);
        }
    }
    double total = sum_of_threads(sum, shared);
    if (threadIdx.x == 0) *loss = (float)(total / rows);
})

// Notes in the state whether one of n numbers is NaN or infinite. Who finds one writes the same number, so no order
// matters.
KERNEL(find_not_finite, (const float *x, int64_t n, int wide_part, StepState *state), {
    typedef Pack<float, 4> P;
    bool bad = false;
    int64_t wide = wide_part ? n / 4 : 0;
    UNROLL_4
    for (int64_t i = first_item(); i < wide; i += item_step()) {
        P in = ((const P *)x)[i];
        for (int v = 0; v < 4; v++) bad |= !(fabsf(in.values[v]) <= 3.402823466e38f);
    }
    for (int64_t i = wide * 4 + first_item(); i < n; i += item_step()) bad |= !(fabsf(x[i]) <= 3.402823466e38f);
    if (bad) state->not_finite = 1;
})

// A piece of one parameter tensor, for one block; its gradient may lie in bf16.
struct Chunk {
    uint32_t entry, start, len, is_narrow;
};

// Gradients in bf16 to f32, one block a chunk.
KERNEL(widen_chunks, (const Chunk *chunks, const bf16 *from, float *to), {
    Chunk chunk = chunks[blockIdx.x];
    UNROLL_4
    for (uint32_t j = threadIdx.x; j < chunk.len; j += blockDim.x) to[chunk.start + j] = load(from[chunk.start + j]);
})

// N neighbours of the gradients of a chunk.
template <int N>
DEVICE void grads_at(const Chunk &chunk, uint32_t i, const float *grads, const bf16 *narrow, float *g) {
    if (chunk.is_narrow) {
        Pack<bf16, N> in = *(const Pack<bf16, N> *)(narrow + i);
        for (int n = 0; n < N; n++) g[n] = load(in.values[n]);
    } else {
        Pack<float, N> in = *(const Pack<float, N> *)(grads + i);
        for (int n = 0; n < N; n++) g[n] = in.values[n];
    }
}

// As find_not_finite, of the gradients of all chunks.
KERNEL(find_not_finite_chunks, (const Chunk *chunks, const float *grads, const bf16 *narrow, StepState *state), {
    Chunk chunk = chunks[blockIdx.x];
    uint32_t wide = chunk.start % 4 ? 0 : chunk.len / 4;
    bool bad = false;
    float g[4];
    UNROLL_4
    for (uint32_t j = threadIdx.x; j < wide; j += blockDim.x) {
        grads_at<4>(chunk, chunk.start + j * 4, grads, narrow, g);
        for (int n = 0; n < 4; n++) bad |= !(fabsf(g[n]) <= 3.402823466e38f);
    }
    for (uint32_t j = wide * 4 + threadIdx.x; j < chunk.len; j += blockDim.x) {
        grads_at<1>(chunk, chunk.start + j, grads, narrow, g);
        bad |= !(fabsf(g[0]) <= 3.402823466e38f);
    }
    if (bad) state->not_finite = 1;
})

// What one update of one tensor uses; `trained` 0 leaves it alone.
struct AdamRates {
    float keep, beta1, beta2, rest1, rest2, rate, unbias, eps;
    uint32_t trained;
};

// What Adam reads and writes; `copy` may be null.
struct AdamBuffers {
    float *values, *m, *v;
    const float *grads;
    const bf16 *narrow;
    bf16 *copy;
};

template <int N>
DEVICE void update(const Chunk &chunk, const AdamRates &r, const AdamBuffers &b, uint32_t i) {
    typedef Pack<float, N> P;
    float g[N];
    grads_at<N>(chunk, i, b.grads, b.narrow, g);
    P value = *(const P *)(b.values + i), first = *(const P *)(b.m + i), second = *(const P *)(b.v + i);
    Pack<bf16, N> copy;
    for (int n = 0; n < N; n++) {
        first.values[n] = r.beta1 * first.values[n] + r.rest1 * g[n];
        second.values[n] = r.beta2 * second.values[n] + r.rest2 * (g[n] * g[n]);
        value.values[n] = value.values[n] * r.keep - r.rate * first.values[n] / (sqrtf(second.values[n] * r.unbias) + r.eps);
        store(&copy.values[n], value.values[n]);
    }
    *(P *)(b.m + i) = first;
    *(P *)(b.v + i) = second;
    *(P *)(b.values + i) = value;
    if (b.copy) *(Pack<bf16, N> *)(b.copy + i) = copy;
}

// Adam with decoupled decay over one flat buffer (arXiv:1412.6980, arXiv:1711.05101), one block a chunk. Also leaves the
// bf16 copy that products read, if there is one.
KERNEL(adam, (const Chunk *chunks, const AdamRates *rates, const StepState *state, AdamBuffers buffers), {
    Chunk chunk = chunks[blockIdx.x];
    AdamRates r = rates[chunk.entry];
    if (!r.trained || state->not_finite) return;
    uint32_t wide = chunk.start % 4 ? 0 : chunk.len / 4;
    for (uint32_t j = threadIdx.x; j < wide; j += blockDim.x) update<4>(chunk, r, buffers, chunk.start + j * 4);
    for (uint32_t j = wide * 4 + threadIdx.x; j < chunk.len; j += blockDim.x) update<1>(chunk, r, buffers, chunk.start + j);
})
