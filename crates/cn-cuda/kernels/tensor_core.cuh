// Products of small bf16 matrices on tensor cores: 16 x 16 by 16 x 8, sums in f32, of one warp each.
//
// On the device, operands are what the instruction wants in the registers of each lane; in the emulation they remember
// where they lie, and each lane multiplies out its own four results from there.
#pragma once
#include "portable.cuh"

// The left operand (M = 16, K = 16), or the right one (N = 16, K = 16), of which each half is 8 columns.
struct Operand {
#ifdef __CUDACC__
    uint32_t registers[4];
#else
    // Element (i, k) lies at `at[i * outer + (k < 8 ? first : second) + k % 8 * inner]`.
    const bf16 *at;
    int outer, inner, first, second;
    float get(int i, int k) const { return load(at[i * outer + (k < 8 ? first : second) + k % 8 * inner]); }
#endif
};

DEVICE int lane_of() { return (int)(threadIdx.x % 32); }

#ifdef __CUDACC__
DEVICE uint32_t pair_at(const bf16 *at) { return *(const uint32_t *)at; }
DEVICE void load_transposed(uint32_t *r, const bf16 *at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(at))
                 : "memory");
}
DEVICE void load_rows(uint32_t *r, const bf16 *at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(at))
                 : "memory");
}
#endif

// A left operand in shared memory, row after row of `pitch` elements; a row's first 8 elements begin at `first`, its last 8
// at `second`. Pitch and offsets are even.
DEVICE Operand left_of_rows(const bf16 *at, int pitch, int first, int second) {
#ifdef __CUDACC__
    const bf16 *own = at + lane_of() / 4 * pitch + lane_of() % 4 * 2;
    return {{pair_at(own + first), pair_at(own + 8 * pitch + first), pair_at(own + second), pair_at(own + 8 * pitch + second)}};
#else
    return {at, pitch, 1, first, second};
#endif
}

// A right operand, column after column of `pitch` elements, each at a multiple of 16 bytes.
DEVICE Operand right_of_columns(const bf16 *at, int pitch) {
#ifdef __CUDACC__
    Operand operand;
    int matrix = lane_of() / 8, column = lane_of() % 8;
    load_rows(operand.registers, at + (matrix / 2 * 8 + column) * pitch + matrix % 2 * 8);
    return operand;
#else
    return {at, pitch, 1, 0, 8};
#endif
}

// A left operand that lies as K rows of M elements, each row at a multiple of 16 bytes.
DEVICE Operand left_of_columns(const bf16 *at, int pitch) {
#ifdef __CUDACC__
    Operand operand;
    int matrix = lane_of() / 8, row = lane_of() % 8;
    load_transposed(operand.registers, at + (matrix / 2 * 8 + row) * pitch + matrix % 2 * 8);
    return operand;
#else
    return {at, 1, pitch, 0, 8 * pitch};
#endif
}

// A right operand that lies as K rows of N elements, each row at a multiple of 16 bytes.
DEVICE Operand right_of_rows(const bf16 *at, int pitch) {
#ifdef __CUDACC__
    Operand operand;
    int matrix = lane_of() / 8, row = lane_of() % 8;
    load_transposed(operand.registers, at + (matrix % 2 * 8 + row) * pitch + matrix / 2 * 8);
    return operand;
#else
    return {at, 1, pitch, 0, 8 * pitch};
#endif
}

// Adds the product of `a` and half `half` of `b` to the four sums of each lane: rows lane / 4 and that plus 8, columns
// lane % 4 * 2 and the next.
DEVICE void multiply(float *sums, const Operand &a, const Operand &b, int half) {
#ifdef __CUDACC__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a.registers[0]), "r"(a.registers[1]), "r"(a.registers[2]), "r"(a.registers[3]),
          "r"(b.registers[half * 2]), "r"(b.registers[half * 2 + 1]));
#else
    for (int i = 0; i < 4; i++) {
        int m = lane_of() / 4 + i / 2 * 8, n = half * 8 + lane_of() % 4 * 2 + i % 2;
        float sum = 0;
        for (int k = 0; k < 16; k++) sum += a.get(m, k) * b.get(n, k);
        sums[i] += sum;
    }
#endif
}
