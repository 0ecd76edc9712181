//! The program's commands: arguments in, library calls, words out.

pub(crate) mod calibrate;
pub(crate) mod diff;
pub(crate) mod maps;
pub(crate) mod names;
mod output;
pub(crate) mod show;
pub(crate) mod sketch;

use std::path::PathBuf;

use golden::Dump;
use validate::Result;

fn open_all(paths: &[PathBuf]) -> Result<Vec<Dump>> {
    paths.iter().map(|path| Ok(Dump::open(path)?)).collect()
}
