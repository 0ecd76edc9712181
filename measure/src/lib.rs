//! Measures how far two activation dumps are apart, and judges it: numbers in, numbers out.
//!
//! [`metric`] measures, [`tolerance`] decides, [`noise`] tells how far right runs are off, [`origin`] tells an error that a module
//! made from one that it passed on, [`model`] has what is known of the model. Nothing here pairs names, forms a sentence or knows a command line.

mod compared;
mod error;
pub mod metric;
pub mod model;
pub mod noise;
pub mod origin;
pub mod tolerance;

pub use compared::Compared;
pub use error::{Error, Result, toml_problem};
pub use noise::Noise;
pub use tolerance::Policy;
