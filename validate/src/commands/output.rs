//! What the commands have to say, and where it goes.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use validate::{Error, Result};

/// A progress bar on stderr, hidden where that is no terminal.
pub(super) fn progress_bar(bytes: u64) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

pub(super) fn print(text: &str) -> Result<()> {
    release::print(text.as_bytes()).map_err(Error::Stdout)
}

/// Writes a file under a temporary name first, so that a partial one never has the final name.
pub(super) fn write_file(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let error = |source| Error::WriteReport { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(error)?;
    let mut builder = tempfile::Builder::new();
    // As readable as any new file, unlike a temporary one.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(error)?;
    file.write_all(text.as_bytes()).map_err(error)?;
    file.persist(&path).map_err(|persist| error(persist.error))?;
    Ok(())
}
