//! `nvl-validate names`.

use std::io::Write as _;
use std::path::Path;

use cli::escape::terminal;
use golden::Dump;
use validate::{Result, names};

use super::output::{print, write_new};

/// Runs the command: whether every golden entry has a counterpart.
pub(crate) fn run(golden: &Path, candidate: &Path, out: Option<&Path>) -> Result<bool> {
    let (golden, candidate) = (Dump::open(golden)?, Dump::open(candidate)?);
    let proposal = names::propose(&golden, &candidate)?;
    match out {
        None => print(&proposal.text)?,
        Some(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            write_new(store::parent_of(path), &name, &proposal.text)?;
        }
    }
    let mut stderr = anstream::stderr();
    // Nothing can be said about a closed stderr; the status says it.
    let _ = writeln!(
        stderr,
        "{} of {} golden entries have a counterpart",
        proposal.matched,
        golden.entries().len()
    );
    let lists = [
        ("golden entries without one", &proposal.unmatched),
        ("tensors of the candidate that are left", &proposal.left),
    ];
    for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        const SHOWN: usize = 12;
        let shown: Vec<String> = names.iter().take(SHOWN).map(|name| terminal(name)).collect();
        let more = names.len().saturating_sub(SHOWN);
        let rest = if more > 0 { format!(" and {more} more (the map lists all)") } else { String::new() };
        let _ = writeln!(stderr, "{} {what}: {}{rest}", names.len(), shown.join(", "));
    }
    Ok(proposal.unmatched.is_empty())
}
