//! Writing a dump on a thread of its own, so that the computation that is recorded goes on meanwhile.
//!
//! What waits to be written is bounded in bytes, not in tensors: a model's largest output can be a thousand times its
//! smallest, and it is memory that runs out.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fmt, io, process};

use rayon::ThreadPoolBuilder;

use crate::manifest::ManifestHead;
use crate::{Dtype, DumpWriter, Error, NewEntry, Result};

/// A tensor on its way to a [`BackgroundWriter`], with whatever keeps its bytes alive.
pub struct Tensor {
    /// What the dump says of it.
    pub entry: NewEntry,
    /// The element type.
    pub dtype: Dtype,
    /// The shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// The seed of the sketch that the dump gets instead of the tensor, if it is to have one.
    pub sketch: Option<u64>,
    /// Little-endian bytes in row-major order. Nobody writes to them any more.
    pub data: Box<dyn AsRef<[u8]> + Send>,
}

/// A [`DumpWriter`] on a thread of its own.
///
/// One that is dropped before it has finished leaves nothing behind, as a [`DumpWriter`] does. In a process that is forked from
/// its own it has no thread and its locks may be held for ever: there it refuses everything, and is dropped without a trace.
#[derive(Debug)]
pub struct BackgroundWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    max_queued_bytes: u64,
    /// The process that the thread belongs to.
    process: u32,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The writer has taken something, or has ended.
    written: Condvar,
    /// There is something to write, or an end to come to.
    pushed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Tensor>,
    /// The bytes that wait, those that are being written included.
    queued_bytes: u64,
    end: Option<End>,
    outcome: Option<Result<()>>,
    /// Whether the outcome has been told.
    is_over: bool,
}

#[derive(Debug)]
enum End {
    Finish(Box<ManifestHead>),
    Abandon,
}

impl BackgroundWriter {
    /// Hands a writer to a thread that holds at most `max_queued_bytes` back, or a single tensor that is larger.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] if the system gives no thread.
    pub fn new(writer: DumpWriter, max_queued_bytes: u64) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        // Threads of its own: those that all share are missing in a process that is forked once they have begun.
        let pool = ThreadPoolBuilder::new()
            .thread_name(|_| "dump hashing".to_owned())
            .build()
            .map_err(|error| Error::Thread { source: io::Error::other(error) })?;
        let thread = std::thread::Builder::new()
            .name("dump writer".to_owned())
            .spawn(move || {
                // Set even if the thread unwinds, so that nobody waits for it in vain.
                let mut over = Over { shared: &theirs, outcome: None };
                over.outcome = Some(pool.install(|| theirs.write_all(writer)));
            })
            .map_err(|source| Error::Thread { source })?;
        Ok(BackgroundWriter { shared, thread: Some(thread), max_queued_bytes, process: process::id() })
    }

    /// Appends a tensor, once there is room for it.
    ///
    /// # Errors
    ///
    /// What the thread has met since, with this or with an earlier tensor: those of [`DumpWriter::push`]. The dump is
    /// lost then, and every later call answers [`Error::WriterStopped`]. [`Error::Forked`] in a forked process.
    pub fn push(&self, tensor: Tensor) -> Result<()> {
        let mut tensor = tensor;
        while let Some(returned) = self.try_push(tensor, Duration::from_secs(60))? {
            tensor = returned;
        }
        Ok(())
    }

    /// Appends a tensor if there is room for it within some time, and else returns it.
    ///
    /// # Errors
    ///
    /// Those of [`BackgroundWriter::push`].
    pub fn try_push(&self, tensor: Tensor, patience: Duration) -> Result<Option<Tensor>> {
        let bytes = (*tensor.data).as_ref().len() as u64;
        let deadline = Instant::now() + patience;
        let mut state = self.lock()?;
        loop {
            if state.outcome.is_some() || state.is_over {
                return Err(state.failure());
            }
            if state.queued_bytes == 0 || state.queued_bytes + bytes <= self.max_queued_bytes {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Some(tensor));
            }
            state = self.shared.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.queued_bytes += bytes;
        state.queue.push_back(tensor);
        self.shared.pushed.notify_one();
        Ok(None)
    }

    /// The bytes that wait to be written.
    pub fn queued_bytes(&self) -> u64 {
        self.lock().map_or(0, |state| state.queued_bytes)
    }

    /// Writes what waits, then the manifest, and gives the folder its name.
    ///
    /// # Errors
    ///
    /// Those of [`BackgroundWriter::push`] and of [`DumpWriter::finish`]; nothing is left then.
    pub fn finish(mut self, head: ManifestHead) -> Result<()> {
        self.begin_finish(head);
        while !self.wait(Duration::from_secs(60))? {}
        Ok(())
    }

    /// Begins to finish; [`BackgroundWriter::wait`] tells when it is done.
    pub fn begin_finish(&mut self, head: ManifestHead) {
        if let Ok(mut state) = self.lock() {
            state.end.get_or_insert(End::Finish(Box::new(head)));
            self.shared.pushed.notify_one();
        }
    }

    /// Waits some time for the end; whether it has come.
    ///
    /// # Errors
    ///
    /// Those of [`BackgroundWriter::finish`].
    pub fn wait(&mut self, patience: Duration) -> Result<bool> {
        let deadline = Instant::now() + patience;
        let mut state = self.lock()?;
        loop {
            match state.outcome.take() {
                Some(Ok(())) => {
                    state.is_over = true;
                    return Ok(true);
                }
                Some(failed @ Err(_)) => {
                    state.outcome = Some(failed);
                    return Err(state.failure());
                }
                None if state.is_over => return Err(Error::WriterStopped),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let waited = self.shared.written.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        if self.process == process::id() { Ok(self.shared.lock()) } else { Err(Error::Forked) }
    }
}

impl Drop for BackgroundWriter {
    fn drop(&mut self) {
        let Ok(mut state) = self.lock() else {
            // The thread that it stands for is not there.
            std::mem::forget(self.thread.take());
            return;
        };
        state.end = Some(End::Abandon);
        state.queue.clear();
        drop(state);
        self.shared.pushed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends by itself; how, was told or is of no interest any more.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the thread does.
    fn write_all(&self, mut writer: DumpWriter) -> Result<()> {
        loop {
            let tensor = {
                let mut state = self.lock();
                loop {
                    if matches!(state.end, Some(End::Abandon)) {
                        return Err(Error::WriterStopped);
                    }
                    if let Some(tensor) = state.queue.pop_front() {
                        break tensor;
                    }
                    if let Some(End::Finish(head)) = state.end.take() {
                        drop(state);
                        return writer.finish(*head);
                    }
                    state = self.pushed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            let Tensor { entry, dtype, shape, sketch, data } = tensor;
            let view: &[u8] = (*data).as_ref();
            let bytes = view.len() as u64;
            let result = writer.push_entry(entry, dtype, &shape, view, sketch);
            // Before the room is given to the next tensor: it is the memory that is bounded.
            drop(data);
            self.lock().queued_bytes -= bytes;
            self.written.notify_all();
            result?;
        }
    }
}

impl State {
    /// The failure, the first time; that there was one, from then on.
    fn failure(&mut self) -> Error {
        self.is_over = true;
        match self.outcome.take() {
            Some(Err(error)) => error,
            _ => Error::WriterStopped,
        }
    }
}

/// Tells the outcome when the thread ends, in whatever way.
struct Over<'shared> {
    shared: &'shared Shared,
    outcome: Option<Result<()>>,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.outcome = Some(self.outcome.take().unwrap_or(Err(Error::WriterStopped)));
        // Nobody will take these; they may be large.
        let unwritten = std::mem::take(&mut state.queue);
        state.queued_bytes = 0;
        drop(state);
        drop(unwritten);
        self.shared.written.notify_all();
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tensor")
            .field("name", &self.entry.name)
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}
