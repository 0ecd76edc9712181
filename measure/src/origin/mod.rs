//! Tells an error that a module made from one that it passed on; `docs/tolerances.md` says how.

mod excess;
mod flow;
mod inherited;
mod kind;
mod nesting;
mod operators;
mod roles;
mod rounding;
mod site;
mod structure;
mod trace;

pub use flow::{DataFlow, RecordedFlow, flows_between, recorded_flows};
pub use kind::{Origin, OriginKind};
pub use roles::found_roles;
pub use rounding::rounds_more;
pub use structure::{SiteFlow, flow_of_dump, steps};
pub use trace::{Inputs, origins, origins_of_entries};

pub use crate::model::Step;

pub(crate) use rounding::least_bounds;
