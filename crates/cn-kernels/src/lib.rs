//! CPU kernels for training convolutional networks, over plain channels-last slices.
