//! What every manifest says of itself.

/// The value of `format`.
pub const FORMAT: &str = "activation-dump";

/// The value of `version`.
pub const VERSION: u64 = 1;

/// The manifest's file name.
pub const FILE_NAME: &str = "manifest.json";
