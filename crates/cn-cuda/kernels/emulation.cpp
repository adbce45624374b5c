// Runs the kernels on a CPU, for tests: a block after the other, and the threads of a block as fibers that take turns at
// each barrier. Compiled by a C++ compiler at test time; not part of any program.
#include "kernels.cu"
#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>

Index threadIdx, blockIdx, blockDim, gridDim;

namespace {

struct Kernel {
    const char *name;
    void (*call)(void **);
    int n_args;
    bool uses_barrier;
};

Kernel *kernels() {
    static Kernel list[256];
    return list;
}
int n_kernels = 0;

const int MAX_THREADS = 1024;
const size_t STACK = 64 * 1024;

// A fiber begins by its context and goes on by its jump: a jump asks the kernel for nothing, and there are millions.
struct Fiber {
    ucontext_t context;
    jmp_buf waiting;
    Index at;
    bool begun, done;
};

Fiber fibers[MAX_THREADS];
char *stacks = nullptr;
jmp_buf scheduler;
int current = -1;
const Kernel *running = nullptr;
void **arguments = nullptr;

void fiber_main() {
    running->call(arguments);
    fibers[current].done = true;
    _longjmp(scheduler, 1);
}

// Lets a fiber run up to its next barrier or its end.
void go_on(Fiber &f) {
    if (_setjmp(scheduler) != 0) return;
    if (f.begun) _longjmp(f.waiting, 1);
    f.begun = true;
    setcontext(&f.context);
}

// Returns false if some threads of the block ended while others wait: on a device they would wait for ever.
bool run_block(int n_threads) {
    for (int i = 0; i < n_threads; i++) {
        Fiber &f = fibers[i];
        unsigned u = i;
        f.at = {u % blockDim.x, u / blockDim.x % blockDim.y, u / blockDim.x / blockDim.y};
        f.begun = f.done = false;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = stacks + i * STACK;
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, fiber_main, 0);
    }
    for (;;) {
        int n_done = 0;
        for (int i = 0; i < n_threads; i++) {
            current = i;
            threadIdx = fibers[i].at;
            go_on(fibers[i]);
            n_done += fibers[i].done;
        }
        current = -1;
        if (n_done == n_threads) return true;
        if (n_done != 0) return false;
    }
}

}  // namespace

int register_kernel(const char *name, void (*call)(void **), int n_args, bool uses_barrier) {
    kernels()[n_kernels] = {name, call, n_args, uses_barrier};
    return n_kernels++;
}

void emulated_barrier() {
    // A barrier in a kernel that is not declared to have one.
    if (current < 0) abort();
    if (_setjmp(fibers[current].waiting) == 0) _longjmp(scheduler, 1);
}

// 0 done, 1 no such kernel, 2 wrong number of arguments, 3 some threads missed a barrier, 4 impossible geometry.
extern "C" int emulate(const char *name, const unsigned *grid, const unsigned *block, void **args, int n_args) {
    const Kernel *found = nullptr;
    for (int i = 0; i < n_kernels; i++) {
        if (strcmp(kernels()[i].name, name) == 0) found = &kernels()[i];
    }
    if (!found) return 1;
    if (found->n_args != n_args) return 2;
    unsigned n_threads = block[0] * block[1] * block[2];
    if (n_threads == 0 || n_threads > MAX_THREADS || grid[0] == 0 || grid[1] == 0 || grid[2] == 0) return 4;
    if (grid[1] > 65535 || grid[2] > 65535) return 4;
    if (!stacks) stacks = (char *)malloc(MAX_THREADS * STACK);
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    running = found;
    arguments = args;
    for (unsigned z = 0; z < grid[2]; z++) {
        for (unsigned y = 0; y < grid[1]; y++) {
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                if (found->uses_barrier) {
                    if (!run_block((int)n_threads)) return 3;
                    continue;
                }
                for (unsigned t = 0; t < n_threads; t++) {
                    threadIdx = {t % block[0], t / block[0] % block[1], t / block[0] / block[1]};
                    found->call(args);
                }
            }
        }
    }
    return 0;
}
