//! One file of the source on its way: read and hashed whole in one thread, tensor by tensor in another, which writes, too.
//!
//! Each byte is read once. What is hashed, of the file and of the tensor, and what is written is one buffer: it cannot be two
//! different things, whatever becomes of the file meanwhile.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::assemble::Input;
use super::observer::Observer;
use super::target::{InputHash, OutputHash, Sink, Target};
use crate::Error;
use crate::plan::Plan;
use crate::weights::{HeaderEntry, WeightsFile};
use store::hash::Digest;

/// Bytes handled at a time, so few that they are in the processor's cache from their reading to their writing; a whole number
/// of elements of every dtype.
const CHUNK_BYTES: usize = 1 << 19;
/// How many of them are on their way.
const CHUNKS: usize = 4;
/// How far ahead of the hashes the disk is asked for bytes.
const AHEAD_BYTES: u64 = 32 << 20;
/// Skipped tensors up to this size are kept.
const KEPT_BYTES: usize = 4096;

/// What was learnt of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileHash {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

/// What was learnt of a row.
pub(super) struct RowHash {
    pub(super) sha256: String,
    /// Of each output that it is alone in, by its place in the plan.
    pub(super) outputs: Vec<(usize, OutputHash)>,
    /// The SHA-256 of what other outputs take of it.
    pub(super) inputs: Vec<(Input, String)>,
    /// Its bytes, where it is small and not written.
    pub(super) kept: Option<Vec<u8>>,
}

/// A file, what it is for, and who takes its bytes.
pub(super) struct FileStream<'a> {
    pub(super) file: &'a WeightsFile,
    pub(super) rows: &'a HashMap<&'a str, usize>,
    pub(super) plan: &'a Plan,
    pub(super) sink: &'a dyn Sink,
    pub(super) observer: &'a dyn Observer,
}

/// Who takes the bytes of a row.
#[derive(Default)]
struct Takers<'a> {
    /// Outputs that it is alone in, by their places in the plan.
    targets: Vec<(usize, Target<'a>)>,
    /// Inputs of other outputs.
    inputs: Vec<(Input, InputHash)>,
}

/// The tensors' end of the chunks: they come full, and go back empty.
struct Chunks {
    full: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
}

impl FileStream<'_> {
    /// Goes through the file once.
    pub(super) fn walk(&self) -> Result<(FileHash, Vec<(usize, RowHash)>), Error> {
        let (to_tensors, full) = sync_channel(CHUNKS);
        let (empty, to_fill) = channel();
        for _ in 0..CHUNKS {
            // Both ends are here.
            let _ = empty.send(Vec::with_capacity(CHUNK_BYTES));
        }
        let (whole, tensors) = std::thread::scope(|scope| {
            let whole = scope.spawn(|| self.read(to_tensors, to_fill));
            let tensors = self.walk_tensors(Chunks { full, empty });
            // A thread that panicked gave up, and so did the other one.
            (whole.join().unwrap_or(Ok(None)), tensors)
        });
        // Each gives up silently where the other one has a reason to.
        let (Some(hashes), Some(sha256)) = (tensors?, whole?) else { return Err(Error::Interrupted) };
        let (name, bytes) = (self.file.name().to_string(), self.file.bytes());
        Ok((FileHash { name, bytes, sha256 }, hashes))
    }

    /// Reads the file from its first to its last byte and sends its tensors on; the SHA-256 of the whole file, or nothing where
    /// nobody takes them any more.
    fn read(&self, full: SyncSender<Vec<u8>>, empty: Receiver<Vec<u8>>) -> Result<Option<String>, Error> {
        let mut digest = Digest::default();
        self.file.will_need(0, AHEAD_BYTES);
        self.check_front(&mut digest)?;
        let header = self.file.header();
        // The header proved that the tensors cover the rest of the file in this order, each byte once.
        for entry in &header.tensors {
            for start in (entry.start..entry.end).step_by(CHUNK_BYTES) {
                let Ok(mut chunk) = empty.recv() else { return Ok(None) };
                chunk.resize(CHUNK_BYTES.min(entry.end - start), 0);
                let at = (header.data_start + start) as u64;
                self.file.will_need(at + AHEAD_BYTES, chunk.len() as u64);
                self.file.read_at(at, &mut chunk)?;
                digest.update(&chunk);
                if full.send(chunk).is_err() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(digest.finish()))
    }

    /// The header was read before: it must still be the same.
    fn check_front(&self, digest: &mut Digest) -> Result<(), Error> {
        let mut front = vec![0; self.file.front().len()];
        self.file.read_at(0, &mut front)?;
        digest.update(&front);
        if front == self.file.front() {
            return Ok(());
        }
        self.file.check_unchanged()?;
        let message = "expected the header that it was opened with, found another";
        Err(Error::changed(self.file.path())(std::io::Error::other(message)))
    }

    fn walk_tensors(&self, chunks: Chunks) -> Result<Option<Vec<(usize, RowHash)>>, Error> {
        let header = self.file.header();
        self.observer.advance(header.data_start as u64);
        let mut hashes = Vec::with_capacity(header.tensors.len());
        for entry in &header.tensors {
            let row = self.rows.get(entry.name.as_str()).copied();
            let hash = self.walk_tensor(entry, row, &chunks)?;
            let Some(hash) = hash else { return Ok(None) };
            hashes.extend(row.map(|row| (row, hash)));
        }
        Ok(Some(hashes))
    }

    fn walk_tensor(
        &self,
        entry: &HeaderEntry,
        row: Option<usize>,
        chunks: &Chunks,
    ) -> Result<Option<RowHash>, Error> {
        let length = entry.end - entry.start;
        let mut digest = Digest::default();
        let Takers { mut targets, mut inputs } = row.map(|row| self.takers(row)).unwrap_or_default();
        let is_written = !(targets.is_empty() && inputs.is_empty());
        let mut kept = (!is_written && length <= KEPT_BYTES).then(Vec::new);
        let mut start = 0;
        while start < length {
            if self.observer.is_stopped() {
                return Err(Error::Interrupted);
            }
            let Ok(chunk) = chunks.full.recv() else { return Ok(None) };
            digest.update(&chunk);
            targets.iter_mut().try_for_each(|(_, target)| target.take(start, &chunk, self.sink))?;
            inputs.iter_mut().for_each(|(_, input)| input.take(start, &chunk));
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&chunk);
            }
            self.observer.advance(chunk.len() as u64);
            start += chunk.len();
            // Nobody fills it any more once the last one is read.
            let _ = chunks.empty.send(chunk);
        }
        let sha256 = digest.finish();
        let outputs = targets.into_iter().map(|(output, target)| (output, target.finish(&sha256))).collect();
        let inputs = inputs.into_iter().map(|(place, input)| (place, input.finish(&sha256))).collect();
        Ok(Some(RowHash { sha256, outputs, inputs, kept }))
    }

    fn takers(&self, row: usize) -> Takers<'_> {
        let source = &self.plan.rows[row].source;
        let mut takers = Takers::default();
        for &place in &self.plan.rows[row].outputs {
            let output = &self.plan.outputs[place];
            if let Some(input) = output.only_input() {
                takers.targets.push((place, Target::new(output, input, source)));
                continue;
            }
            let own = output.inputs.iter().enumerate().filter(|(_, input)| input.row == row);
            takers.inputs.extend(own.map(|(i, input)| ((place, i), InputHash::new(input, source))));
        }
        takers
    }
}
