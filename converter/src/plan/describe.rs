//! What is done with a source tensor, in words, for the ledger.

use super::output::{Output, Transform};
use super::row::{Action, Row};
use crate::architecture::{Mapping, Names};
use crate::normalized::TorchDtype;

/// What the row becomes of which `outputs` are made, in the plan's `rows`.
pub(super) fn describe(row: &Row, outputs: &[&Output], rows: &[Row], names: Names) -> (Action, String) {
    let (action, reason) = unconverted(row, outputs, rows, names);
    match (TorchDtype::from_dtype(row.source.dtype), outputs) {
        (Some(from), [output, ..]) if from != output.dtype && action != Action::Combined => {
            (Action::Converted, format!("{}; {reason}", rounded(from, output.dtype)))
        }
        _ => (action, reason),
    }
}

fn rounded(from: TorchDtype, to: TorchDtype) -> String {
    format!("{from} to {to}, rounded to nearest even")
}

fn unconverted(row: &Row, outputs: &[&Output], rows: &[Row], names: Names) -> (Action, String) {
    let name = &row.source.name;
    if let Some(output) = outputs.iter().find(|output| output.only_input().is_none()) {
        let of: Vec<String> =
            output.rows().iter().map(|&row| format!("`{}`", rows[row].source.name.escape_debug())).collect();
        let how = match output.transform {
            Transform::Stack => {
                let from = TorchDtype::from_dtype(row.source.dtype).filter(|from| *from != output.dtype);
                let rounded = from.map(|from| format!("; {}", rounded(from, output.dtype)));
                format!("the rows of {} one after the other{}", of.join(", "), rounded.unwrap_or_default())
            }
            Transform::Scale => format!(
                "{}: a weight and its scale, multiplied in float32, rounded to {}",
                of.join(", "),
                output.dtype
            ),
        };
        return (Action::Combined, how);
    }
    let is_whole =
        outputs.iter().all(|output| output.only_input().is_some_and(|input| input.is_whole(&row.source)));
    match (outputs, is_whole) {
        ([output], true) if output.name == *name => {
            (Action::Kept, "the name is the same in both layouts".to_string())
        }
        ([output], true) => (Action::Renamed, format!("the same tensor under the name `{}`", output.name)),
        _ => {
            let reason = match names.of_source(name).map(|names| names.mapping) {
                Some(Mapping::Split { reason, .. }) => reason,
                _ => "cut into several tensors",
            };
            (Action::Split, reason.to_string())
        }
    }
}
