//! `nvl-validate calibrate`.

use golden::Dump;
use validate::arguments::CalibrateArguments;
use validate::{Noise, Result, calibrate};

use super::open_all;
use super::output::{print, progress_bar};

/// Runs the command.
pub(crate) fn run(arguments: &CalibrateArguments) -> Result<bool> {
    let golden = Dump::open(&arguments.golden)?;
    let runs = open_all(&arguments.runs)?;
    let bar = progress_bar(runs.iter().map(Dump::size_bytes).sum());
    let noise =
        Noise::measure(&golden, &runs, arguments.factor, !arguments.no_verify, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    print(&calibrate(&golden, &runs, &noise))?;
    Ok(true)
}
