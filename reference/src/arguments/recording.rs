//! What of a run is recorded, on the command line.

use clap::Args;
use golden::DumpWriter;
use golden::sketch::DEFAULT_SEED;
use serde::Serialize;

use crate::record::Recorder;
use crate::{AttnImplementation, Result};

/// What of a run is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Args)]
pub struct RecordingArguments {
    /// Record only sites whose name matches; may be repeated
    #[arg(long, value_name = "GLOB", requires = "record")]
    sites: Vec<String>,
    /// Also record the attention weights of the language model; their size grows with the square of the prompt; eager only
    #[arg(long, requires = "record")]
    attn_weights: bool,
    /// Write sketches instead of tensors: the dump is small, and is compared by estimates
    #[arg(long, requires = "record")]
    sketch: bool,
}

impl RecordingArguments {
    /// Refuses to record what the attention does not return.
    ///
    /// # Errors
    /// [`crate::Error::AttnWeights`]
    pub fn check(&self, attention: AttnImplementation) -> Result<()> {
        if self.attn_weights { attention.check_attn_weights() } else { Ok(()) }
    }

    /// The recorder of a dump.
    ///
    /// # Errors
    /// [`crate::Error::Sites`] where a glob is malformed.
    pub fn recorder(&self, writer: DumpWriter) -> Result<Recorder> {
        let recorder = Recorder::new(writer, &self.sites)?;
        Ok(recorder.with_attn_weights(self.attn_weights).with_sketches(self.sketch.then_some(DEFAULT_SEED)))
    }
}
