//! Layers with explicit forward and backward on candle tensors, losses and a fused Adam.
