//! Standard output, where a program's data goes.

use std::io::{self, Write as _};

/// Writes to stdout; a reader that has seen enough, such as `head`, is no failure.
///
/// # Errors
///
/// What the system says, of a full disk for example.
pub fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
