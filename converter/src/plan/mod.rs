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
use make::{in_part, inputs_of, output};

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
        let expected = (architecture.layout)(config, Part::All);
        let mut builder = PlanBuilder::new(architecture, &expected, (architecture.duplicates)(config));
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
        let normalized = written.iter().filter_map(|tensor| {
            let made = made.get(&tensor.name)?;
            let inputs = inputs_of(&tensor.name, made, &shapes, &rows)?;
            Some(output(tensor.clone(), made, inputs, &rows, options.dtype))
        });
        let mut outputs = in_part(normalized.collect(), options.part, architecture.parts.name)
            .map_err(|problem| vec![problem])?;
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
