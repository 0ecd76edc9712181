//! What of a run is recorded, on the command line.

use clap::Args;
use golden::sketch::DEFAULT_SEED;
use golden::{DumpWriter, Steps};
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
    /// The forward passes to record: `0:4`, `2:`, `every:16`, `0,3,7`; 0 is the prefill, and pass n chooses token n
    #[arg(long, value_name = "STEPS", requires = "record", default_value_t)]
    #[serde(skip_serializing_if = "is_default")]
    steps: Steps,
    /// Also record the key-value cache behind each of these passes
    #[arg(long, requires = "record")]
    #[serde(skip_serializing_if = "is_default")]
    kv: bool,
    /// Leave out what each entry was computed from
    #[arg(long, requires = "record")]
    #[serde(skip_serializing_if = "is_default")]
    no_flow: bool,
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

    /// The recorder of a dump of a model with this attention.
    ///
    /// # Errors
    /// [`crate::Error::Sites`] where a glob is malformed.
    pub fn recorder(&self, writer: DumpWriter, attention: AttnImplementation) -> Result<Recorder> {
        Ok(Recorder::new(writer, &self.sites)?
            .with_attn_weights(self.attn_weights)
            .with_sketches(self.sketch.then_some(DEFAULT_SEED))
            .with_steps(self.steps.clone(), self.kv)
            .with_flow((!self.no_flow).then_some(attention)))
    }
}

/// What is as before it could be chosen is not written to the rows of a run, so that runs of earlier releases go on.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
