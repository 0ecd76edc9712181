//! How one run of an engine can belong to another.

/// How the candidate's run belongs to the plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Relation {
    /// The same run again.
    #[default]
    Same,
    /// The candidate took the prompt in pieces, a forward pass each.
    Chunked,
    /// The candidate took the request in a batch with others, padded or packed.
    Batched,
    /// The candidate computed the end of the prompt; the beginning came from a cache.
    PrefixCache,
}

impl Relation {
    /// All of them.
    pub const ALL: [Relation; 4] =
        [Relation::Same, Relation::Chunked, Relation::Batched, Relation::PrefixCache];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Relation::Same => "same",
            Relation::Chunked => "chunked",
            Relation::Batched => "batched",
            Relation::PrefixCache => "prefix-cache",
        }
    }

    /// The relation of a name.
    pub fn named(name: &str) -> Option<Self> {
        Relation::ALL.into_iter().find(|relation| relation.name() == name)
    }
}
