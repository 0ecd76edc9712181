//! Reads and writes activation dumps, versions 1 and 2.
//!
//! A dump is a folder. `manifest.json` says which program computed what from which request, and lists the recorded tensors in
//! order of execution. One or more safetensors files hold their bytes. A tensor that would be too large has a [`Sketch`]
//! instead. `docs/activation-dump.md` describes the format.
//!
//! Reading maps the files, so an 18 GB dump needs no memory:
//!
//! ```no_run
//! # fn main() -> golden::Result<()> {
//! let dump = golden::Dump::open("goldens/shapes-text-float32")?;
//! dump.verify()?;
//! for (entry, tensor) in dump.tensors() {
//!     println!("{} {:?} {:?}", entry.name, tensor.dtype(), tensor.shape());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Writing streams each pushed tensor to disk. The folder appears under its name only when it is complete:
//!
//! ```no_run
//! # fn main() -> golden::Result<()> {
//! use golden::manifest::{ManifestHead, Producer, Role};
//! let mut writer = golden::DumpWriter::create("out/run-1")?;
//! let bytes = [0u8; 8];
//! writer.push("mlp1.0", Role::Activation, "LayerNorm", golden::Dtype::BFloat16, &[1, 4], &bytes)?;
//! writer.finish(ManifestHead::new(Producer::new("my engine", "bfloat16")))?;
//! # Ok(())
//! # }
//! ```

#[cfg(target_endian = "big")]
compile_error!("activation dumps are little-endian and their bytes are viewed in place");

pub mod background;
mod dump;
mod error;
mod flow;
mod format;
mod layout;
pub mod manifest;
mod processor;
mod rows;
mod shard;
pub mod sketch;
mod steps;
mod tensor;
mod writer;

pub use background::BackgroundWriter;
pub use dump::Dump;
pub use error::{Error, Result};
pub use flow::Flow;
pub use manifest::{Entry, Manifest, ManifestHead, Role, key_of};
pub use processor::cpu_vendor;
pub use rows::RowAlignment;
pub use sketch::Sketch;
pub use steps::Steps;
pub use store::hash::sha256 as sha256_hex;
pub use store::{Dtype, UnknownDtype, float8};
pub use tensor::{Element, TensorView};
pub use writer::{DumpWriter, NewEntry, WriteOptions};
