//! What a module's inputs pass on, row by row.

use super::site::Source;
use crate::compared::Compared;
use crate::model::RowAlignment;

/// The relative error that each of an entry's rows has from its inputs: the largest of them.
pub(super) fn inherited(
    compared: &Compared<'_>,
    count: usize,
    sources: &[(&Compared<'_>, Source)],
) -> Vec<f64> {
    /// Stands for the error of an input that is not known in parts: whole numbers, or rows of length zero.
    const ANY: f64 = 1e9;
    let mut largest = vec![0.0_f64; count];
    for (input, source) in sources {
        let Some(measurement) = input.measurement.filter(|measurement| measurement.differs()) else {
            continue;
        };
        let errors: Vec<f64> = if measurement.rows.is_empty() {
            vec![ANY]
        } else {
            measurement.rows.iter().map(|row| f64::from(row.relative).clamp(0.0, ANY)).collect()
        };
        let aligned = align(source.rows, &compared.entry.shape, &input.entry.shape, errors.len(), count);
        let mut blocks = None;
        for (row, largest) in largest.iter_mut().enumerate() {
            let error = match &aligned {
                Aligned::Row(of) => of(row).and_then(|row| errors.get(row)).copied().unwrap_or(0.0),
                Aligned::Block { parts } => {
                    let maxima: &Vec<f64> = blocks.get_or_insert_with(|| {
                        let chunk = errors.len().div_ceil(*parts).max(1);
                        errors.chunks(chunk).map(|part| part.iter().copied().fold(0.0, f64::max)).collect()
                    });
                    maxima.get(row * maxima.len() / count).copied().unwrap_or(0.0)
                }
            };
            *largest = largest.max(error);
        }
    }
    largest
}

/// Which input rows belong to an output row.
enum Aligned {
    /// One, or none.
    Row(Box<dyn Fn(usize) -> Option<usize>>),
    /// All of the part of the same number.
    Block { parts: usize },
}

fn align(
    rows: RowAlignment,
    output: &[usize],
    input: &[usize],
    input_rows: usize,
    output_rows: usize,
) -> Aligned {
    let sequence = |shape: &[usize]| match shape {
        &[.., tokens, _] if tokens > 0 => Some(tokens),
        _ => None,
    };
    match rows {
        RowAlignment::Same if input_rows == output_rows => Aligned::Row(Box::new(Some)),
        RowAlignment::Same | RowAlignment::FromEnd => match (sequence(output), sequence(input)) {
            (Some(to), Some(from)) if output_rows / to == input_rows / from => {
                Aligned::Row(Box::new(move |row| {
                    let (batch, token) = (row / to, row % to);
                    Some(batch * from + (token + from).checked_sub(to)?)
                }))
            }
            _ => Aligned::Block { parts: 1 },
        },
        _ => {
            let outermost = |shape: &[usize]| shape.first().copied().filter(|_| shape.len() > 1);
            let parts = match (outermost(output), outermost(input)) {
                (Some(to), Some(from)) if to == from && to > 0 => to,
                _ => 1,
            };
            Aligned::Block { parts }
        }
    }
}
