//! Runs Llama-3.1-Nemotron-Nano-VL on libtorch, from a normalized checkpoint, and records what every layer computes.
//!
//! [`pictures`] and [`prompt`] turn a request into pixels and token ids. [`model`] has the forward pass, module by module, with
//! the names of the public `modeling.py`. [`generate`](mod@generate) runs it token by token. [`record`] keeps what each site
//! computes. [`replay`](mod@replay) does the same for a golden's own inputs.

mod allocator;
pub mod answer;
pub mod arguments;
pub mod benchmark;
pub mod device;
mod error;
mod flow;
pub mod generate;
pub mod isolate;
mod kind;
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
