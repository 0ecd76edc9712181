//! Runs a golden's own request again, from its recorded inputs.

use std::collections::HashMap;
use std::ops::ControlFlow;

use golden::{Dump, DumpWriter, Entry, ManifestHead, Steps};

use crate::error::Result;
use crate::generate::{Generation, GenerationConfig, ModelInputs, Sampling, generate};
use crate::mistakes::{self, Mistake};
use crate::model::NemotronVl;
use crate::record::Recorder;
use crate::recorded::fail;
use crate::settings::{Settings, producer};

/// How a replay compares with its golden, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ReplaySummary {
    /// Entries of the golden.
    pub entries: usize,
    /// Entries of the golden that the replay has under the same name.
    pub recorded: usize,
    /// Entries that are equal to the last bit, as the hashes tell, which sketches have too.
    pub bit_equal: usize,
    /// The first entry, in order of execution, that is not.
    pub first_difference: Option<String>,
    /// Tokens that were generated.
    pub generated_ids: Vec<i64>,
    /// Whether they are the golden's.
    pub generated_ids_equal: bool,
}

/// What of a replay is recorded, and what its manifest says of the machine.
#[derive(Debug, Clone)]
pub struct ReplayOptions<'a> {
    /// The settings that were applied.
    pub settings: &'a Settings,
    /// Whether the weights of the attention are recorded, where it returns some.
    pub attn_weights: bool,
    /// The forward passes whose activations are recorded.
    pub steps: Steps,
    /// Whether the key-value cache behind each of them is recorded.
    pub kv: bool,
    /// Whether the dump says what each entry was computed from.
    pub flow: bool,
    /// The seed of sketches in place of tensors.
    pub sketch_seed: Option<u64>,
    /// Mistakes to plant in the computation; those in what is loaded are the model's.
    pub mistakes: &'a [Mistake],
}

/// Replays `golden` on `model`, which is set to compute as it is to, from its `inputs`, and writes what each site computes to
/// `writer`.
///
/// `decode` turns generated ids into text, as the golden's producer did.
///
/// # Errors
/// [`crate::Error::Golden`] where the golden cannot be replayed; else as [`generate`].
pub fn replay(
    model: &NemotronVl,
    golden: &Dump,
    inputs: &ModelInputs,
    options: ReplayOptions<'_>,
    eos_token_ids: Vec<i64>,
    decode: impl FnOnce(&[i64]) -> Result<String>,
    writer: DumpWriter,
) -> Result<ReplaySummary> {
    let manifest = golden.manifest();
    let request = manifest.request.clone().unwrap_or_default();
    if request.do_sample == Some(true) {
        return Err(fail(golden, "its tokens were drawn by chance: only a greedy golden can be replayed"));
    }
    let recorded_ids = manifest.generated_ids.as_deref();
    let max_new_tokens =
        request.max_new_tokens.map(|tokens| tokens as usize).or(recorded_ids.map(<[i64]>::len));
    let config = GenerationConfig {
        max_new_tokens: max_new_tokens.unwrap_or(1),
        eos_token_ids,
        sampling: Sampling::GREEDY,
        logprobs: None,
    };
    let mut recorder = Recorder::new(writer, &[])?
        .with_attn_weights(options.attn_weights)
        .with_sketches(options.sketch_seed)
        .with_steps(options.steps, options.kv)
        .with_flow(options.flow.then(|| model.attention()));
    let on_token = |_| Ok(ControlFlow::Continue(()));
    let Generation { token_ids, .. } =
        generate(model, inputs, &config, &mut *mistakes::plant(options.mistakes, &mut recorder), on_token)?;

    let Some(writer) = recorder.into_writer() else { return Err(fail(golden, "nothing was recorded")) };
    let summary = summarize(golden, &writer, &token_ids);
    let mut head = ManifestHead::new(producer(model, options.settings, inputs));
    head.checkpoint.clone_from(&manifest.checkpoint);
    head.request.clone_from(&manifest.request);
    head.prompt.clone_from(&manifest.prompt);
    head.text = Some(decode(&token_ids)?);
    head.generated_ids = Some(token_ids);
    writer.finish(head)?;
    Ok(summary)
}

fn summarize(golden: &Dump, writer: &DumpWriter, token_ids: &[i64]) -> ReplaySummary {
    let mut summary = ReplaySummary {
        entries: golden.entries().len(),
        recorded: 0,
        bit_equal: 0,
        first_difference: None,
        generated_ids: token_ids.to_vec(),
        generated_ids_equal: golden.manifest().generated_ids.as_deref() == Some(token_ids),
    };
    let recorded: HashMap<(&str, u64), &Entry> =
        writer.entries().iter().map(|entry| ((entry.name.as_str(), entry.step), entry)).collect();
    for expected in golden.entries() {
        let actual = recorded.get(&(expected.name.as_str(), expected.step));
        let equal = actual.is_some_and(|actual| {
            (actual.dtype, &actual.shape, &actual.sha256)
                == (expected.dtype, &expected.shape, &expected.sha256)
        });
        summary.recorded += usize::from(actual.is_some());
        summary.bit_equal += usize::from(equal);
        if !equal && summary.first_difference.is_none() {
            summary.first_difference = Some(expected.key().into_owned());
        }
    }
    summary
}
