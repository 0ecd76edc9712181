//! Where a template runs: it is the checkpoint's code, and may ask for anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::allocator::with_at_most;
use crate::panics::caught;

/// What a template may take. The engine counts its steps itself; this is for what happens within one.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of the thread's own: values within values and operators behind operators take some for each.
    pub stack_bytes: usize,
    /// At one time.
    pub memory_bytes: usize,
    /// Of a processor's: a machine that has other work is no fault of the template's.
    pub time: Duration,
}

/// Runs something on a thread of its own.
///
/// What exceeds memory or time stays behind, stopped or busy, until the program ends: no thread can be ended from outside.
///
/// # Errors
/// What was exceeded, in words.
pub fn run<T: Send + 'static>(
    limits: Limits,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let exceeded: Arc<AtomicBool> = Arc::default();
    let (sender, receiver) = channel();
    let flag = Arc::clone(&exceeded);
    let started = thread::Builder::new()
        .name("chat template".to_owned())
        .stack_size(limits.stack_bytes)
        .spawn(move || {
            let result = caught(|| with_at_most(limits.memory_bytes, &flag, work));
            // Nobody waits any longer where the time is over.
            let _ = sender.send(result);
        });
    let thread = started.map_err(|error| format!("no thread for it: {error}"))?;
    let start = Instant::now();
    loop {
        match receiver.recv_timeout(Duration::from_millis(10)) {
            Ok(result) => return result.map_err(|message| format!("its engine fails: {message}")),
            Err(RecvTimeoutError::Disconnected) => return Err("its thread ended".to_owned()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if exceeded.load(Ordering::Acquire) {
            return Err(format!("it takes more than {} MB of memory", limits.memory_bytes / 1_000_000));
        }
        if processor_time(&thread, start) > limits.time {
            return Err(format!("it takes more than {} seconds of a processor", limits.time.as_secs_f64()));
        }
    }
}

/// What a thread has had of a processor: no more than the time since its start.
#[cfg(target_os = "linux")]
fn processor_time<T>(thread: &JoinHandle<T>, _: Instant) -> Duration {
    use std::os::unix::thread::JoinHandleExt as _;
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a thread that is not joined has a clock, and both calls write to the addresses that they are given only.
    let status = unsafe {
        match libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) {
            0 => libc::clock_gettime(clock, &raw mut time),
            status => status,
        }
    };
    // A thread that has just ended has none, and has sent its result.
    if status == 0 { Duration::new(time.tv_sec as u64, time.tv_nsec as u32) } else { Duration::ZERO }
}

#[cfg(not(target_os = "linux"))]
fn processor_time<T>(_: &JoinHandle<T>, start: Instant) -> Duration {
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { stack_bytes: 1 << 20, memory_bytes: 2_000_000, time: Duration::from_secs(60) };

    #[test]
    fn what_stays_within_its_limits_gives_its_result() {
        assert_eq!(run(LIMITS, || vec![1_u8; 1000].len()), Ok(1000));
    }

    #[test]
    fn what_exceeds_them_is_named() {
        let said = run(LIMITS, || vec![1_u8; 2_000_001].len()).unwrap_err();
        assert_eq!(said, "it takes more than 2 MB of memory");
        let limits = Limits { time: Duration::from_millis(20), ..LIMITS };
        let endless: fn() -> u8 = || loop {
            std::hint::spin_loop();
        };
        assert_eq!(run(limits, endless).unwrap_err(), "it takes more than 0.02 seconds of a processor");
        let panics: fn() -> u8 = || panic!("why");
        assert_eq!(run(LIMITS, panics).unwrap_err(), "its engine fails: why");
    }
}
