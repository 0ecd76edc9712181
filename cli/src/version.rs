//! The version that the programs print, and leave in what they write.

/// The version, and the commit where it is known: `0.1.0 (2d4e4240a 2026-11-24)`.
///
/// `, modified` follows the day if the sources were changed since the commit. All packages of the workspace have one
/// version.
pub const VERSION: &str = if env!("NVL_COMMIT").is_empty() {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("NVL_COMMIT"), ")")
};

/// The commit that the programs are built from, its day, and `, modified` if the sources were changed since, where that is
/// known: for what the programs write, so that it tells which of them wrote it.
pub const COMMIT: Option<&str> = if env!("NVL_COMMIT").is_empty() { None } else { Some(env!("NVL_COMMIT")) };
