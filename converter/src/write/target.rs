//! Where bytes go, and what is learnt of an output on the way.

use store::hash::Digest;

use crate::Error;
use crate::normalized::TorchDtype;
use crate::plan::{Output, Slice, SliceBytes, SourceTensor};
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
    input: SliceBytes,
    /// Where the dtype changes.
    converter: Option<Converter>,
    /// Where the bytes are not exactly those of the source tensor.
    digest: Option<Digest>,
    written: usize,
    buffer: Vec<u8>,
}

impl<'a> Target<'a> {
    /// An output that is made of `input`, which is of `source`, alone.
    pub(super) fn new(output: &'a Output, input: &Slice, source: &SourceTensor) -> Self {
        let from = TorchDtype::from_dtype(source.dtype);
        let converter =
            from.filter(|&from| from != output.dtype).map(|from| Converter::new(from, output.dtype));
        let digest = (converter.is_some() || !input.is_whole(source)).then(Digest::default);
        Self { output, input: input.bytes_in(source), converter, digest, written: 0, buffer: Vec::new() }
    }

    /// Takes what belongs to this output of a chunk that begins `start` bytes into the source tensor.
    pub(super) fn take(&mut self, start: usize, chunk: &[u8], sink: &dyn Sink) -> Result<(), Error> {
        let piece = self.input.of_chunk(start, chunk, &mut self.buffer);
        if piece.is_empty() {
            return Ok(());
        }
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

/// What an output of several inputs takes of a source tensor.
pub(super) struct InputHash {
    bytes: SliceBytes,
    /// Where the bytes are not exactly those of the source tensor.
    digest: Option<Digest>,
    buffer: Vec<u8>,
}

impl InputHash {
    pub(super) fn new(input: &Slice, source: &SourceTensor) -> Self {
        let digest = (!input.is_whole(source)).then(Digest::default);
        Self { bytes: input.bytes_in(source), digest, buffer: Vec::new() }
    }

    pub(super) fn take(&mut self, start: usize, chunk: &[u8]) {
        if let Some(digest) = &mut self.digest {
            digest.update(self.bytes.of_chunk(start, chunk, &mut self.buffer));
        }
    }

    pub(super) fn finish(self, source_sha256: &str) -> String {
        self.digest.map_or_else(|| source_sha256.to_string(), Digest::finish)
    }
}

/// Throws everything away: for hashes alone.
pub struct NullSink;

impl Sink for NullSink {
    fn write(&self, _: &Output, _: usize, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }
}
