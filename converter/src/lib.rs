//! Converts a Llama-3.1-Nemotron-Nano-VL checkpoint to a normalized one that needs no Python.
//!
//! [`normalized::Checkpoint`] reads what this crate writes. [`weights`] reads safetensors files, one or many, without loading
//! them whole. [`json`] reads JSON that is not trusted.

mod added;
pub mod architecture;
pub mod arguments;
mod convert;
mod error;
mod export;
pub mod families;
pub mod json;
pub mod ledger;
pub mod nemotron_vl;
pub mod normalized;
mod part_config;
pub mod plan;
mod python;
pub mod report;
pub mod resolve;
pub mod scale;
pub mod source;
pub mod transform;
mod verify;
pub mod weights;
pub mod write;

pub use added::files_not_in_ledger;
pub use convert::Conversion;
pub use error::{Error, TensorProblem};
pub use export::{Export, Exported};
pub use ledger::read_ledger;
pub use verify::{Difference, Verification, compare_tensors, verify, verify_source};
