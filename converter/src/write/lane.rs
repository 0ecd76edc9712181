//! One file of the source on its way: hashed whole in one thread, tensor by tensor in another, which writes, too.

use std::collections::HashMap;

use super::pace::{Pace, Reader};
use super::stream::{FileHash, OutputHash, Target};
use super::{Observer, Sink};
use crate::Error;
use crate::digest::Digest;
use crate::normalized::TorchDtype;
use crate::plan::{Plan, Row};
use crate::weights::{HeaderEntry, MappedFile};

/// Bytes handled at a time, so few that they are in the processor's cache from their hashing to their writing; a whole number
/// of elements of every dtype.
const CHUNK_BYTES: usize = 1 << 20;
/// How far ahead of the hashes the disk is asked for bytes.
const AHEAD_BYTES: usize = 32 << 20;

/// What was learnt of a row.
pub(super) struct RowHash {
    pub(super) sha256: String,
    pub(super) outputs: Vec<OutputHash>,
}

/// A file, what it is for, and who takes its bytes.
pub(super) struct Lane<'a> {
    pub(super) file: &'a MappedFile,
    pub(super) rows: &'a HashMap<&'a str, usize>,
    pub(super) plan: &'a Plan,
    pub(super) sink: &'a dyn Sink,
    pub(super) observer: &'a dyn Observer,
}

impl Lane<'_> {
    /// Goes through the file once.
    pub(super) fn walk(&self) -> Result<(FileHash, Vec<(usize, RowHash)>), Error> {
        let pace = Pace::default();
        let [whole, tensors] = pace.readers();
        let (sha256, hashes) = std::thread::scope(|scope| {
            let whole = scope.spawn(|| self.hash_whole(whole));
            let hashes = self.walk_tensors(tensors);
            // A thread that panicked gave up, and so did the other one.
            (whole.join().ok().flatten(), hashes)
        });
        let hashes = hashes?;
        let sha256 = sha256.ok_or(Error::Interrupted)?;
        let (name, bytes) = (self.file.name().to_string(), self.file.bytes().len() as u64);
        Ok((FileHash { name, bytes, sha256 }, hashes))
    }

    /// The SHA-256 of the whole file, unless the other thread gives up.
    fn hash_whole(&self, reader: Reader<'_>) -> Option<String> {
        let mut digest = Digest::default();
        let mut at = 0;
        for chunk in self.file.bytes().chunks(CHUNK_BYTES) {
            self.file.will_need(at + AHEAD_BYTES, CHUNK_BYTES);
            digest.update(chunk);
            at += chunk.len();
            if !reader.step(at) {
                return None;
            }
        }
        reader.finish();
        Some(digest.finish())
    }

    fn walk_tensors(&self, reader: Reader<'_>) -> Result<Vec<(usize, RowHash)>, Error> {
        let header = self.file.header();
        self.file.will_need(0, AHEAD_BYTES);
        self.observer.advance(header.data_start as u64);
        let mut hashes = Vec::with_capacity(header.tensors.len());
        // The header proved that the tensors cover the rest of the file in this order, each byte once.
        for entry in &header.tensors {
            let row = self.rows.get(entry.name.as_str()).copied();
            let hash = self.walk_tensor(entry, row.map(|row| &self.plan.rows[row]), &reader)?;
            hashes.extend(row.map(|row| (row, hash)));
        }
        reader.finish();
        Ok(hashes)
    }

    fn walk_tensor(
        &self,
        entry: &HeaderEntry,
        row: Option<&Row>,
        reader: &Reader<'_>,
    ) -> Result<RowHash, Error> {
        let data = self.file.data(entry);
        let first = self.file.header().data_start + entry.start;
        let mut digest = Digest::default();
        let mut targets: Vec<Target<'_>> = row
            .iter()
            .flat_map(|row| &row.outputs)
            .map(|&output| {
                Target::new(&self.plan.outputs[output], TorchDtype::from_dtype(entry.dtype), data.len())
            })
            .collect();
        for (i, chunk) in data.chunks(CHUNK_BYTES).enumerate() {
            if self.observer.is_stopped() {
                return Err(Error::Interrupted);
            }
            let start = i * CHUNK_BYTES;
            self.file.will_need(first + start + AHEAD_BYTES, CHUNK_BYTES);
            digest.update(chunk);
            targets.iter_mut().try_for_each(|target| target.take(start, chunk, self.sink))?;
            self.observer.advance(chunk.len() as u64);
            if !reader.step(first + start + chunk.len()) {
                return Err(Error::Interrupted);
            }
        }
        let sha256 = digest.finish();
        let outputs = targets.into_iter().map(|target| target.finish(&sha256)).collect();
        Ok(RowHash { sha256, outputs })
    }
}
