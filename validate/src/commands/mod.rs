//! The program's commands: arguments in, library calls, words out.

pub(crate) mod calibrate;
pub(crate) mod diff;
pub(crate) mod maps;
pub(crate) mod names;
mod output;
pub(crate) mod show;
mod sites;
pub(crate) mod sketch;

use std::path::PathBuf;

use golden::Dump;
use validate::{Result, arguments};

fn open_all(paths: &[PathBuf]) -> Result<Vec<Dump>> {
    paths.iter().map(|path| Ok(Dump::open(path)?)).collect()
}

/// Prints completions or manual pages of the program itself.
pub(crate) fn common(command: cli::Command) -> Result<bool> {
    command.run(arguments::command())?;
    Ok(true)
}
