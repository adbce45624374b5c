//! Loads CUDA kernels once per device and launches them; a stand-in without the feature.
