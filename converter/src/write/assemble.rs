//! Tensors that are made of several inputs. These lie anywhere in the source's files, so that one walk does not meet them in
//! their order, in which the output is hashed: they are read again, and what is read must be what was read on the walk.

use std::collections::HashMap;

use super::observer::Observer;
use super::target::{OutputHash, Sink};
use crate::normalized::TorchDtype;
use crate::plan::{Output, Plan, Transform};
use crate::scale::Scaler;
use crate::transform::Converter;
use crate::weights::Weights;
use crate::{Error, TensorProblem};
use store::hash::Digest;

/// An input: the output's place in the plan, and its own among the output's inputs.
pub(super) type Input = (usize, usize);

/// What the outputs of several inputs are made with.
pub(super) struct Assembly<'a> {
    pub(super) weights: &'a Weights,
    pub(super) plan: &'a Plan,
    pub(super) sink: &'a dyn Sink,
    pub(super) observer: &'a dyn Observer,
    /// The SHA-256 of each input's bytes, as they were on the walk.
    pub(super) walked: &'a HashMap<Input, String>,
}

impl Assembly<'_> {
    /// Makes the output at the place `index`, from its first to its last byte.
    pub(super) fn make(&self, index: usize) -> Result<OutputHash, Error> {
        let output = &self.plan.outputs[index];
        let mut made = Made { output, sink: self.sink, digest: Digest::default(), written: 0 };
        let overflows = match output.transform {
            Transform::Stack => self.stack(index, &mut made)?,
            Transform::Scale => self.scale(index, &mut made)?,
        };
        Ok(OutputHash { sha256: made.digest.finish(), overflows })
    }

    fn stack(&self, index: usize, made: &mut Made<'_>) -> Result<u64, Error> {
        let output = made.output;
        let mut overflows = 0;
        for (i, input) in output.inputs.iter().enumerate() {
            let from = TorchDtype::from_dtype(self.plan.rows[input.row].source.dtype);
            let change = from.filter(|&from| from != output.dtype);
            let mut converter = change.map(|from| Converter::new(from, output.dtype));
            self.read((index, i), |piece| match &mut converter {
                Some(converter) => made.take(converter.convert(piece)),
                None => made.take(piece),
            })?;
            overflows += converter.map_or(0, |converter| converter.overflows());
        }
        Ok(overflows)
    }

    fn scale(&self, index: usize, made: &mut Made<'_>) -> Result<u64, Error> {
        let output = made.output;
        let source = |i: usize| &self.plan.rows[output.inputs[i].row].source;
        let mut scale = Vec::new();
        self.read((index, 1), |piece| {
            scale.extend_from_slice(piece);
            Ok(())
        })?;
        let weight = (source(0).dtype, source(0).shape.as_slice());
        let mut scaler = Scaler::new(weight, &output.block, (source(1).dtype, &scale), output.dtype);
        self.read((index, 0), |piece| made.take(scaler.scale(piece)))?;
        Ok(scaler.overflows())
    }

    /// Gives `take` the bytes of an input.
    fn read(&self, input: Input, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let slice = &self.plan.outputs[input.0].inputs[input.1];
        let source = &self.plan.rows[slice.row].source;
        let Some(tensor) = self.weights.get(&source.name) else {
            let (name, shape) = (source.name.clone(), source.shape.clone());
            let path =
                self.weights.files().first().map_or_else(Default::default, |file| file.path().to_path_buf());
            return Err(Error::Tensors { path, problems: vec![TensorProblem::Missing { name, shape }] });
        };
        let bytes = slice.bytes_in(source);
        let span = bytes.span();
        let (mut at, mut buffer, mut digest) = (span.start, Vec::new(), Digest::default());
        tensor.for_each_piece_in(span, |chunk| {
            if self.observer.is_stopped() {
                return Err(Error::Interrupted);
            }
            let piece = bytes.of_chunk(at, chunk, &mut buffer);
            at += chunk.len();
            self.observer.advance(chunk.len() as u64);
            digest.update(piece);
            take(piece)
        })?;
        if self.walked.get(&input).is_some_and(|walked| *walked == digest.finish()) {
            return Ok(());
        }
        tensor.file.check_unchanged()?;
        let message = format!(
            "expected the bytes of `{}` that were read before, found others",
            source.name.escape_debug()
        );
        Err(Error::changed(tensor.file.path())(std::io::Error::other(message)))
    }
}

/// An output on its way.
struct Made<'a> {
    output: &'a Output,
    sink: &'a dyn Sink,
    digest: Digest,
    written: usize,
}

impl Made<'_> {
    fn take(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.digest.update(piece);
        self.sink.write(self.output, self.written, piece)?;
        self.written += piece.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plan::{Action, Row, Slice, SourceTensor};
    use crate::weights::Folder;
    use crate::write::{NullSink, Unwatched};
    use store::hash::sha256;

    /// The file does not change: only the hash of what was read before tells that it was another then.
    #[test]
    fn a_second_reading_that_gives_other_bytes_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let header = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header, &[1, 2, 3, 4, 5, 6, 7, 8]].concat();
        fs::write(dir.path().join("model.safetensors"), file).unwrap();
        let weights = Weights::open(&Folder::open(dir.path()).unwrap()).unwrap();
        let rows: Vec<Row> = SourceTensor::all(&weights)
            .into_iter()
            .map(|source| Row {
                source,
                action: Action::Combined,
                reason: String::new(),
                outputs: vec![0],
                same_as: None,
            })
            .collect();
        let output = Output {
            name: "ab".into(),
            dtype: TorchDtype::Float32,
            shape: vec![2],
            inputs: (0..2).map(|row| Slice::whole(row, &rows[row].source)).collect(),
            transform: Transform::Stack,
            block: Vec::new(),
            shard: 0,
            offset: 0,
        };
        let plan = Plan { rows, outputs: vec![output], shards: Vec::new() };
        let made = |second: &[u8]| {
            let walked = HashMap::from([((0, 0), sha256(&[1, 2, 3, 4])), ((0, 1), sha256(second))]);
            let (sink, observer) = (&NullSink, &Unwatched);
            Assembly { weights: &weights, plan: &plan, sink, observer, walked: &walked }.make(0)
        };
        assert_eq!(made(&[5, 6, 7, 8]).unwrap().sha256, sha256(&[1, 2, 3, 4, 5, 6, 7, 8]));
        let error = made(&[5, 6, 7, 9]).unwrap_err();
        assert!(matches!(error, Error::Changed { .. }), "{error}");
    }
}
