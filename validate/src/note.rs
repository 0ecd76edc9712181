//! What a reader ought to know of two runs, though it decides nothing.

use crate::names::RulePlace;
use crate::relation::Fact;

/// A difference between the runs that may explain others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The dtypes of the runs differ.
    RunDtype,
    /// `pixel_values` reached the towers of both runs in different dtypes.
    PixelDtypes {
        /// The golden run's.
        golden: String,
        /// The candidate's.
        candidate: String,
    },
    /// One side alone has the weights of the attention, which only some attentions return.
    AttnWeights {
        /// Of how many modules.
        count: usize,
        /// Whether it is the candidate.
        only_candidate: bool,
    },
    /// The names of the checkpoints differ.
    Checkpoint,
    /// The file of a picture is not the same.
    Image {
        /// Its place in the request.
        index: usize,
    },
    /// The numbers of pictures differ.
    ImageCount {
        /// The golden request's.
        golden: usize,
        /// The candidate's.
        candidate: usize,
    },
    /// The common entries do not come in the same order.
    Order {
        /// The first entry that the candidate has earlier than the golden order allows.
        name: String,
    },
    /// Entries have another dtype than the golden ones, as the right runs do.
    AllowedDtypes {
        /// How many.
        count: usize,
    },
    /// Entries have another dtype than the golden ones, as the map allows.
    MappedDtypes {
        /// How many.
        count: usize,
    },
    /// Rules of the map match no tensor of the candidate.
    IdleNames {
        /// The map.
        map: String,
        /// Their expressions.
        expressions: Vec<String>,
    },
    /// A rule of the map matches, and no golden entry has a name that it gives.
    NoSuchSite {
        /// The rule.
        rule: RulePlace,
        /// One of the names.
        name: String,
    },
    /// How the tokens of two related runs belong together.
    Relation(Fact),
    /// Entries are compared by sketches.
    Estimated {
        /// How many.
        count: usize,
    },
    /// A rule of the policy matches no entry.
    IdleRule {
        /// Its globs.
        sites: Vec<String>,
    },
}
