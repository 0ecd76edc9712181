//! The program's allocator: the system's, with a limit for threads that run code of a checkpoint's.
//!
//! An allocation that is refused ends a Rust program, and what a template of a few bytes can ask for has no bounds. So a thread
//! that asks for more than it may is stopped instead, for good; whoever waits for it is told.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

struct Bounded;

const UNBOUNDED: usize = usize::MAX;

thread_local! {
    /// Bytes that this thread may still take.
    static LEFT: Cell<usize> = const { Cell::new(UNBOUNDED) };
    /// What tells that it wanted more.
    static EXCEEDED: Cell<*const AtomicBool> = const { Cell::new(std::ptr::null()) };
}

/// Calls a function with a limit on the memory that this thread has at one time beside what it has already. Where the
/// function wants more, `exceeded` becomes true, and the call never returns.
pub(crate) fn with_at_most<T>(bytes: usize, exceeded: &Arc<AtomicBool>, call: impl FnOnce() -> T) -> T {
    // The caller's `Arc` is borrowed until the call is over, and so is what this points to.
    EXCEEDED.set(Arc::as_ptr(exceeded));
    LEFT.set(bytes);
    let result = call();
    LEFT.set(UNBOUNDED);
    EXCEEDED.set(std::ptr::null());
    result
}

/// Counts what is asked for, and stops the thread where that is too much.
fn take(bytes: usize) {
    let left = LEFT.get();
    if left == UNBOUNDED {
        return;
    }
    match left.checked_sub(bytes) {
        Some(left) => LEFT.set(left),
        None => stop(),
    }
}

fn give(bytes: usize) {
    let left = LEFT.get();
    if left != UNBOUNDED {
        LEFT.set(left.saturating_add(bytes).min(UNBOUNDED - 1));
    }
}

#[cold]
fn stop() -> ! {
    // SAFETY: not null while there is a limit, and then `with_at_most` borrows what it points to.
    unsafe { (*EXCEEDED.get()).store(true, Ordering::Release) };
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

// SAFETY: each function is the system's, with the same arguments; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        take(new_size.saturating_sub(layout.size()));
        give(layout.size().saturating_sub(new_size));
        // SAFETY: the caller's.
        unsafe { System.realloc(memory, layout, new_size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the caller's.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let exceeded = Arc::default();
        let total = with_at_most(1000, &exceeded, || {
            (0..100).map(|index| vec![index as u8; 900].len()).sum::<usize>()
        });
        assert_eq!(total, 90_000);
        assert!(!exceeded.load(Ordering::Acquire));
        // The limit is over.
        assert_eq!(vec![0_u8; 5000].len(), 5000);
    }

    #[test]
    fn a_thread_that_wants_more_is_stopped_and_nothing_else_is() {
        let exceeded: Arc<AtomicBool> = Arc::default();
        let seen = Arc::clone(&exceeded);
        let thread = std::thread::spawn(move || with_at_most(1000, &exceeded, || vec![0_u8; 1001].len()));
        while !seen.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!thread.is_finished());
        assert_eq!(vec![0_u8; 5000].len(), 5000);
    }
}
