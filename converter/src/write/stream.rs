//! One walk through the source's files: each byte comes from the disk once, is hashed for its file and its tensor, and written.

use std::collections::HashMap;

use rayon::prelude::*;

use super::Observer;
use super::lane::{Lane, RowHash};
use crate::Error;
use crate::normalized::TorchDtype;
use crate::plan::{Output, Plan};
use crate::transform::Converter;
use crate::weights::Weights;
use store::hash::Digest;

/// Takes what is written.
pub trait Sink: Sync {
    /// Takes bytes of `output` that begin `offset` bytes into it.
    ///
    /// # Errors
    /// Where they can't be written.
    fn write(&self, output: &Output, offset: usize, bytes: &[u8]) -> Result<(), Error>;
}

/// What was learnt on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streamed {
    /// SHA-256 of each row's source tensor, in the order of the plan.
    pub rows: Vec<String>,
    /// The bytes of each row's source tensor, where it is small and not written.
    pub kept: Vec<Option<Vec<u8>>>,
    /// Of each output, in the order of the plan.
    pub outputs: Vec<OutputHash>,
    /// Of each file of weights, in the order of their names.
    pub files: Vec<FileHash>,
}

/// What was learnt of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputHash {
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Finite elements that became infinite when the dtype changed.
    pub overflows: u64,
}

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

/// Streams every tensor of `weights` to `sink` as `plan` says.
///
/// # Errors
/// Those of the sink; [`Error::Changed`] where somebody writes to a file meanwhile; [`Error::Interrupted`] where the observer
/// stops it.
pub fn stream(
    weights: &Weights,
    plan: &Plan,
    sink: &dyn Sink,
    observer: &dyn Observer,
) -> Result<Streamed, Error> {
    let rows: HashMap<&str, usize> =
        plan.rows.iter().enumerate().map(|(i, row)| (row.source.name.as_str(), i)).collect();
    let walked: Vec<(FileHash, Vec<(usize, RowHash)>)> = weights
        .files()
        .par_iter()
        .map(|file| Lane { file, rows: &rows, plan, sink, observer }.walk())
        .collect::<Result<_, Error>>()?;
    weights.check_unchanged()?;

    let mut streamed = Streamed {
        rows: vec![String::new(); plan.rows.len()],
        kept: vec![None; plan.rows.len()],
        outputs: vec![OutputHash::default(); plan.outputs.len()],
        files: Vec::with_capacity(walked.len()),
    };
    for (file, hashes) in walked {
        streamed.files.push(file);
        for (row, hash) in hashes {
            streamed.rows[row] = hash.sha256;
            streamed.kept[row] = hash.kept;
            for (&output, hash) in plan.rows[row].outputs.iter().zip(hash.outputs) {
                streamed.outputs[output] = hash;
            }
        }
    }
    Ok(streamed)
}

/// An output on its way.
pub(super) struct Target<'a> {
    output: &'a Output,
    /// Where the dtype changes.
    converter: Option<Converter>,
    /// Where the bytes are not exactly those of the source tensor.
    digest: Option<Digest>,
    written: usize,
}

impl<'a> Target<'a> {
    pub(super) fn new(output: &'a Output, from: Option<TorchDtype>, source_bytes: usize) -> Self {
        let converter =
            from.filter(|&from| from != output.dtype).map(|from| Converter::new(from, output.dtype));
        let is_whole = output.source_bytes == (0..source_bytes);
        let digest = (converter.is_some() || !is_whole).then(Digest::default);
        Self { output, converter, digest, written: 0 }
    }

    /// Takes what belongs to this output of a chunk that begins `start` bytes into the source tensor.
    pub(super) fn take(&mut self, start: usize, chunk: &[u8], sink: &dyn Sink) -> Result<(), Error> {
        let wanted = &self.output.source_bytes;
        let from = wanted.start.max(start) - start;
        let to = wanted.end.min(start + chunk.len()).saturating_sub(start);
        let Some(piece) = chunk.get(from..to).filter(|piece| !piece.is_empty()) else { return Ok(()) };
        let piece = match &mut self.converter {
            Some(converter) => converter.convert(piece),
            None => piece,
        };
        if let Some(digest) = &mut self.digest {
            digest.update(piece);
        }
        sink.write(self.output, self.written, piece)?;
        self.written += piece.len();
        Ok(())
    }

    pub(super) fn finish(self, source_sha256: &str) -> OutputHash {
        OutputHash {
            sha256: self.digest.map_or_else(|| source_sha256.to_string(), Digest::finish),
            overflows: self.converter.map_or(0, |converter| converter.overflows()),
        }
    }
}

/// Throws everything away: for hashes alone.
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    fn write(&self, _: &Output, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}
