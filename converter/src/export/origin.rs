//! Where the bytes of a source tensor are now.

use std::collections::HashMap;
use std::ops::Range;

use crate::ledger::{LEDGER_FILE, LedgerInput, LedgerRow, LedgerTarget};
use crate::normalized::TorchDtype;
use crate::plan::Transform;
use crate::transform::Narrower;
use crate::weights::{Folder, HeaderEntry, Tensor, Weights};
use crate::{Error, TensorProblem};

/// A tensor of the source, and where its bytes are.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) name: String,
    pub(super) sha256: String,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    /// In normalized tensors, one after the other; of the second dtype there, of the first in the source.
    Targets(Vec<Piece>, Option<(TorchDtype, TorchDtype)>),
    /// In the ledger.
    Ledger(Vec<u8>),
}

/// Bytes of a normalized tensor.
#[derive(Debug)]
struct Piece {
    target: String,
    bytes: Range<usize>,
}

impl Restored {
    /// Gives `take` the tensor from its first to its last byte.
    pub(super) fn for_each_piece(
        &self,
        weights: &Weights,
        mut take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (pieces, change) = match &self.origin {
            Origin::Ledger(bytes) => return take(bytes),
            Origin::Targets(pieces, change) => (pieces, change),
        };
        let mut back = change.map(|(before, _)| Narrower::new(before));
        for Piece { target, bytes } in pieces {
            let Some(tensor) = weights.get(target) else { continue };
            tensor.for_each_piece_in(bytes.clone(), |piece| match &mut back {
                Some(back) => take(back.narrow(piece)),
                None => take(piece),
            })?;
        }
        Ok(())
    }
}

/// Where the tensor `entry` of the source's file `file` is, by its `row` of the ledger, whose `rows` are all.
pub(super) fn restored(
    entry: &HeaderEntry,
    file: &str,
    row: Option<&LedgerRow>,
    rows: &HashMap<&str, &LedgerRow>,
    folder: &Folder,
    weights: &Weights,
) -> Result<Restored, Error> {
    let bytes = entry.end - entry.start;
    let lie = |expected: String, found: String| {
        let field = format!("tensors, `{}`", entry.name.escape_debug());
        Error::field(&folder.file_path(LEDGER_FILE), field, expected, found)
    };
    let Some(row) = row else { return Err(lie("a row".into(), "none".into())) };
    let said = (row.source_file.as_str(), row.dtype.as_str(), row.shape.as_slice());
    let by_header = (file, &*entry.dtype.to_string(), entry.shape.as_slice());
    if said != by_header {
        return Err(lie(format!("{by_header:?}, as the source's header has it"), format!("{said:?}")));
    }
    let restored = |origin: Origin| Restored { name: entry.name.clone(), sha256: row.sha256.clone(), origin };
    if row.targets.is_empty() {
        if let Some(digits) = &row.bytes_hex {
            let kept = unhex(digits).filter(|kept| kept.len() == bytes);
            let kept = kept.ok_or_else(|| lie(format!("{bytes} bytes in `bytes_hex`"), "others".into()))?;
            return Ok(restored(Origin::Ledger(kept)));
        }
        let other = row.same_as.as_ref().and_then(|name| rows.get(name.as_str()));
        let Some(other) = other.filter(|other| !other.targets.is_empty()) else {
            return Err(Error::NotRestorable {
                path: folder.path().to_path_buf(),
                expected: "every tensor of the source",
                found: format!("none of `{}`, which was skipped: {}", entry.name.escape_debug(), row.reason),
                hint: "convert the source again: this version keeps what it takes to write everything back",
            });
        };
        return Ok(restored(of_targets(entry, other, rows, folder, weights)?));
    }
    Ok(restored(of_targets(entry, row, rows, folder, weights)?))
}

/// Checks that the targets are there and make up the tensor.
fn of_targets(
    entry: &HeaderEntry,
    row: &LedgerRow,
    rows: &HashMap<&str, &LedgerRow>,
    folder: &Folder,
    weights: &Weights,
) -> Result<Origin, Error> {
    let wrong = |problem: TensorProblem| Error::Tensors {
        path: folder.path().to_path_buf(),
        problems: vec![problem],
    };
    let mut targets: Vec<(&LedgerTarget, Tensor<'_>)> = Vec::with_capacity(row.targets.len());
    for target in &row.targets {
        let Some(tensor) = weights.get(&target.name) else {
            return Err(wrong(TensorProblem::Missing {
                name: target.name.clone(),
                shape: target.shape.clone(),
            }));
        };
        targets.push((target, tensor));
    }
    let pieces = if row.targets.iter().all(|target| target.inputs.is_empty()) {
        let whole = |(target, tensor): &(&LedgerTarget, Tensor<'_>)| Piece {
            target: target.name.clone(),
            bytes: 0..tensor.bytes(),
        };
        targets.iter().map(whole).collect()
    } else {
        pieces(row, &targets, rows).ok_or_else(|| Error::NotRestorable {
            path: folder.path().to_path_buf(),
            expected: "every tensor of the source",
            found: format!(
                "`{}` computed with others, or in part only, in `{}`",
                entry.name.escape_debug(),
                row.targets[0].name.escape_debug()
            ),
            hint: "keep the source: this conversion can't be undone",
        })?
    };
    let dtype = targets.last().map_or(entry.dtype, |(_, tensor)| tensor.dtype);
    let change = change(entry, dtype, folder)?;
    let found_bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
    let restored_bytes = match change {
        Some((before, after)) => found_bytes / after.elem_bytes() * before.elem_bytes(),
        None => found_bytes,
    };
    let bytes = entry.end - entry.start;
    if restored_bytes != bytes {
        return Err(wrong(TensorProblem::Value {
            name: row.targets[0].name.clone(),
            expected: format!("{bytes} bytes for `{}`", entry.name.escape_debug()),
            found: format!("{restored_bytes} bytes"),
        }));
    }
    Ok(Origin::Targets(pieces, change))
}

/// The dtype that the tensor had and the one that its numbers have now, where these differ.
fn change(
    entry: &HeaderEntry,
    now: safetensors::Dtype,
    folder: &Folder,
) -> Result<Option<(TorchDtype, TorchDtype)>, Error> {
    if now == entry.dtype {
        return Ok(None);
    }
    // Only float32 holds every value of the others: anything else was rounded, and the bits are gone.
    match TorchDtype::from_dtype(entry.dtype).zip(TorchDtype::from_dtype(now)) {
        Some((before, TorchDtype::Float32)) => Ok(Some((before, TorchDtype::Float32))),
        _ => Err(Error::NotRestorable {
            path: folder.path().to_path_buf(),
            expected: "the numbers of the source",
            found: format!("`{}` rounded from `{}` to `{now}`", entry.name.escape_debug(), entry.dtype),
            hint: "convert the source with `--dtype keep`, or with `float32`, which rounds nothing",
        }),
    }
}

/// The rows of the tensor of `row`, in their order, inside targets that say what they are made of; nothing where some of them
/// are not there as they were.
fn pieces(
    row: &LedgerRow,
    targets: &[(&LedgerTarget, Tensor<'_>)],
    rows: &HashMap<&str, &LedgerRow>,
) -> Option<Vec<Piece>> {
    let mut found: Vec<(Range<usize>, Piece)> = Vec::new();
    for (target, tensor) in targets {
        let row_bytes = tensor.bytes() / tensor.shape.first().copied().unwrap_or(1).max(1);
        let mut at = 0usize;
        for input in &target.inputs {
            let of_source = range(input, rows)?;
            // The shapes of other rows are only what the ledger says.
            let end = at.checked_add(of_source.len())?;
            if input.source == row.source
                && target.transform == Some(Transform::Stack)
                && input.columns.is_none()
            {
                let bytes = at.checked_mul(row_bytes)?..end.checked_mul(row_bytes)?;
                let within = bytes.end <= tensor.bytes();
                found.extend(within.then(|| (of_source, Piece { target: target.name.clone(), bytes })));
            }
            at = end;
        }
    }
    found.sort_by_key(|(of_source, _)| of_source.start);
    let mut end = 0;
    let mut pieces = Vec::new();
    for (of_source, piece) in found {
        if of_source.start == end {
            end = of_source.end;
            pieces.push(piece);
        }
    }
    (end == row.shape.first().copied().unwrap_or(1)).then_some(pieces)
}

/// Which rows an input takes of its source.
fn range(input: &LedgerInput, rows: &HashMap<&str, &LedgerRow>) -> Option<Range<usize>> {
    let all = rows.get(input.source.as_str())?.shape.first().copied().unwrap_or(1);
    match input.rows {
        None => Some(0..all),
        Some([start, end]) => (start <= end && end <= all).then_some(start..end),
    }
}

/// The bytes that lower-case hexadecimal digits stand for.
fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        digits.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
