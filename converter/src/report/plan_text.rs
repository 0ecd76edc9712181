//! `convert --dry-run` for people.

use std::fmt::Write;

use cli::escape::terminal;

use super::counted;
use crate::plan::{Action, Plan, human_bytes};

/// The whole plan: a line for each tensor of the source, and one for each file to write.
pub fn plan_text(plan: &Plan) -> String {
    let mut text = String::new();
    for row in &plan.rows {
        let action = match row.action {
            Action::Kept => "keep",
            Action::Renamed => "rename",
            Action::Split => "split",
            Action::Combined => "combine",
            Action::Converted => "convert",
            Action::Skipped => "skip",
        };
        let source = &row.source;
        // Writing into a `String` cannot fail.
        let _ = write!(text, "{action:8}{} {} {:?}", terminal(&source.name), source.dtype, source.shape);
        if row.outputs.is_empty() {
            let _ = writeln!(text, ": {}", terminal(&row.reason));
            continue;
        }
        let _ = writeln!(text);
        for &output in &row.outputs {
            let output = &plan.outputs[output];
            let file = &plan.shards[output.shard].file;
            let _ = writeln!(
                text,
                "     -> {} {} {:?} in {file}",
                terminal(&output.name),
                output.dtype.dtype(),
                output.shape
            );
        }
    }
    let _ = writeln!(text);
    for shard in &plan.shards {
        let bytes = (shard.header.len() + shard.data_bytes) as u64;
        let tensors = counted(shard.outputs.len(), "tensor");
        let _ = writeln!(text, "write   {}: {tensors}, {}", shard.file, human_bytes(bytes));
    }
    let sources = counted(plan.rows.len(), "tensor");
    let outputs = counted(plan.outputs.len(), "tensor");
    let bytes = human_bytes(plan.output_bytes());
    let _ = writeln!(text, "{sources} of the source become {outputs}, {bytes}; nothing was written");
    text
}
