//! From the sources of normalized tensors to the outputs of a part.

use std::collections::HashMap;

use super::builder::Made;
use super::output::{Output, Slice, Transform};
use super::row::Row;
use crate::TensorProblem;
use crate::architecture::{Axis, Mapping, Part, TensorLayout};
use crate::normalized::TorchDtype;

/// What the normalized tensor `name` is made of.
pub(super) fn inputs_of(
    name: &str,
    made: &Made,
    shapes: &HashMap<&str, &[usize]>,
    rows: &[Row],
) -> Option<Vec<Slice>> {
    let mut inputs: Vec<Slice> = made
        .sources
        .iter()
        .map(|&row| row.map(|row| Slice::whole(row, &rows[row].source)))
        .collect::<Option<_>>()?;
    if let Mapping::Split { along, .. } = made.names.mapping {
        let size = |target: &str| shapes.get(target).and_then(|shape| shape.get(along.dimension())).copied();
        let before = made.names.targets.iter().take_while(|target| *target != name);
        let start: usize = before.filter_map(|target| size(target)).sum();
        let cut = start..start + size(name)?;
        match along {
            Axis::Rows => inputs[0].rows = cut,
            Axis::Columns => inputs[0].columns = cut,
        }
    }
    Some(inputs)
}

/// The normalized tensor `tensor`, made of `inputs`; `dtype` is what the user asked for.
pub(super) fn output(
    tensor: TensorLayout,
    made: &Made,
    inputs: Vec<Slice>,
    rows: &[Row],
    dtype: Option<TorchDtype>,
) -> Output {
    let own = match made.names.mapping {
        Mapping::Scale { dtype, .. } => dtype,
        // The builder has seen that it is one of these.
        _ => TorchDtype::from_dtype(rows[inputs[0].row].source.dtype).unwrap_or(TorchDtype::Float32),
    };
    let transform = match made.names.mapping {
        Mapping::Scale { .. } => Transform::Scale,
        _ => Transform::Stack,
    };
    let dtype = dtype.unwrap_or(own);
    Output { name: tensor.name, dtype, shape: tensor.shape, inputs, transform, shard: 0, offset: 0 }
}

/// The outputs under the names that a part has for them: those of one name become one.
pub(super) fn in_part(
    normalized: Vec<Output>,
    part: Part,
    name_in: fn(Part, &str) -> String,
) -> Result<Vec<Output>, TensorProblem> {
    let mut outputs: Vec<Output> = Vec::with_capacity(normalized.len());
    let mut places: HashMap<String, usize> = HashMap::new();
    for mut output in normalized {
        let name = name_in(part, &output.name);
        let Some(&place) = places.get(&name) else {
            places.insert(name.clone(), outputs.len());
            outputs.push(Output { name, ..output });
            continue;
        };
        let first = &mut outputs[place];
        let fits = first.transform == Transform::Stack
            && output.transform == Transform::Stack
            && (first.dtype, first.shape.get(1..)) == (output.dtype, output.shape.get(1..));
        if !fits {
            return Err(TensorProblem::Collision {
                name: output.name,
                target: name,
                first: first.name.clone(),
            });
        }
        first.shape[0] += output.shape[0];
        for input in output.inputs.drain(..) {
            match first.inputs.last().and_then(|last| last.joined(&input)) {
                Some(joined) => first.inputs.splice(first.inputs.len() - 1.., [joined]).for_each(drop),
                None => first.inputs.push(input),
            }
        }
    }
    Ok(outputs)
}
