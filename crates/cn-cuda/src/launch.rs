//! Launch geometry and arguments.

/// Threads of a block where nothing else is said.
const THREADS: u32 = 256;
/// Blocks of a grid whose threads take several items; more would only wait.
const MAX_BLOCKS: u64 = 1 << 16;
/// Bytes of an argument, at most.
const CELL: usize = 128;

/// Blocks of a launch, and the threads of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Blocks along x, y, z.
    pub blocks: [u32; 3],
    /// Threads of a block along x, y, z.
    pub threads: [u32; 3],
}

impl Grid {
    /// For kernels whose threads take items in steps of the grid: enough threads for `n` items, or as many as make sense.
    #[must_use]
    pub(crate) fn over(n: usize) -> Self {
        let blocks = (n as u64).div_ceil(u64::from(THREADS)).clamp(1, MAX_BLOCKS);
        Self { blocks: [blocks as u32, 1, 1], threads: [THREADS, 1, 1] }
    }

    /// As [`Grid::over`] for rows of `width` items, with a number of threads that makes whole rows.
    #[must_use]
    pub(crate) fn over_rows(n: usize, width: usize) -> Self {
        /// Enough to fill any GPU; each thread then takes several rows with what it has read of its column.
        const BLOCKS: usize = 1056;
        let (width, threads) = (width.max(1), THREADS as usize);
        let unit = width / gcd(width, threads);
        let blocks = n.div_ceil(threads).clamp(1, BLOCKS).next_multiple_of(unit);
        Self::of_blocks([blocks, 1, 1], [THREADS, 1, 1])
    }

    /// For kernels with one thread for each of `n` items.
    #[must_use]
    pub(crate) fn of_items(n: usize) -> Self {
        let blocks = (n as u64).div_ceil(u64::from(THREADS)).clamp(1, u64::from(u32::MAX >> 1));
        Self { blocks: [blocks as u32, 1, 1], threads: [THREADS, 1, 1] }
    }

    /// These blocks of `threads` threads each.
    #[must_use]
    pub(crate) fn of_blocks(blocks: [usize; 3], threads: [u32; 3]) -> Self {
        Self { blocks: blocks.map(|n| u32::try_from(n).unwrap_or(u32::MAX)), threads }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A type that C++ sees as it lies in memory, without padding that could be uninitialised.
///
/// # Safety
///
/// Implementers are numbers, or `repr(C)` structs of numbers without padding, of at most 128 bytes.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: numbers.
unsafe impl Plain for u8 {}
// SAFETY: numbers.
unsafe impl Plain for u16 {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl Plain for i32 {}
// SAFETY: numbers.
unsafe impl Plain for u64 {}
// SAFETY: numbers.
unsafe impl Plain for i64 {}
// SAFETY: numbers.
unsafe impl Plain for f32 {}
// SAFETY: numbers.
unsafe impl Plain for f64 {}

/// The bytes of some plain values.
pub(crate) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: plain types have no padding, so that every byte is initialised; `u8` has no alignment.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// The bytes of some plain values, to be written.
pub(crate) fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as `bytes_of`; any bytes are a value of a plain type of numbers.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// One argument, aligned for anything.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Cell([u8; CELL]);

/// The arguments of a launch, in the order of the kernel's parameters.
#[derive(Clone)]
pub(crate) struct Args {
    cells: Vec<Cell>,
}

impl Args {
    pub(crate) fn new() -> Self {
        Self { cells: Vec::with_capacity(16) }
    }

    /// The same with one argument more. Shorter numbers than the parameter are extended by zeros.
    pub(crate) fn with<T: Plain>(mut self, value: T) -> Self {
        let mut cell = Cell([0; CELL]);
        let bytes = bytes_of(std::slice::from_ref(&value));
        cell.0[..bytes.len()].copy_from_slice(bytes);
        self.cells.push(cell);
        self
    }

    /// Number of arguments.
    #[cfg_attr(not(feature = "emulation"), allow(dead_code, reason = "only the emulation counts them"))]
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// A pointer to each argument.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "without a backend nothing is launched"))]
    pub(crate) fn pointers(&mut self) -> Vec<*mut std::ffi::c_void> {
        self.cells.iter_mut().map(|cell| std::ptr::from_mut(cell).cast()).collect()
    }
}

/// `args![a, b, c]`: the arguments of a launch.
macro_rules! args {
    ($($value:expr),* $(,)?) => { crate::launch::Args::new()$(.with($value))* };
}
pub(crate) use args;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids_cover_their_items() {
        for n in [0, 1, 255, 256, 257, 100_000, 1 << 40] {
            let grid = Grid::over(n);
            assert!(grid.blocks[0] >= 1 && u64::from(grid.blocks[0]) <= MAX_BLOCKS);
            assert!(grid.blocks[0] as u64 == MAX_BLOCKS || grid.blocks[0] as u64 * 256 >= n as u64);
        }
        assert_eq!(Grid::of_items(257).blocks, [2, 1, 1]);
        for (n, width) in [(1, 1), (1000, 125), (1 << 20, 64), (777, 7), (1 << 30, 513)] {
            let grid = Grid::over_rows(n, width);
            assert_eq!(grid.blocks[0] as usize * 256 % width, 0, "whole rows of {width}");
        }
    }

    #[test]
    fn arguments_lie_as_c_reads_them() {
        let mut args = args![7i32, 2.5f64, 9u64];
        let pointers = args.pointers();
        assert_eq!(args.len(), 3);
        // SAFETY: the pointers are those of live cells, written with these types.
        unsafe {
            assert_eq!(*pointers[0].cast::<i32>(), 7);
            assert_eq!(*pointers[0].cast::<i64>(), 7, "extended by zeros");
            assert_eq!(*pointers[1].cast::<f64>(), 2.5);
            assert_eq!(*pointers[2].cast::<u64>(), 9);
        }
    }
}
