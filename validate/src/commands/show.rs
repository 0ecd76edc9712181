//! `nvl-validate show`.

use std::path::Path;

use golden::Dump;
use rayon::prelude::*;
use validate::{Result, metric, report};

use super::output::{print, progress_bar};

/// Runs the command.
pub(crate) fn run(path: &Path) -> Result<bool> {
    let dump = Dump::open(path)?;
    let bar = progress_bar(dump.size_bytes());
    let statistics: Vec<_> = dump
        .entries()
        .par_iter()
        .map(|entry| {
            if let Some(sketch) = dump.sketch(&entry.name) {
                return Ok(metric::Statistics::from(sketch));
            }
            let tensor = dump.tensor(entry)?;
            let statistics = metric::statistics(&tensor);
            bar.inc(tensor.data().len() as u64);
            Ok(statistics)
        })
        .collect::<Result<_>>()?;
    dump.check()?;
    bar.finish_and_clear();
    print(&report::show(&dump, &statistics))?;
    Ok(true)
}
