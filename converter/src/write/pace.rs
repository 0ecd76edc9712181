//! Two readers of one file that stay near each other, so that its bytes come from the disk once.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How far one reader may be ahead of the other, in bytes.
const WINDOW: usize = 64 << 20;

/// Where two readers of one file are.
#[derive(Debug, Default)]
pub(super) struct Pace {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes that each is done with.
    done: [usize; 2],
    ended: bool,
}

/// One of the two readers. Dropped, it lets the other one go on alone, or tells it to give up.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pace: &'a Pace,
    me: usize,
    finished: bool,
}

impl Pace {
    /// The two readers.
    pub(super) fn readers(&self) -> [Reader<'_>; 2] {
        [0, 1].map(|me| Reader { pace: self, me, finished: false })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader<'_> {
    /// Is done with the bytes in front of `to`, and waits until the other one is near; false if that one has given up.
    pub(super) fn step(&self, to: usize) -> bool {
        let mut state = self.pace.lock();
        state.done[self.me] = to;
        self.pace.moved.notify_all();
        while !state.ended && to > state.done[1 - self.me].saturating_add(WINDOW) {
            state = self.pace.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.ended
    }

    /// Has read everything.
    pub(super) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let mut state = self.pace.lock();
        if self.finished {
            state.done[self.me] = usize::MAX;
        } else {
            state.ended = true;
        }
        self.pace.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const STEP: usize = 1 << 20;

    #[test]
    fn neither_gets_far_ahead_and_both_arrive() {
        let pace = Pace::default();
        let places = [AtomicUsize::new(0), AtomicUsize::new(0)];
        std::thread::scope(|scope| {
            for (me, reader) in pace.readers().into_iter().enumerate() {
                let places = &places;
                scope.spawn(move || {
                    for i in 1..=300 {
                        places[me].store(i * STEP, Ordering::SeqCst);
                        assert!(reader.step(i * STEP));
                        let other = places[1 - me].load(Ordering::SeqCst);
                        assert!(i * STEP <= other + WINDOW, "{i} {other}");
                    }
                    reader.finish();
                });
            }
        });
    }

    #[test]
    fn one_that_gives_up_stops_the_other_and_one_that_is_done_does_not() {
        let pace = Pace::default();
        let [first, second] = pace.readers();
        first.finish();
        assert!(second.step(10 * WINDOW));

        let pace = Pace::default();
        let [first, second] = pace.readers();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || second.step(2 * WINDOW));
            drop(first);
            assert!(!waiting.join().unwrap());
        });
    }
}
