//! Decides what is read and written: headers in, plan out, nothing touched.

mod builder;
mod describe;
mod inputs;
mod make;
mod output;
mod row;
mod shards;
mod size;
mod source_tensor;

pub use output::{Output, Slice, SliceBytes, Transform};
pub use row::{Action, Row};
pub use shards::Shard;
pub use size::{ShardSize, human_bytes};
pub use source_tensor::SourceTensor;

use crate::TensorProblem;
use crate::architecture::{Architecture, Part};
use crate::normalized::{Config, TorchDtype};

use builder::PlanBuilder;
use make::{in_part, output};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// The part of the model to write.
    pub part: Part,
    /// The dtype to convert weights to; `None` keeps each.
    pub dtype: Option<TorchDtype>,
    /// The largest file, unless a single tensor is larger.
    pub max_shard_size: ShardSize,
}

impl PlanOptions {
    /// Changes nothing: all of the model, each tensor in its own dtype.
    pub const KEEP: Self = Self { part: Part::All, dtype: None, max_shard_size: ShardSize::DEFAULT };
}

/// Everything that a conversion will do to tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// A row for each tensor of the source, in the order of its files.
    pub rows: Vec<Row>,
    /// The tensors to write, in the order in which the model uses them.
    pub outputs: Vec<Output>,
    /// The files to write.
    pub shards: Vec<Shard>,
}

impl Plan {
    /// Plans the conversion of `tensors` under `config`: every one is accounted for exactly once, and together they make
    /// exactly what the configuration implies.
    ///
    /// # Errors
    /// Every tensor that is missing, unknown, of a wrong shape or dtype, in the way of another, or not supported.
    pub fn new(
        architecture: &Architecture,
        tensors: Vec<SourceTensor>,
        config: &Config,
        options: PlanOptions,
    ) -> Result<Self, Vec<TensorProblem>> {
        let wrong_lines = architecture.names.wrong_lines();
        if !wrong_lines.is_empty() {
            return Err(wrong_lines);
        }
        let expected = (architecture.layout)(config, Part::All);
        let (fused, duplicates) = ((architecture.fused)(config), (architecture.duplicates)(config));
        let mut builder = PlanBuilder::new(architecture, &expected, &fused, duplicates);
        for tensor in tensors {
            builder.take(tensor);
        }
        builder.finish(&expected, options.dtype);
        let PlanBuilder { mut rows, made, problems, .. } = builder;
        if !problems.is_empty() {
            return Err(problems);
        }

        let shapes = expected.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
        let written = (architecture.layout)(config, options.part);
        let (mut normalized, mut problems) = (Vec::with_capacity(written.len()), Vec::new());
        for tensor in written {
            match made.get(&tensor.name) {
                Some(made) => match output(tensor, made, &shapes, &rows, options.dtype) {
                    Ok(output) => normalized.push(output),
                    Err(problem) => problems.push(problem),
                },
                None => problems.push(TensorProblem::Missing { name: tensor.name, shape: tensor.shape }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut outputs =
            in_part(normalized, options.part, architecture.parts.name).map_err(|problem| vec![problem])?;
        for (i, output) in outputs.iter().enumerate() {
            for row in output.rows() {
                rows[row].outputs.push(i);
            }
        }
        describe_rows(&mut rows, &outputs, architecture, options.part);
        let buffers = (architecture.parts.buffers)(config, options.part);
        let apart = (architecture.parts.apart)(options.part);
        let shards = shards::assign(&mut outputs, buffers, apart, options.max_shard_size);
        Ok(Self { rows, outputs, shards })
    }

    /// Bytes that are read a second time: the inputs of outputs that have several.
    pub fn reread_bytes(&self) -> u64 {
        let of_several = self.outputs.iter().filter(|output| output.only_input().is_none());
        let inputs = of_several.flat_map(|output| &output.inputs);
        inputs.map(|input| input.bytes_in(&self.rows[input.row].source).span().len() as u64).sum()
    }

    /// Bytes of all tensors to write.
    pub fn output_bytes(&self) -> u64 {
        self.outputs.iter().map(|output| output.bytes() as u64).sum()
    }
}

/// Says of each row that something is made of, or could be, what is done with it.
fn describe_rows(rows: &mut [Row], outputs: &[Output], architecture: &Architecture, part: Part) {
    for i in 0..rows.len() {
        if rows[i].action == Action::Skipped {
            continue;
        }
        // Targets of a split tensor in the order of its rows.
        let start = |&output: &usize| {
            let inputs = outputs[output].inputs.iter().filter(|input| input.row == i);
            inputs.map(|input| (input.rows.start, input.columns.start)).min()
        };
        rows[i].outputs.sort_by_key(start);
        let made: Vec<&Output> = rows[i].outputs.iter().map(|&output| &outputs[output]).collect();
        let (action, reason) = match made.as_slice() {
            [] => (Action::Skipped, format!("not in the part that was asked for, `{part}`")),
            made => describe::describe(&rows[i], made, rows, architecture.names),
        };
        (rows[i].action, rows[i].reason) = (action, reason);
    }
}
