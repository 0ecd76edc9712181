//! Limits that the system sets to a process.

/// Lets writes beyond the limit of a file's size (`ulimit -f`) fail with an error, which the program then tells, instead of
/// ending it without a word. Every program calls it first.
pub fn tell_file_size_limit() {
    // SAFETY: ignoring a signal installs no handler; the call has no other precondition.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
