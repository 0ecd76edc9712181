//! Runs Llama-3.1-Nemotron-Nano-VL on libtorch, from a normalized checkpoint, and records what every layer computes.
//!
//! A request becomes pixels and token ids in [`pictures`] and [`prompt`]; [`model`] has the forward pass, module by module
//! under the names of the public `modeling.py`; [`generate`](mod@generate) runs it token by token, [`record`] keeps what each
//! site computes, and [`replay`](mod@replay) does so for a golden's own inputs.

mod allocator;
pub mod answer;
pub mod arguments;
pub mod benchmark;
pub mod device;
mod error;
pub mod generate;
pub mod isolate;
mod math;
pub mod memory;
pub mod mistakes;
pub mod model;
mod panics;
pub mod pictures;
pub mod prompt;
pub mod record;
pub mod recorded;
pub mod replay;
pub mod request;
pub mod run;
mod scalar;
pub mod session;
pub mod settings;
pub mod weights;

pub use error::{Error, Result};
pub use math::{AttnImplementation, Math};
pub use model::{Dtypes, NemotronVl};
