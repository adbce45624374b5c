//! Copies of short runs, which a call of `memcpy` for each would dominate.

use super::Isa;
use super::isa::for_each_isa;
use super::lanes::{Lanes, load, store};

/// Runs of `len` numbers: run `i` at `i * from_stride` of one slice, and at `i * to_stride` of another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runs {
    pub count: usize,
    pub len: usize,
    pub from_stride: usize,
    pub to_stride: usize,
}

impl Runs {
    fn check(&self, from: usize, to: usize) {
        let last = self.count.saturating_sub(1);
        assert!(last * self.from_stride + self.len <= from && last * self.to_stride + self.len <= to, "runs inside");
    }
}

/// Copies every run.
pub(crate) fn copy(isa: Isa, runs: &Runs, from: &[f32], to: &mut [f32]) {
    runs.check(from.len(), to.len());
    // SAFETY: every run lies inside both slices, as checked.
    unsafe { run_copy(isa, runs, from, to) }
}

for_each_isa! {
    fn run_copy = copy_body; (runs: &Runs, from: &[f32], to: &mut [f32])
}

#[inline(always)]
unsafe fn copy_body<L: Lanes>(runs: &Runs, from: &[f32], to: &mut [f32]) {
    let (whole, rest) = (runs.len - runs.len % L::N, runs.len % L::N);
    for i in 0..runs.count {
        // SAFETY: as `copy`.
        unsafe {
            let (from, to) = (from.as_ptr().add(i * runs.from_stride), to.as_mut_ptr().add(i * runs.to_stride));
            for at in (0..whole).step_by(L::N) {
                L::store(to.add(at), L::load(from.add(at)));
            }
            if rest > 0 {
                L::store_part(to.add(whole), L::load_part(from.add(whole), rest), rest);
            }
        }
    }
}

/// Adds every run to what is there.
pub(crate) fn add(isa: Isa, runs: &Runs, from: &[f32], to: &mut [f32]) {
    runs.check(from.len(), to.len());
    // SAFETY: every run lies inside both slices, as checked.
    unsafe { run_add(isa, runs, from, to) }
}

for_each_isa! {
    fn run_add = add_body; (runs: &Runs, from: &[f32], to: &mut [f32])
}

#[inline(always)]
unsafe fn add_body<L: Lanes>(runs: &Runs, from: &[f32], to: &mut [f32]) {
    for i in 0..runs.count {
        for at in (0..runs.len).step_by(L::N) {
            let n = (runs.len - at).min(L::N);
            // SAFETY: as `add`.
            unsafe {
                let from = load::<L>(from.as_ptr().add(i * runs.from_stride + at), n);
                let to = to.as_mut_ptr().add(i * runs.to_stride + at);
                store::<L>(to, L::add(load::<L>(to, n), from), n);
            }
        }
    }
}
