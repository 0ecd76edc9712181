//! What a reader is to know of an alignment.

use std::ops::Range;

/// Which tokens or entries belong together, and which do not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The candidate took the prompt in several passes.
    Pieces(Vec<(u64, Range<usize>)>),
    /// The first tokens came from a cache; empty if none did.
    Cached(Range<usize>),
    /// The request is one sequence of a batch.
    Sequence {
        /// Which.
        row: usize,
        /// Of how many.
        of: usize,
    },
    /// Tokens of the request's sequence, or of a piece, are padding.
    Padding {
        /// The candidate's step.
        step: u64,
        /// The columns.
        columns: Vec<Range<usize>>,
    },
    /// Tokens of the request's sequence are those of other requests.
    Others {
        /// The columns.
        columns: Vec<Range<usize>>,
    },
    /// The request stands in the batch more than once, and the first is compared.
    Several {
        /// How often.
        count: usize,
    },
    /// Steps of decoding have other numbers in the candidate.
    Decoding {
        /// The candidate's step that is the plain run's step 1.
        first: u64,
    },
    /// In a step it is not known which tokens are the request's.
    Lost {
        /// The candidate's step.
        step: u64,
        /// Of how many tokens.
        of: usize,
    },
    /// Entries without a token of their own in each piece: the last one's is compared.
    LastPiece {
        /// Their names.
        names: Vec<String>,
    },
    /// Entries of which the last token alone is on both sides.
    LastToken {
        /// Their names.
        names: Vec<String>,
    },
    /// Entries that cannot be aligned.
    NotComparable {
        /// Why.
        reason: String,
        /// Their names.
        names: Vec<String>,
    },
}
