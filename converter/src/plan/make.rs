//! From the sources of normalized tensors to the outputs of a part.

use std::collections::HashMap;

use super::builder::Made;
use super::inputs::listed;
use super::output::{Output, Slice, Transform};
use super::row::Row;
use crate::TensorProblem;
use crate::architecture::{Axis, Mapping, Part, TensorLayout};
use crate::error::visible;
use crate::normalized::TorchDtype;

/// The normalized tensor `tensor`, made as `made` says of the `rows`; `dtype` is what the user asked for.
///
/// # Errors
/// Where its inputs do not make it up.
pub(super) fn output(
    tensor: TensorLayout,
    made: &Made,
    shapes: &HashMap<&str, &[usize]>,
    rows: &[Row],
    dtype: Option<TorchDtype>,
) -> Result<Output, TensorProblem> {
    let inputs = inputs_of(&tensor, made, shapes, rows)?;
    let (own, transform, block) = match made.names.mapping {
        Mapping::Scale { dtype, block, .. } => {
            (dtype, Transform::Scale, block.sizes(&tensor.shape).unwrap_or_default())
        }
        _ => {
            // The builder has seen that it is the dtype of a weight.
            let own = TorchDtype::from_dtype(rows[inputs[0].row].source.dtype);
            (own.unwrap_or(TorchDtype::Float32), Transform::Stack, Vec::new())
        }
    };
    check_elements(&tensor, &inputs, transform, rows)?;
    let (TensorLayout { name, shape }, dtype) = (tensor, dtype.unwrap_or(own));
    Ok(Output { name, dtype, shape, inputs, transform, block, shard: 0, offset: 0 })
}

/// What the normalized tensor `tensor` is made of.
fn inputs_of(
    tensor: &TensorLayout,
    made: &Made,
    shapes: &HashMap<&str, &[usize]>,
    rows: &[Row],
) -> Result<Vec<Slice>, TensorProblem> {
    let mut inputs = Vec::with_capacity(made.sources.len());
    for (row, source) in made.sources.iter().zip(&made.names.sources) {
        let Some(row) = *row else {
            let (name, target) = (source.clone(), tensor.name.clone());
            return Err(TensorProblem::MissingInput { name, target });
        };
        inputs.push(Slice::whole(row, &rows[row].source));
    }
    let Mapping::Split { along, .. } = made.names.mapping else { return Ok(inputs) };
    let size = |target: &str| shapes.get(target).and_then(|shape| shape.get(along.dimension())).copied();
    let before = made.names.targets.iter().take_while(|target| **target != tensor.name);
    let start: usize = before.filter_map(|target| size(target)).sum();
    let (fits, needed) = match along {
        Axis::Rows => (!tensor.shape.is_empty(), "one dimension or more"),
        Axis::Columns => (tensor.shape.len() == 2, "two dimensions"),
    };
    let Some(size) = size(&tensor.name).filter(|_| fits) else {
        let source = visible(&made.names.sources[0]);
        return Err(TensorProblem::Value {
            name: tensor.name.clone(),
            expected: format!("{needed}, as `{source}` is cut along its {along}"),
            found: format!("shape {:?}", tensor.shape),
        });
    };
    match along {
        Axis::Rows => inputs[0].rows = start..start + size,
        Axis::Columns => inputs[0].columns = start..start + size,
    }
    Ok(inputs)
}

/// Checks that `inputs` have as many elements as `tensor`, and their sources have all of these.
fn check_elements(
    tensor: &TensorLayout,
    inputs: &[Slice],
    transform: Transform,
    rows: &[Row],
) -> Result<(), TensorProblem> {
    let of_elements = match transform {
        Transform::Stack => inputs,
        Transform::Scale => &inputs[..1],
    };
    let found: usize = of_elements.iter().map(|input| input.rows.len() * input.columns.len()).sum();
    let is_inside = inputs.iter().all(|input| {
        let source = &rows[input.row].source;
        input.rows.end <= source.rows() && input.columns.end <= source.columns()
    });
    if is_inside && found == tensor.shape.iter().product::<usize>() {
        return Ok(());
    }
    let sources = listed(inputs.iter().map(|input| &rows[input.row].source));
    Err(TensorProblem::Value {
        name: tensor.name.clone(),
        expected: format!("the elements of shape {:?}", tensor.shape),
        found: format!("{found} elements of {sources}"),
    })
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
            && !first.shape.is_empty()
            && (first.dtype, first.shape.get(1..)) == (output.dtype, output.shape.get(1..));
        if !fits {
            return Err(TensorProblem::Value {
                name: output.name.clone(),
                expected: format!("more rows of `{}`, which is {} so far", visible(&name), in_words(first)),
                found: in_words(&output),
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

/// What decides whether the rows of two tensors can follow each other.
fn in_words(output: &Output) -> String {
    let product = if output.transform == Transform::Scale { ", a product with its scale" } else { "" };
    format!("`{}` of shape {:?}{product}", output.dtype.dtype(), output.shape)
}
