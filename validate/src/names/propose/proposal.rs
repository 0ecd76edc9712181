//! What is proposed.

/// A proposed map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The map as a file has it.
    pub text: String,
    /// How many golden entries have a counterpart by it.
    pub matched: usize,
    /// The golden entries that have none.
    pub unmatched: Vec<String>,
    /// The candidate's tensors that stand for nothing.
    pub left: Vec<String>,
}
