//! Whether several source tensors fit together into one.

use safetensors::Dtype;

use super::source_tensor::SourceTensor;
use crate::TensorProblem;
use crate::architecture::{Block, Mapping, TensorLayout};
use crate::error::visible;
use crate::normalized::TorchDtype;

/// The largest scale: it is held while what it scales is read.
const MAX_SCALE_BYTES: usize = 1 << 28;

/// What is wrong with `sources`, which are all there, as inputs of `target`; `fused` are the shapes of those that are fused, and
/// `dtype` is what the user asked for.
pub(super) fn check_inputs(
    mapping: Mapping,
    target: &TensorLayout,
    sources: &[&SourceTensor],
    fused: &[TensorLayout],
    dtype: Option<TorchDtype>,
) -> Vec<TensorProblem> {
    match (mapping, sources) {
        (Mapping::Scale { block, .. }, [weight, scale]) => {
            check_scale(target, weight, scale, block).into_iter().collect()
        }
        _ => check_stack(target, sources, fused, dtype),
    }
}

fn check_stack(
    target: &TensorLayout,
    sources: &[&SourceTensor],
    fused: &[TensorLayout],
    dtype: Option<TorchDtype>,
) -> Vec<TensorProblem> {
    let mut problems: Vec<TensorProblem> = sources
        .iter()
        .filter(|source| TorchDtype::from_dtype(source.dtype).is_none())
        .map(|s| of_no_weight(s))
        .collect();
    for source in sources {
        let (name, found) = (source.name.clone(), source.shape.clone());
        match fused.iter().find(|tensor| tensor.name == source.name) {
            Some(layout) if layout.shape == source.shape => {}
            Some(layout) => {
                problems.push(TensorProblem::Shape { name, expected: layout.shape.clone(), found })
            }
            None => problems.push(TensorProblem::Value {
                name,
                expected: format!(
                    "the family to say its shape, as it is fused into `{}`",
                    visible(&target.name)
                ),
                found: "none".into(),
            }),
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    let rows: usize = sources.iter().filter_map(|source| source.shape.first()).sum();
    let expected = target.shape.first().copied().unwrap_or(1);
    let wrong = |name: &str, expected: String, found: String| {
        vec![TensorProblem::Value { name: name.to_string(), expected, found }]
    };
    if rows != expected {
        let expected = format!("{expected} rows of {} together", listed(sources.iter().copied()));
        return wrong(&target.name, expected, format!("{rows}"));
    }
    let (first, rest) = (sources[0], &sources[1..]);
    match rest.iter().find(|source| source.dtype != first.dtype) {
        // Nobody said which of the dtypes is the target's.
        Some(other) if dtype.is_none() => {
            let expected = format!("dtype `{}`, which `{}` has", first.dtype, visible(&first.name));
            wrong(&other.name, expected, format!("`{}`", other.dtype))
        }
        _ => Vec::new(),
    }
}

fn check_scale(
    target: &TensorLayout,
    weight: &SourceTensor,
    scale: &SourceTensor,
    block: Block,
) -> Option<TensorProblem> {
    if weight.dtype != Dtype::F8_E4M3 && TorchDtype::from_dtype(weight.dtype).is_none() {
        let expected = "`F8_E4M3`, `F32`, `BF16` or `F16`";
        return Some(TensorProblem::Dtype { name: weight.name.clone(), expected, found: weight.dtype });
    }
    if TorchDtype::from_dtype(scale.dtype).is_none() {
        return Some(of_no_weight(scale));
    }
    if weight.shape != target.shape {
        let (name, expected) = (weight.name.clone(), target.shape.clone());
        return Some(TensorProblem::Shape { name, expected, found: weight.shape.clone() });
    }
    let wrong = |expected: String| {
        let found = format!("shape {:?}", scale.shape);
        Some(TensorProblem::Value { name: scale.name.clone(), expected, found })
    };
    let Some(sizes) = block.sizes(&weight.shape) else {
        let expected = format!("blocks that fit shape {:?}", weight.shape);
        let found = format!("{block:?} in the family's table");
        return Some(TensorProblem::Value { name: weight.name.clone(), expected, found });
    };
    let expected: Vec<usize> =
        weight.shape.iter().zip(&sizes).map(|(size, block)| size.div_ceil(*block)).collect();
    // Dimensions of 1 at the end may be left out.
    let fits = expected.strip_prefix(scale.shape.as_slice()).is_some_and(|rest| rest.iter().all(|&n| n == 1));
    if !fits {
        let name = visible(&weight.name);
        return wrong(format!("shape {expected:?}, a number for each block {sizes:?} of `{name}`"));
    }
    if scale.bytes() > MAX_SCALE_BYTES {
        return wrong(format!("a scale of at most {MAX_SCALE_BYTES} bytes"));
    }
    None
}

/// The names of some source tensors, for a message.
pub(super) fn listed<'a>(sources: impl IntoIterator<Item = &'a SourceTensor>) -> String {
    let names = sources.into_iter().map(|source| format!("`{}`", visible(&source.name)));
    names.collect::<Vec<_>>().join(", ")
}

/// `source` has a dtype that no weight has.
pub(super) fn of_no_weight(source: &SourceTensor) -> TensorProblem {
    TensorProblem::Dtype { name: source.name.clone(), expected: TorchDtype::CODES, found: source.dtype }
}
