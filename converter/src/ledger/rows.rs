//! The ledger's rows of tensors, from the plan and from what was learnt on the way.

use super::{LedgerInput, LedgerRow, LedgerTarget};
use crate::plan::{Output, Plan, Row, Slice};
use crate::write::Streamed;
use store::hash::{hex, sha256};

/// A row for each tensor of the source, in the order of the plan.
pub fn tensor_rows(plan: &Plan, streamed: &Streamed) -> Vec<LedgerRow> {
    let rows = plan.rows.iter().zip(&streamed.rows).zip(&streamed.kept);
    rows.map(|((row, sha256), kept)| {
        let is_plain = is_plain(plan, row);
        let targets = row.outputs.iter().map(|&i| {
            let (output, hash) = (&plan.outputs[i], &streamed.outputs[i]);
            LedgerTarget {
                name: output.name.clone(),
                file: plan.shards[output.shard].file.clone(),
                dtype: output.dtype.dtype().to_string(),
                shape: output.shape.clone(),
                sha256: hash.sha256.clone(),
                overflows: hash.overflows,
                transform: (!is_plain).then_some(output.transform),
                block: output.block.clone(),
                inputs: if is_plain { Vec::new() } else { inputs(plan, output) },
            }
        });
        LedgerRow {
            source: row.source.name.clone(),
            source_file: row.source.file.clone(),
            action: row.action,
            reason: row.reason.clone(),
            dtype: row.source.dtype.to_string(),
            shape: row.source.shape.clone(),
            sha256: sha256.clone(),
            targets: targets.collect(),
            bytes_hex: kept.as_deref().map(hex),
            same_as: row.same_as.map(|duplicate| duplicate.of.to_string()),
        }
    })
    .collect()
}

/// The rows of the buffers.
pub fn buffer_rows(plan: &Plan) -> Vec<LedgerTarget> {
    let all = plan.shards.iter().flat_map(|shard| shard.buffers.iter().map(move |buffer| (shard, buffer)));
    all.map(|(shard, buffer)| LedgerTarget {
        name: buffer.name.into(),
        file: shard.file.clone(),
        dtype: buffer.dtype.to_string(),
        shape: buffer.shape.clone(),
        sha256: sha256(&buffer.bytes),
        overflows: 0,
        transform: None,
        block: Vec::new(),
        inputs: Vec::new(),
    })
    .collect()
}

/// Whether the targets of a row, one after the other, are its tensor, and nothing else is in them.
fn is_plain(plan: &Plan, row: &Row) -> bool {
    let mut end = 0;
    let follow = row.outputs.iter().all(|&output| {
        let Some(Slice { rows, columns, .. }) = plan.outputs[output].only_input() else { return false };
        let follows = rows.start == end && columns.len() == row.source.columns();
        end = rows.end;
        follows
    });
    follow && (row.outputs.is_empty() || end == row.source.rows())
}

fn inputs(plan: &Plan, output: &Output) -> Vec<LedgerInput> {
    let inputs = output.inputs.iter().map(|input| {
        let source = &plan.rows[input.row].source;
        let part = |range: &std::ops::Range<usize>, all: usize| {
            (*range != (0..all)).then_some([range.start, range.end])
        };
        LedgerInput {
            source: source.name.clone(),
            rows: part(&input.rows, source.rows()),
            columns: part(&input.columns, source.columns()),
        }
    });
    inputs.collect()
}
