// All kernels of the project, in one module.
#include "augment.cuh"
#include "conv.cuh"
#include "norm.cuh"
#include "norm_pool.cuh"
#include "norm_small.cuh"
#include "pool.cuh"
#include "stem.cuh"
#include "train.cuh"
