//! Large blocks of memory in huge pages.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait, and the system is asked by address")]

use std::alloc::{GlobalAlloc, Layout, System};

/// Bytes of a huge page of x86-64 and of most Arm systems.
const HUGE: usize = 2 << 20;

/// The system's allocator, which asks Linux to back large blocks with huge pages.
///
/// Kernels that read and write a hundred places of an activation in turns, as minimal filtering does, need the address of
/// as many pages; with pages of 4 KiB most of those are looked up in memory. Where the system grants huge pages to
/// whoever asks (`madvise` in `/sys/kernel/mm/transparent_hugepage/enabled`, the usual setting), a program gets them with
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: cn_kernels::HugePages = cn_kernels::HugePages;
/// # fn main() {}
/// ```
///
/// Results do not depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HugePages;

// SAFETY: every block comes from `System` with the layout that was asked for, and goes back there with it; `advise` only
// tells how its memory is to be kept.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that `System` asks for.
        advise(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        advise(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        advise(unsafe { System.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Asks for huge pages where a block of `size` bytes has whole ones; returns the block.
fn advise(block: *mut u8, size: usize) -> *mut u8 {
    // Smaller ones may have no whole page, and cost a call each.
    if size >= 2 * HUGE && !block.is_null() {
        let skipped = block.addr().next_multiple_of(HUGE) - block.addr();
        ask(block.wrapping_add(skipped), (size - skipped) / HUGE * HUGE);
    }
    block
}

#[cfg(target_os = "linux")]
fn ask(start: *mut u8, len: usize) {
    // SAFETY: the range lies within a block that was just allocated; the advice changes no byte of it. Where the system
    // has no such pages it says so, and all is as before.
    unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_all_sizes_are_as_asked_for() {
        for size in [1, 4096, HUGE, 2 * HUGE, 5 * HUGE + 17] {
            for align in [1, 64, HUGE] {
                let layout = Layout::from_size_align(size, align).expect("a layout");
                // SAFETY: the layout has a size, and each block goes back with the layout that it has then.
                unsafe {
                    let block = HugePages.alloc_zeroed(layout);
                    assert!(!block.is_null() && block.addr().is_multiple_of(align));
                    assert_eq!([*block, *block.add(size - 1)], [0; 2]);
                    block.write_bytes(7, size);
                    let larger = HugePages.realloc(block, layout, size + HUGE);
                    assert_eq!([*larger, *larger.add(size / 2), *larger.add(size - 1)], [7; 3]);
                    larger.add(size + HUGE - 1).write(1);
                    HugePages.dealloc(larger, Layout::from_size_align(size + HUGE, align).expect("a layout"));
                }
            }
        }
    }
}
