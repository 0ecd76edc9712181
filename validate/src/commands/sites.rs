//! The sites of a dump that a command is for.

use globset::{Glob, GlobMatcher};
use golden::Dump;
use validate::{Error, Result};

/// Whether each of a dump's entries matches one of some globs; all do where there is none.
///
/// # Errors
///
/// [`Error::NoSite`] if one of the globs matches no entry.
pub(super) fn chosen(dump: &Dump, globs: &[Glob]) -> Result<Vec<bool>> {
    let matchers: Vec<GlobMatcher> = globs.iter().map(Glob::compile_matcher).collect();
    let names: Vec<&str> = dump.entries().iter().map(|entry| entry.name.as_str()).collect();
    if let Some(idle) = matchers.iter().find(|glob| !names.iter().any(|name| glob.is_match(name))) {
        return Err(Error::NoSite { path: dump.path().to_owned(), glob: idle.glob().to_string() });
    }
    let matches = |name: &&str| matchers.is_empty() || matchers.iter().any(|glob| glob.is_match(name));
    Ok(names.iter().map(matches).collect())
}
