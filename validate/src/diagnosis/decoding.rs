//! What is kept from one step of decoding to the next.

use measure::metric::value_at;
use measure::tolerance::Tolerance;

use super::explanation::{Explanation, Value};
use super::kind::Diagnosis;
use super::probe::Probe;
use super::roles::SiteRole;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "decoding",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "a cache whose positions do not go on",
};

fn asks(probe: &Probe<'_>) -> bool {
    probe.role() == Some(SiteRole::StepLogits)
}

/// Whether the logits of the prompt agree and those of a later step do not, though all tokens before it are the same.
fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let Tolerance::Bounds(bounds) = &probe.entry.tolerance else { return None };
    let limit = bounds.row_relative_l2?;
    let [expected, found] = &probe.tensors;
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
                let golden = value_at(expected, at);
                differences += (value_at(found, at) - golden).powi(2);
                squares += golden * golden;
            }
            (differences / squares).sqrt()
        })
        .collect();
    let off = errors.iter().position(|error| *error > limit).filter(|&step| step > 0)?;
    let [expected, found] = probe.pairing.generated_ids();
    if expected?.get(..off)? != found?.get(..off)? {
        return None;
    }
    let pattern = "the logits agree up to step {} and part at step {}, with the same tokens before it: it is the cache or the \
                   position, which are kept from step to step";
    let after = errors[..off].iter().copied().fold(0.0, f64::max);
    let values = vec![Value::Count(off - 1), Value::Count(off)];
    Some(Explanation { pattern, values, before: errors[off], after })
}
