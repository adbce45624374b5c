//! Counter-based randomness: Philox4x32-10 and draws keyed by (seed, epoch, id, purpose).
