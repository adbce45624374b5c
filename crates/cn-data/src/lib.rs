//! Image data sets on disk: indexes, labels, splits, sampling order, decoding to packed pixels.
