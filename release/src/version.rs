//! The version that the programs print.

/// The version, and the commit where it is known: `0.1.0 (2d4e4240a 2026-11-24)`.
///
/// `, modified` follows the day if the sources were changed since the commit. All packages of the workspace have one
/// version.
pub const VERSION: &str = if env!("NVL_COMMIT").is_empty() {
    env!("CARGO_PKG_VERSION")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("NVL_COMMIT"), ")")
};
