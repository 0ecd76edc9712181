//! Measures entries and judges them, each by itself.

use golden::{Dtype, Entry};
use measure::metric::{Measurement, measure, measure_entry, measure_tensor};
use measure::model::{Model, SiteRole};
use measure::noise::Level;
use measure::origin::{Origin, rounds_more};
use measure::tolerance::{Failure, Fresh, Preset, Tolerance, Verdict, judge};
use measure::{Compared, Noise, Policy};

use crate::entry::{EntryReport, OTHER_ATTENTION};
use crate::error::Result;
use crate::names::{Counterpart, Pairing};

/// Where an entry's limits come from.
pub(super) struct Limits<'a> {
    policy: &'a Policy,
    /// The coarsest dtype that the run may have computed in.
    pub(super) run: Option<Dtype>,
    noise: Option<&'a Noise>,
}

impl<'a> Limits<'a> {
    /// Those for a golden run of a dtype.
    pub(super) fn new(golden: Option<Dtype>, policy: &'a Policy, noise: Option<&'a Noise>) -> Self {
        // What rounds is the coarsest that is known to be right.
        let coarser = noise.and_then(Noise::run).or(policy.preset.and_then(Preset::dtype));
        let rounds = |dtype: &Dtype| golden.is_none_or(|golden| rounds_more(*dtype, golden));
        Limits { policy, run: coarser.filter(rounds).or(golden), noise }
    }
}

/// An entry that was measured and judged; where its error comes from, the others tell.
pub(super) struct Judged {
    entry: Entry,
    only_candidate: bool,
    tolerance: Tolerance,
    measurement: Option<Measurement>,
    verdict: Verdict,
    noise: Option<Level>,
    counterpart: Option<Counterpart>,
}

impl Judged {
    /// What the origin of its error is told from.
    pub(super) fn compared(&self) -> Compared<'_> {
        let another = matches!(self.verdict, Verdict::Fail(Failure::Shape { .. } | Failure::Dtype { .. }));
        Compared {
            entry: &self.entry,
            measurement: self.measurement.as_ref().filter(|_| !another),
            tolerance: &self.tolerance,
            by_noise: self.noise.is_some(),
        }
    }

    /// The same with what the model says of its site, or else what was found out of it, and with the origin of its error, which
    /// may be a failure of its own.
    pub(super) fn with_origin(
        self,
        model: &Model,
        origin: Origin,
        found: Option<SiteRole>,
        fresh: Fresh,
    ) -> EntryReport {
        let Judged { entry, only_candidate, tolerance, measurement, verdict, noise, counterpart } = self;
        let verdict = match (verdict, origin.excess, fresh) {
            (Verdict::Pass, Some(excess), Fresh::Fail) => Verdict::Fail(Failure::Fresh(excess)),
            (verdict, ..) => verdict,
        };
        EntryReport {
            site_role: model.role(&entry.name).or(found),
            compared_shape: entry.shape.clone(),
            entry,
            only_candidate,
            tolerance,
            measurement,
            verdict,
            origin,
            noise,
            counterpart,
        }
    }
}

/// An entry that both sides have.
pub(super) fn paired(
    pairing: &Pairing<'_>,
    entry: &Entry,
    counterpart: &Counterpart,
    limits: &Limits<'_>,
) -> Result<Judged> {
    let (mut entry, key) = (entry.clone(), entry.key());
    let key = key.as_ref();
    if let Some(shape) = pairing.compared_shape(key) {
        entry.shape = shape.to_vec();
    }
    let &Limits { policy, run, noise } = limits;
    let level = noise.and_then(|noise| noise.level(key));
    let bounds = noise.zip(level.as_ref()).map(|(noise, level)| noise.bounds(&entry, level, run));
    let tolerance = policy.tolerance_with(&entry, run, bounds);
    let (golden, candidate) = (pairing.golden(key), pairing.candidate(key));
    let views = [&golden, &candidate].map(|side| side.as_ref().and_then(|tensor| tensor.view()));
    let (measurement, shape, dtype) = match (views.into(), pairing.golden_sketch(key)) {
        ((Some(golden), Some(candidate)), _) => {
            (measure(&golden, &candidate), candidate.shape().to_vec(), candidate.dtype())
        }
        // The golden side is a sketch, and the candidate is sketched in the golden layout.
        ((None, Some(candidate)), Some(sketch)) => {
            (measure_tensor(sketch, &candidate)?, candidate.shape().to_vec(), candidate.dtype())
        }
        _ => {
            let (golden, candidate, found) = pairing.sketched(key)?;
            let measurement = measure_entry((golden, key), (candidate, &found.key()))?;
            (measurement, found.shape.clone(), found.dtype)
        }
    };
    let dtype_allowed = |dtype: Dtype| {
        let of_noise = level.as_ref().is_some_and(|level| level.dtypes.contains(&dtype));
        of_noise || pairing.any_dtype(key) && measurement.is_some()
    };
    let verdict = match (&tolerance, &measurement) {
        (Tolerance::Ignored { reason }, _) => Verdict::Ignored { reason: reason.clone() },
        _ if entry.shape != shape => {
            Verdict::Fail(Failure::Shape { expected: entry.shape.clone(), found: shape })
        }
        _ if entry.dtype != dtype && !dtype_allowed(dtype) => {
            Verdict::Fail(Failure::Dtype { expected: entry.dtype, found: dtype })
        }
        (tolerance, Some(measurement)) => judge(measurement, tolerance),
        // Equal shapes and dtypes are always measured.
        (_, None) => Verdict::Fail(Failure::Missing),
    };
    Ok(Judged {
        entry,
        only_candidate: false,
        tolerance,
        measurement,
        verdict,
        noise: level,
        counterpart: Some(counterpart.clone()),
    })
}

/// An entry of one side only, which is no fault if the policy or an excuse says so.
pub(super) fn unpaired(entry: &Entry, failure: Failure, excuse: Option<&str>, limits: &Limits<'_>) -> Judged {
    let only_candidate = failure == Failure::Extra;
    let excuse = excuse.or(is_attn_weights(entry).then_some(OTHER_ATTENTION));
    let verdict = match limits.policy.excuse(entry).or_else(|| excuse.map(str::to_owned)) {
        Some(reason) => Verdict::Ignored { reason },
        None => Verdict::Fail(failure),
    };
    Judged {
        entry: entry.clone(),
        only_candidate,
        tolerance: limits.policy.tolerance(entry, limits.run),
        measurement: None,
        verdict,
        noise: None,
        counterpart: None,
    }
}

/// Whether an entry is the weights of an attention, by the name that the output has in transformers.
fn is_attn_weights(entry: &Entry) -> bool {
    let name = entry.name.split('#').next().unwrap_or_default();
    name.ends_with(".attn_weights")
}
