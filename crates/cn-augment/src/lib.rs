//! Random crops and affine maps of whole batches, from u8 pixels to normalised floats in one pass.
