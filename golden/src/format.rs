//! What every manifest says of itself.

/// The value of `format`.
pub const FORMAT: &str = "activation-dump";

/// The values of `version`. A dump that needs nothing of the second has the first.
pub const VERSIONS: [u64; 2] = [1, 2];

/// The manifest's file name.
pub const FILE_NAME: &str = "manifest.json";
