//! Splitting work over threads.

use rayon::prelude::*;

/// Calls `task(0)` to `task(n - 1)`, on as many threads as the surrounding pool has, in no particular order.
///
/// Which thread takes which task is left open, so tasks must not depend on each other; a sum over tasks is formed by
/// the caller, afterwards and in order.
pub fn parallel(n: usize, task: impl Fn(usize) + Send + Sync) {
    if n <= 1 {
        (0..n).for_each(task);
    } else {
        (0..n).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// Runs `work` with exactly `threads` threads, at least one, for every kernel that it calls.
///
/// # Errors
///
/// If the system refuses the threads.
pub fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> std::io::Result<R> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build().map_err(std::io::Error::other)?;
    Ok(pool.install(work))
}

/// Cuts `len` items into pieces of `piece`, the last one shorter, and maps each on its own thread; results in order.
pub(crate) fn map_pieces<R: Send>(
    len: usize,
    piece: usize,
    map: impl Fn(std::ops::Range<usize>) -> R + Sync,
) -> Vec<R> {
    let piece = piece.max(1);
    (0..len.div_ceil(piece))
        .into_par_iter()
        .with_max_len(1)
        .map(|i| map(i * piece..((i + 1) * piece).min(len)))
        .collect()
}

/// Rows per piece so that a piece has about `1 << 16` elements: enough work for a thread, and a function of the shape.
pub(crate) fn rows_per_piece(row_len: usize) -> usize {
    ((1usize << 16) / row_len.max(1)).max(1)
}
