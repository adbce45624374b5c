// What lets every kernel be compiled twice: by nvcc for the device, and by a C++ compiler for tests that emulate it.
//
// Kernels keep to a small part of CUDA: thread and block indices, static shared memory, one barrier. They use no
// atomics, no warp functions and no library, so that an emulation with loops is the same program.
#pragma once
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__

#define DEVICE static __device__ __forceinline__
#define MEMBER __device__ __forceinline__
#define GLOBAL __global__ void
#define SHARED __shared__
#define BARRIER() __syncthreads()
#define BOUNDS(THREADS, BLOCKS) __launch_bounds__(THREADS, BLOCKS)
#define ENTRY(NAME, USES_BARRIER)

// Sums and products that no compiler may fuse: their bits are those of the CPU.
DEVICE double exact_add(double a, double b) { return __dadd_rn(a, b); }
DEVICE double exact_mul(double a, double b) { return __dmul_rn(a, b); }
DEVICE double exact_div(double a, double b) { return __ddiv_rn(a, b); }
// One rounding, whatever a compiler does with products and sums elsewhere.
DEVICE float fused(float a, float b, float c) { return __fmaf_rn(a, b, c); }
DEVICE uint32_t bits_of(float x) { return __float_as_uint(x); }
DEVICE float from_bits(uint32_t x) { return __uint_as_float(x); }
// Several loads in flight before the first is needed.
#define UNROLL_4 _Pragma("unroll 4")
// Arrays that such loops index stay in registers.
#define UNROLL _Pragma("unroll")

#else

#include <stddef.h>
#include <string.h>
#define DEVICE static inline
#define MEMBER inline
#define GLOBAL void
#define SHARED static
#define BARRIER() emulated_barrier()
#define BOUNDS(THREADS, BLOCKS)

struct Index {
    unsigned x, y, z;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;
void emulated_barrier();

// Unpacks an array of pointers to arguments, as the driver does.
template <size_t... I>
struct Indices_ {};
template <size_t N, size_t... I>
struct MakeIndices : MakeIndices<N - 1, N - 1, I...> {};
template <size_t... I>
struct MakeIndices<0, I...> {
    typedef Indices_<I...> type;
};
template <class... A>
struct Caller {
    void (*kernel)(A...);
    template <size_t... I>
    void run(void **args, Indices_<I...>) {
        kernel(*(A *)args[I]...);
    }
};
template <class... A>
void call(void (*kernel)(A...), void **args) {
    Caller<A...>{kernel}.run(args, typename MakeIndices<sizeof...(A)>::type());
}
template <class... A>
int count_of(void (*)(A...)) {
    return sizeof...(A);
}
int register_kernel(const char *name, void (*call)(void **), int n_args, bool uses_barrier);

#define ENTRY(NAME, USES_BARRIER)                                      \
    static void call_##NAME(void **args) { call(NAME, args); }         \
    static int entry_##NAME = register_kernel(#NAME, call_##NAME, count_of(NAME), USES_BARRIER);

DEVICE double exact_add(double a, double b) { return a + b; }
DEVICE double exact_mul(double a, double b) { return a * b; }
DEVICE double exact_div(double a, double b) { return a / b; }
DEVICE float fused(float a, float b, float c) { return fmaf(a, b, c); }
#define UNROLL_4
#define UNROLL
DEVICE uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
DEVICE float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

#endif

// A kernel: KERNEL(name, (parameters), { body }); KERNEL_WITH_BARRIER if any thread waits for others.
#define KERNEL(NAME, PARAMETERS, ...)           \
    extern "C" GLOBAL NAME PARAMETERS __VA_ARGS__ \
    ENTRY(NAME, false)
#define KERNEL_WITH_BARRIER(NAME, PARAMETERS, ...) \
    extern "C" GLOBAL NAME PARAMETERS __VA_ARGS__    \
    ENTRY(NAME, true)

// The same, compiled so that so many blocks of so many threads fit a multiprocessor.
#define KERNEL_OF_BLOCKS(NAME, THREADS, BLOCKS, PARAMETERS, ...)       \
    extern "C" GLOBAL BOUNDS(THREADS, BLOCKS) NAME PARAMETERS __VA_ARGS__ \
    ENTRY(NAME, true)

// The same kernel for `T` = float and bf16, as name_f32 and name_bf16.
#define KERNELS(NAME, PARAMETERS, ...)                            \
    namespace NAME##_of_f32 {                                     \
    typedef float T;                                              \
    KERNEL(NAME##_f32, PARAMETERS, __VA_ARGS__)                   \
    }                                                             \
    namespace NAME##_of_bf16 {                                    \
    typedef bf16 T;                                               \
    KERNEL(NAME##_bf16, PARAMETERS, __VA_ARGS__)                  \
    }
#define KERNELS_WITH_BARRIER(NAME, PARAMETERS, ...)               \
    namespace NAME##_of_f32 {                                     \
    typedef float T;                                              \
    KERNEL_WITH_BARRIER(NAME##_f32, PARAMETERS, __VA_ARGS__)      \
    }                                                             \
    namespace NAME##_of_bf16 {                                    \
    typedef bf16 T;                                               \
    KERNEL_WITH_BARRIER(NAME##_bf16, PARAMETERS, __VA_ARGS__)     \
    }
#define KERNELS_OF_BLOCKS(NAME, THREADS, BLOCKS, PARAMETERS, ...)             \
    namespace NAME##_of_f32 {                                                 \
    typedef float T;                                                          \
    KERNEL_OF_BLOCKS(NAME##_f32, THREADS, BLOCKS, PARAMETERS, __VA_ARGS__)    \
    }                                                                         \
    namespace NAME##_of_bf16 {                                                \
    typedef bf16 T;                                                           \
    KERNEL_OF_BLOCKS(NAME##_bf16, THREADS, BLOCKS, PARAMETERS, __VA_ARGS__)   \
    }

// bfloat16: the upper half of a float.
struct bf16 {
    uint16_t bits;
};

DEVICE float load(float x) { return x; }
DEVICE float load(bf16 x) { return from_bits((uint32_t)x.bits << 16); }

DEVICE void store(float *to, float x) { *to = x; }
// Rounds to nearest, ties to even; NaN stays NaN.
DEVICE void store(bf16 *to, float x) {
#ifdef __CUDACC__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to->bits) : "f"(x));
#else
    uint32_t bits = bits_of(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        to->bits = (uint16_t)((bits >> 16) | 0x40u);
    } else {
        to->bits = (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
    }
#endif
}

// `N` neighbours that one instruction moves.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
    T values[N];
};

// Elements of 16 bytes, the most that one instruction moves. Kernels take `wide`: whether channels and addresses allow it.
#define WIDE ((int)(16 / sizeof(T)))

// Position of this thread in the whole grid, and the step to its next piece of work.
DEVICE int64_t first_item() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }
DEVICE int64_t item_step() { return (int64_t)gridDim.x * blockDim.x; }
