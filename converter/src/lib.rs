//! Converts a Llama-3.1-Nemotron-Nano-VL checkpoint to a normalized one that needs no Python.
//!
//! [`normalized::Checkpoint`] reads what this crate writes; the other rooms are [`weights`] (safetensors
//! files, one or many, always mapped) and [`json`] (JSON that is not trusted).

mod error;
pub mod json;
pub mod normalized;
pub mod weights;

pub use error::{Error, TensorProblem};
