//! Where bytes go, and what is learnt of an output on the way.

use store::hash::Digest;

use crate::Error;
use crate::normalized::TorchDtype;
use crate::plan::Output;
use crate::transform::Converter;

/// Takes what is written.
pub trait Sink: Sync {
    /// Takes bytes of `output` that begin `offset` bytes into it.
    ///
    /// # Errors
    /// Where they can't be written.
    fn write(&self, output: &Output, offset: usize, bytes: &[u8]) -> Result<(), Error>;
}

/// What was learnt of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputHash {
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Finite elements that became infinite when the dtype changed.
    pub overflows: u64,
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
pub(crate) struct NullSink;

impl Sink for NullSink {
    fn write(&self, _: &Output, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}
