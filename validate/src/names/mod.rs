//! Other people's names and layouts: maps from a candidate's tensors to the golden dump's. `docs/names.md` describes
//! them.
//!
//! A map is read and checked on its own (`file`), then resolved against the names and shapes of two dumps (`resolve`);
//! only then are bytes touched (`assembly`), and only those of tensors that lie otherwise are copied (`strides`).

mod aligned;
mod assembly;
pub mod builtin;
mod file;
mod layout_step;
mod map;
mod pairing;
mod pattern;
mod propose;
mod resolve;
mod strides;

pub(crate) use aligned::{Cut, Match};
pub use builtin::{BUILTIN, Builtin};
pub use map::{NameMap, RulePlace};
pub(crate) use pairing::Idle;
pub use pairing::{Counterpart, Pairing};
pub use propose::{Proposal, propose};
