//! One walk through the source's files: each byte comes from the disk once, is hashed for its file and its tensor, and written.
//! What is made of several inputs comes after it.

use std::collections::HashMap;

use rayon::prelude::*;

use super::assemble::Assembly;
use super::file_stream::{FileHash, FileStream, RowHash};
use super::observer::Observer;
use super::target::{OutputHash, Sink};
use crate::Error;
use crate::plan::Plan;
use crate::weights::Weights;

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
        .map(|file| FileStream { file, rows: &rows, plan, sink, observer }.walk())
        .collect::<Result<_, Error>>()?;

    let mut streamed = Streamed {
        rows: vec![String::new(); plan.rows.len()],
        kept: vec![None; plan.rows.len()],
        outputs: vec![OutputHash::default(); plan.outputs.len()],
        files: Vec::with_capacity(walked.len()),
    };
    let mut inputs = HashMap::new();
    for (file, hashes) in walked {
        streamed.files.push(file);
        for (row, hash) in hashes {
            streamed.rows[row] = hash.sha256;
            streamed.kept[row] = hash.kept;
            for (output, hash) in hash.outputs {
                streamed.outputs[output] = hash;
            }
            inputs.extend(hash.inputs);
        }
    }
    let assembly = Assembly { weights, plan, sink, observer, walked: &inputs };
    let of_several = (0..plan.outputs.len()).filter(|&output| plan.outputs[output].only_input().is_none());
    let made: Vec<(usize, OutputHash)> = of_several
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|output| Ok((output, assembly.make(output)?)))
        .collect::<Result<_, Error>>()?;
    for (output, hash) in made {
        streamed.outputs[output] = hash;
    }
    weights.check_unchanged()?;
    Ok(streamed)
}
