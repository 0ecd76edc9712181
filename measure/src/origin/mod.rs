//! Tells an error that a module made from one that it passed on; `docs/tolerances.md` says how.

mod excess;
mod inherited;
mod kind;
mod nesting;
mod rounding;
mod site;
mod structure;
mod trace;

pub use kind::{Origin, OriginKind};
pub use rounding::rounds_more;
pub use structure::steps;
pub use trace::{Inputs, origins, origins_of_entries};

pub use crate::model::Step;

pub(crate) use rounding::least_bounds;
