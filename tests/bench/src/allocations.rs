//! Counts allocations, which are the same on every machine, however busy it is.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with a count. A benchmark declares it as its `#[global_allocator]`.
pub struct Counting;

#[expect(unsafe_code, reason = "an allocator cannot be written without; each call is handed on as it came")]
// SAFETY: every call goes to the system's allocator unchanged, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(u64::try_from(layout.size()).unwrap_or(0), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(u64::try_from(size.saturating_sub(layout.size())).unwrap_or(0), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// How many allocations, and how many bytes, a piece of work makes in this process, if [`Counting`] is its allocator.
pub fn of<T>(work: impl FnOnce() -> T) -> (T, u64, u64) {
    let before = (COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    let answer = work();
    let after = (COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    (answer, after.0.saturating_sub(before.0), after.1.saturating_sub(before.1))
}
