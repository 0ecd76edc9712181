//! `nvl-validate sketch`.

use golden::{Dump, DumpWriter, WriteOptions};
use validate::Result;
use validate::arguments::SketchArguments;

use super::output::progress_bar;
use super::sites::chosen;

/// Runs the command.
pub(crate) fn run(arguments: &SketchArguments) -> Result<bool> {
    let dump = Dump::open(&arguments.dump)?;
    let sketched = chosen(&dump, &arguments.sites)?;
    let mut options = WriteOptions::default();
    options.replace = arguments.force;
    let mut writer = DumpWriter::create_with(&arguments.out, options)?;
    let bar = progress_bar(dump.size_bytes());
    for (entry, sketched) in dump.entries().iter().zip(sketched) {
        writer.push_of(&dump, &entry.key(), sketched.then_some(arguments.seed))?;
        bar.inc(dump.tensor(entry)?.data().len() as u64);
    }
    writer.finish(dump.manifest().head())?;
    bar.finish_and_clear();
    Ok(true)
}
