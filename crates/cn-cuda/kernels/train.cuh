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

// A piece of one parameter tensor, for one block.
struct Chunk {
    uint32_t entry, start, len;
};

// Gradients in bf16 to f32, one block a chunk.
KERNEL(widen_chunks, (const Chunk *chunks, const bf16 *from, float *to), {
    Chunk chunk = chunks[blockIdx.x];
    UNROLL_4
    for (uint32_t j = threadIdx.x; j < chunk.len; j += blockDim.x) to[chunk.start + j] = load(from[chunk.start + j]);
})

// What one update of one tensor uses; `trained` 0 leaves it alone.
struct AdamRates {
    float keep, beta1, beta2, rest1, rest2, rate, unbias, eps;
    uint32_t trained;
};

// Adam with decoupled decay over one flat buffer (arXiv:1412.6980, arXiv:1711.05101), one block a chunk. Also leaves the
// bf16 copy that products read, if there is one.
KERNEL(adam, (const Chunk *chunks, const AdamRates *rates, const StepState *state, float *values, const float *grads, float *m, float *v, bf16 *copy), {
    Chunk chunk = chunks[blockIdx.x];
    AdamRates r = rates[chunk.entry];
    if (!r.trained || state->not_finite) return;
    for (uint32_t j = threadIdx.x; j < chunk.len; j += blockDim.x) {
        uint32_t i = chunk.start + j;
        float g = grads[i];
        float first = r.beta1 * m[i] + r.rest1 * g;
        float second = r.beta2 * v[i] + r.rest2 * (g * g);
        float value = values[i] * r.keep - r.rate * first / (sqrtf(second * r.unbias) + r.eps);
        m[i] = first;
        v[i] = second;
        values[i] = value;
        if (copy) store(copy + i, value);
    }
})
