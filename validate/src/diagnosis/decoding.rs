//! Mistakes that only decoding shows.

use super::mistakes::{Diagnosis, Mistake};
use crate::entry::EntryReport;
use crate::names::Pairing;
use measure::metric::value_at;
use measure::tolerance::Tolerance;

/// Whether the logits of the prompt agree and those of a later step do not, though all tokens before it are the same: then
/// it is what is kept from step to step.
pub(super) fn diagnose(pairing: &Pairing<'_>, entry: &EntryReport) -> Option<Diagnosis> {
    let name = entry.entry.name.as_str();
    let Tolerance::Bounds(bounds) = &entry.tolerance else { return None };
    let limit = bounds.row_relative_l2.filter(|_| name == "step_logits")?;
    let (expected, found) = (pairing.golden(name)?, pairing.candidate(name)?);
    let (expected, found) = (expected.view()?, found.view()?);
    let (&[steps, vocab], &[other_steps, other_vocab]) = (expected.shape(), found.shape()) else {
        return None;
    };
    if vocab != other_vocab {
        return None;
    }
    let errors: Vec<f64> = (0..steps.min(other_steps))
        .map(|step| {
            let (mut differences, mut squares) = (0.0, 0.0);
            for at in step * vocab..(step + 1) * vocab {
                let golden = value_at(&expected, at);
                differences += (value_at(&found, at) - golden).powi(2);
                squares += golden * golden;
            }
            (differences / squares).sqrt()
        })
        .collect();
    let off = errors.iter().position(|error| *error > limit).filter(|&step| step > 0)?;
    let [expected, found] = pairing.generated_ids();
    if expected?.get(..off)? != found?.get(..off)? {
        return None;
    }
    let text = format!(
        "the logits agree up to step {} and part at step {off}, with the same tokens before it: it is the cache or the \
         position, which are kept from step to step",
        off - 1
    );
    let after = errors[..off].iter().copied().fold(0.0, f64::max);
    Some(Diagnosis { mistake: Mistake::Decoding, text, before: errors[off], after })
}
