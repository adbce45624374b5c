//! The inner loop of Adam.

use super::Isa;
use super::isa::for_each_isa;
use super::lanes::{Lanes, load, store};
use crate::optim::AdamSlices;

/// The numbers of one update, ready to multiply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamRates {
    /// `1 - lr * weight_decay`.
    pub keep: f32,
    /// Decays of both moments, and one minus them.
    pub beta: [f32; 2],
    pub rest: [f32; 2],
    /// `lr / (1 - beta1^step)`.
    pub rate: f32,
    /// `1 / (1 - beta2^step)`.
    pub unbias: f32,
    pub eps: f32,
}

/// Updates all of `s` by `rates`, and clears the gradients.
pub(crate) fn adam(isa: Isa, rates: &AdamRates, s: &mut AdamSlices<'_, f32>) {
    let n = s.params.len();
    assert!(s.grads.len() == n && s.m.len() == n && s.v.len() == n, "equal lengths");
    // SAFETY: all slices have one length.
    unsafe { run_adam(isa, rates, s) }
}

for_each_isa! {
    fn run_adam = adam_body; (rates: &AdamRates, s: &mut AdamSlices<'_, f32>)
}

#[inline(always)]
unsafe fn adam_body<L: Lanes>(rates: &AdamRates, s: &mut AdamSlices<'_, f32>) {
    let len = s.params.len();
    let whole = len - len % L::N;
    // SAFETY: `at` and `n` numbers after it are inside every slice.
    unsafe {
        for at in (0..whole).step_by(L::N) {
            adam_vector::<L>(rates, s, at, L::N);
        }
        if whole < len {
            adam_vector::<L>(rates, s, whole, len - whole);
        }
    }
}

#[inline(always)]
unsafe fn adam_vector<L: Lanes>(rates: &AdamRates, s: &mut AdamSlices<'_, f32>, at: usize, n: usize) {
    // SAFETY: as the caller.
    unsafe {
        let (p, g) = (load::<L>(s.params.as_ptr().add(at), n), load::<L>(s.grads.as_ptr().add(at), n));
        let m = L::fma(L::splat(rates.beta[0]), load::<L>(s.m.as_ptr().add(at), n), L::mul(L::splat(rates.rest[0]), g));
        let v = L::fma(
            L::splat(rates.beta[1]),
            load::<L>(s.v.as_ptr().add(at), n),
            L::mul(L::splat(rates.rest[1]), L::mul(g, g)),
        );
        let root = L::add(L::sqrt(L::mul(v, L::splat(rates.unbias))), L::splat(rates.eps));
        let step = L::div(L::mul(L::splat(rates.rate), m), root);
        store::<L>(s.params.as_mut_ptr().add(at), L::sub(L::mul(p, L::splat(rates.keep)), step), n);
        store::<L>(s.m.as_mut_ptr().add(at), m, n);
        store::<L>(s.v.as_mut_ptr().add(at), v, n);
        store::<L>(s.grads.as_mut_ptr().add(at), L::splat(0.0), n);
    }
}
