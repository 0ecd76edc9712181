//! What the commands have to say, and where it goes.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use validate::{Error, Result, report};

/// A progress bar on stderr, hidden where that is no terminal.
pub(super) fn progress_bar(bytes: u64) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

pub(super) fn print(text: &str) -> Result<()> {
    cli::print(text.as_bytes()).map_err(Error::Stdout)
}

/// Writes `report.EXTENSION`, in the place of an earlier report or of nothing.
pub(super) fn write_report(folder: &Path, extension: &str, text: &str) -> Result<()> {
    const HEAD_BYTES: u64 = 4096;
    let name = format!("report.{extension}");
    let path = folder.join(&name);
    if fs::symlink_metadata(&path).is_ok() {
        let mut head = Vec::new();
        let read = store::open(&path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
        if read.is_err() || !report::is_report(extension, &String::from_utf8_lossy(&head)) {
            return Err(Error::InTheWay { path, expected: "nothing or an earlier report" });
        }
    }
    write_file(folder, &name, text)
}

/// Writes a file in the place of nothing: what is there may have been worked on.
pub(super) fn write_new(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let is_same = || store::read(&path, text.len() as u64).is_ok_and(|there| there == text.as_bytes());
    if fs::symlink_metadata(&path).is_ok() && !is_same() {
        return Err(Error::InTheWay { path, expected: "nothing or the same text" });
    }
    write_file(folder, name, text)
}

fn write_file(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let written = fs::create_dir_all(folder).and_then(|()| store::replace_file(&path, text.as_bytes()));
    written.map_err(|source| Error::WriteReport { path, source })
}
