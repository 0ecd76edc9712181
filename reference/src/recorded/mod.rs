//! What a dump tells of the run that made it: how it computed, and from what.

mod inputs;

use std::collections::BTreeSet;

use converter::normalized::TorchDtype;
use golden::{Dtype, Dump, Role, Steps};

pub use inputs::InputSource;

use crate::error::{Error, Result};
use crate::generate::ModelInputs;
use crate::kind::dtype_of;
use crate::math::AttnImplementation;
use crate::model::{ATTN_WEIGHTS, CONDITIONER, Dtypes, NemotronVl, PAST_KEY_VALUES, VISION_MODEL};
use crate::record::with_bytes;

/// How a recorded run computed, as far as its dump tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedRun {
    /// The run's dtype and the tower's, where they are ones that the model can run in.
    pub dtypes: Dtypes,
    /// The language model's attention, by whatever name.
    pub text_attention: Option<String>,
    /// The dtype in which `pixel_values` reached the tower.
    pub pixel_values_dtype: Option<TorchDtype>,
    /// Whether the weights of the language model's attention were recorded.
    pub attn_weights: bool,
    /// The forward passes whose activations were recorded.
    pub steps: Steps,
    /// Whether the key-value cache was recorded.
    pub kv: bool,
}

impl RecordedRun {
    /// Reads the manifest.
    pub fn of(dump: &Dump) -> Self {
        let producer = &dump.manifest().producer;
        let vision = producer.dtypes.get(VISION_MODEL);
        let weights = format!(".{ATTN_WEIGHTS}");
        // Pixels that were recorded in a lesser dtype were rounded before.
        let given = dump.entry("pixel_values").filter(|entry| entry.dtype != Dtype::Float32);
        let given = given.and_then(|entry| TorchDtype::named(entry.dtype.name()));
        let activations = dump.entries().iter().filter(|entry| entry.role == Role::Activation);
        let steps: BTreeSet<u64> = activations.map(|entry| entry.step).collect();
        let any = |is: &dyn Fn(&str) -> bool| dump.entries().iter().any(|entry| is(&entry.name));
        Self {
            dtypes: Dtypes {
                model: TorchDtype::named(&producer.dtype),
                vision: vision.and_then(|name| TorchDtype::named(name)),
            },
            text_attention: producer.attention.as_ref().and_then(|attention| attention.text.clone()),
            pixel_values_dtype: producer.pixel_values_dtype.as_deref().and_then(TorchDtype::named).or(given),
            attn_weights: any(&|name| name.ends_with(&weights)),
            steps: Steps::of(steps),
            kv: any(&|name| name.starts_with(PAST_KEY_VALUES)),
        }
    }

    /// The language model's attention, if it is one that is here.
    pub fn attention(&self) -> Option<AttnImplementation> {
        self.text_attention.as_deref().and_then(AttnImplementation::named)
    }
}

/// The dtypes of a recorded run.
///
/// # Errors
/// [`Error::Golden`] where its dtype is none that the model can run in.
pub fn recorded_dtypes(dump: &Dump) -> Result<Dtypes> {
    let dtypes = RecordedRun::of(dump).dtypes;
    if dtypes.model.is_none() {
        let found = &dump.manifest().producer.dtype;
        let problem = format!(
            "`producer.dtype`: expected float32, bfloat16 or float16, found `{found}`; say `--dtype`"
        );
        return Err(fail(dump, &problem));
    }
    Ok(dtypes)
}

/// Finds out in which dtype `pixel_values` reached the tower of a recorded run: the one from which the model's conditioner gives
/// the very bits that the run has. None where there is nothing to find out, or neither does.
///
/// # Errors
/// As the model, of pixels that it does not take.
pub fn find_pixel_values_dtype(
    model: &NemotronVl,
    run: &Dump,
    inputs: &ModelInputs,
) -> Result<Option<TorchDtype>> {
    let (Some(pixel_values), Some(recorded)) = (&inputs.pixel_values, run.entry(CONDITIONER)) else {
        return Ok(None);
    };
    let _no_grad = tch::no_grad_guard();
    for dtype in [TorchDtype::Float32, model.dtype()] {
        let computed = model.condition(pixel_values, dtype)?;
        let hash = with_bytes(&computed, |_, data| Ok(golden::sha256_hex(data)))?;
        if dtype_of(computed.kind()) == Some(recorded.dtype) && hash == recorded.sha256 {
            return Ok(Some(dtype));
        }
    }
    Ok(None)
}

pub(crate) fn fail(dump: &Dump, problem: &str) -> Error {
    Error::Golden { dir: dump.path().to_owned(), problem: problem.to_owned() }
}
