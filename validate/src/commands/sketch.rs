//! `nvl-validate sketch`.

use golden::{Dump, DumpWriter, WriteOptions};
use validate::Result;
use validate::arguments::SketchArguments;

use super::output::progress_bar;

/// Runs the command.
pub(crate) fn run(arguments: &SketchArguments) -> Result<bool> {
    let dump = Dump::open(&arguments.dump)?;
    let mut options = WriteOptions::default();
    options.replace = arguments.force;
    let mut writer = DumpWriter::create_with(&arguments.out, options)?;
    let bar = progress_bar(dump.size_bytes());
    for entry in dump.entries() {
        writer.push_sketch_of(&dump, &entry.name, arguments.seed)?;
        bar.inc(dump.tensor(entry)?.data().len() as u64);
    }
    writer.finish(dump.manifest().head())?;
    bar.finish_and_clear();
    Ok(true)
}
