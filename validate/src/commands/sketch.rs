//! `nvl-validate sketch`.

use globset::GlobMatcher;
use golden::{Dump, DumpWriter, WriteOptions};
use validate::arguments::SketchArguments;
use validate::{Error, Result};

use super::output::progress_bar;

/// Runs the command.
pub(crate) fn run(arguments: &SketchArguments) -> Result<bool> {
    let dump = Dump::open(&arguments.dump)?;
    let sites = sites(&dump, arguments)?;
    let mut options = WriteOptions::default();
    options.replace = arguments.force;
    let mut writer = DumpWriter::create_with(&arguments.out, options)?;
    let bar = progress_bar(dump.size_bytes());
    for entry in dump.entries() {
        if sites.is_empty() || sites.iter().any(|glob| glob.is_match(&entry.name)) {
            writer.push_of(&dump, &entry.key(), Some(arguments.seed))?;
        } else {
            writer.push_of(&dump, &entry.key(), None)?;
        }
        bar.inc(dump.tensor(entry)?.data().len() as u64);
    }
    writer.finish(dump.manifest().head())?;
    bar.finish_and_clear();
    Ok(true)
}

/// What matches the sites to sketch; nothing where all are.
///
/// # Errors
///
/// [`Error::NoSite`] if one of the globs matches none of the dump.
fn sites(dump: &Dump, arguments: &SketchArguments) -> Result<Vec<GlobMatcher>> {
    let sites = arguments.sites.iter().map(|glob| {
        let matcher = glob.compile_matcher();
        let is_there = dump.entries().iter().any(|entry| matcher.is_match(&entry.name));
        let missing = || Error::NoSite { path: arguments.dump.clone(), glob: glob.glob().to_owned() };
        is_there.then_some(matcher).ok_or_else(missing)
    });
    sites.collect()
}
