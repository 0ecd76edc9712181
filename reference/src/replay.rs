//! Runs a golden's own request again, from its recorded inputs.

use std::ops::ControlFlow;

use golden::{Dump, DumpWriter, ManifestHead};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::generate::{Generation, GenerationConfig, ModelInputs, Sampling, generate};
use crate::model::NemotronVl;
use crate::record::Recorder;
use crate::settings::{Settings, producer};

/// How a replay compares with its golden, bit for bit.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ReplaySummary {
    /// Entries of the golden.
    pub entries: usize,
    /// Entries of the golden that the replay has under the same name.
    pub recorded: usize,
    /// Entries that are equal to the last bit.
    pub bit_equal: usize,
    /// The first entry, in order of execution, that is not.
    pub first_difference: Option<String>,
    /// Tokens that were generated.
    pub generated_ids: Vec<i64>,
    /// Whether they are the golden's.
    pub generated_ids_equal: bool,
}

/// Replays `golden` on `model` and writes what each site computes to `writer`.
///
/// `decode` turns generated ids into text, as the golden's producer did.
///
/// # Errors
/// [`Error::Golden`] where the golden lacks an input; else as [`generate`].
pub fn replay(
    model: &NemotronVl,
    golden: &Dump,
    settings: &Settings,
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
    let inputs = recorded_inputs(golden)?;
    let config = GenerationConfig {
        max_new_tokens: max_new_tokens.unwrap_or(1),
        eos_token_ids,
        sampling: Sampling::GREEDY,
        logprobs: None,
    };
    let mut recorder = Recorder::new(writer, &[])?;
    let Generation { token_ids, .. } =
        generate(model, &inputs, &config, &mut recorder, |_| Ok(ControlFlow::Continue(())))?;

    let Some(writer) = recorder.into_writer() else { return Err(fail(golden, "nothing was recorded")) };
    let summary = summarize(golden, &writer, &token_ids);
    let mut head = ManifestHead::new(producer(model, settings));
    head.checkpoint.clone_from(&manifest.checkpoint);
    head.request.clone_from(&manifest.request);
    head.prompt.clone_from(&manifest.prompt);
    head.text = Some(decode(&token_ids)?);
    head.generated_ids = Some(token_ids);
    writer.finish(head)?;
    Ok(summary)
}

/// `input_ids` and, where the golden has them, `pixel_values`.
pub(crate) fn recorded_inputs(golden: &Dump) -> Result<ModelInputs> {
    let view =
        golden.get("input_ids").ok_or_else(|| fail(golden, "it has no entry `input_ids` to replay"))?;
    let input_ids = tensor_of(golden, "input_ids", &view, golden::Dtype::Int64, Kind::Int64)?;
    let pixel_values = golden
        .get("pixel_values")
        .map(|view| tensor_of(golden, "pixel_values", &view, golden::Dtype::Float32, Kind::Float))
        .transpose()?;
    golden.check()?;
    Ok(ModelInputs { input_ids, pixel_values })
}

fn tensor_of(
    golden: &Dump,
    name: &str,
    view: &golden::TensorView<'_>,
    expected: golden::Dtype,
    kind: Kind,
) -> Result<Tensor> {
    let found = view.dtype();
    if found != expected {
        return Err(fail(golden, &format!("entry `{name}`: expected dtype {expected}, found {found}")));
    }
    let shape: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?)
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
    for expected in golden.entries() {
        let actual = writer.entries().iter().find(|entry| entry.name == expected.name);
        let equal = actual.is_some_and(|actual| {
            (actual.dtype, &actual.shape, &actual.sha256)
                == (expected.dtype, &expected.shape, &expected.sha256)
        });
        summary.recorded += usize::from(actual.is_some());
        summary.bit_equal += usize::from(equal);
        if !equal && summary.first_difference.is_none() {
            summary.first_difference = Some(expected.name.clone());
        }
    }
    summary
}

pub(crate) fn fail(golden: &Dump, problem: &str) -> Error {
    Error::Golden { dir: golden.path().to_owned(), problem: problem.to_owned() }
}
