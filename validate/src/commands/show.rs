//! `nvl-validate show`.

use golden::{Dump, Entry};
use rayon::prelude::*;
use validate::arguments::ShowArguments;
use validate::{Result, metric, report};

use super::output::{print, progress_bar};
use super::sites::chosen;

/// Runs the command.
pub(crate) fn run(arguments: &ShowArguments) -> Result<bool> {
    let dump = Dump::open(&arguments.dump)?;
    let chosen = chosen(&dump, &arguments.sites)?;
    if let Some(format) = arguments.graph {
        print(&report::graph(&dump, &chosen, format))?;
        return Ok(true);
    }
    let bar = progress_bar(dump.size_bytes());
    let entries: Vec<&Entry> =
        dump.entries().iter().zip(chosen).filter_map(|(entry, chosen)| chosen.then_some(entry)).collect();
    let statistics: Vec<_> = entries
        .par_iter()
        .map(|entry| {
            if let Some(sketch) = dump.sketch(&entry.key()) {
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
    print(&report::show(&dump, &entries, &statistics))?;
    Ok(true)
}
