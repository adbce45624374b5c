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

/// About `piece`, so that `len` items make four pieces, eight, twelve and so on, nearly all of one length: two and four
/// threads then end together. A function of the two lengths alone.
pub(crate) fn even_piece(len: usize, piece: usize) -> usize {
    let pieces = len.div_ceil(piece.max(1));
    if pieces < 3 { piece } else { len.div_ceil((pieces + 1) / 4 * 4) }
}

/// Rows per piece so that a piece has about `1 << 16` elements: enough work for a thread, and a function of the shape.
pub(crate) fn rows_per_piece(row_len: usize) -> usize {
    ((1usize << 16) / row_len.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::even_piece;

    #[test]
    fn pieces_come_in_fours() {
        for (len, piece, expected) in [(128, 10, 11), (256, 10, 11), (1024, 96, 86), (128, 24, 32), (64, 12, 16)] {
            assert_eq!(even_piece(len, piece), expected, "{len} by {piece}");
        }
        for (len, piece) in [(0, 5), (1, 5), (9, 5), (10, 5), (10, 0)] {
            assert!(even_piece(len, piece) <= piece.max(len), "{len} by {piece}");
        }
        assert_eq!(even_piece(10, 5), 5);
    }

    #[test]
    fn a_piece_is_never_empty_and_stays_about_as_long() {
        for len in 1..400 {
            for piece in 1..60 {
                let even = even_piece(len, piece);
                assert!(even > 0 && even <= piece * 2 && even * 2 >= piece.min(len), "{len} by {piece}: {even}");
            }
        }
    }
}
