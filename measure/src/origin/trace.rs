//! The origin of each entry's error.

use golden::{Dtype, Entry};

use super::excess::{excess, excess_of_estimate};
use super::flow::{RecordedFlow, recorded_flows};
use super::kind::{Origin, OriginKind};
use super::rounding::{Own, own};
use super::site::{Site, Source};
use super::structure::sites;
use crate::compared::Compared;
use crate::metric::{Measurement, RowError};
use crate::model::{Model, model_of};
use crate::tolerance::{Excess, Policy, Tolerance};

/// What each module was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inputs {
    /// The very inputs that it is compared for: what differs is its own, and only rounding explains it.
    Recorded,
    /// What the others had computed, as in a comparison of two runs.
    Computed,
}

/// The origin of each entry's error, in order of execution; `model` and `run`, a dtype, are the golden run's.
///
/// `flows` has what is recorded of what each entry was computed from, by indices of `compared`. Of an entry without a
/// measurement the origin is unknown.
pub fn origins(
    model: &Model,
    compared: &[Compared<'_>],
    flows: &[Option<RecordedFlow>],
    inputs: Inputs,
    run: Option<Dtype>,
) -> Vec<Origin> {
    Trace { model, compared, flows, run, inputs, built_in: Policy::default() }.origins()
}

/// The same of entries that are held to the built-in tolerances.
pub fn origins_of_entries(
    entries: &[Entry],
    measurements: &[Option<Measurement>],
    inputs: Inputs,
    run: Option<Dtype>,
) -> Vec<Origin> {
    let policy = Policy::default();
    let tolerances: Vec<Tolerance> = entries.iter().map(|entry| policy.tolerance(entry, run)).collect();
    let all = entries.iter().zip(measurements).zip(&tolerances);
    let compared: Vec<Compared<'_>> = all
        .map(|((entry, measurement), tolerance)| Compared {
            entry,
            measurement: measurement.as_ref(),
            tolerance,
            by_noise: false,
        })
        .collect();
    origins(model_of(entries), &compared, &recorded_flows(entries), inputs, run)
}

/// The entries of a comparison, in order of execution.
struct Trace<'a> {
    model: &'a Model,
    compared: &'a [Compared<'a>],
    flows: &'a [Option<RecordedFlow>],
    run: Option<Dtype>,
    inputs: Inputs,
    built_in: Policy,
}

impl Trace<'_> {
    fn origins(&self) -> Vec<Origin> {
        let entries: Vec<&Entry> = self.compared.iter().map(|compared| compared.entry).collect();
        let usable: Vec<bool> = self.compared.iter().map(|compared| compared.measurement.is_some()).collect();
        let sites = sites(self.model, &entries, &usable, self.flows);
        self.compared.iter().zip(sites).map(|(compared, site)| self.origin(compared, &site)).collect()
    }

    fn origin(&self, compared: &Compared<'_>, site: &Site) -> Origin {
        let inputs: Vec<usize> = site.sources.iter().map(|source| source.index).collect();
        let Some(measurement) = compared.measurement else {
            return Origin::of(OriginKind::Unknown, site.step, inputs);
        };
        let own = measurement.relative_l2.map(|_| self.own(compared, site));
        let rounding = own.map(|own| own.whole);
        if !measurement.differs() {
            return Origin { rounding, ..Origin::of(OriginKind::Equal, site.step, inputs) };
        }
        let explained = if self.any_input(site, Measurement::differs) {
            OriginKind::Inherited
        } else {
            OriginKind::Rounding
        };
        let mut origin = Origin { rounding, ..Origin::of(explained, site.step, inputs) };
        if measurement.non_finite_mismatches > 0 {
            if !self.any_input(site, |input| input.non_finite_mismatches > 0) {
                origin.kind = OriginKind::Fresh;
            }
        } else if let Some(own) = own {
            if measurement.estimated && explained == OriginKind::Inherited {
                // Without its rows nothing can be told of what the inputs passed on.
                origin.kind = OriginKind::Unknown;
                return origin;
            }
            origin.excess = self.excess(compared, measurement, &own, site);
            if origin.excess.is_some() {
                origin.kind = OriginKind::Fresh;
            }
        } else if explained == OriginKind::Rounding {
            // Of whole numbers every difference counts.
            origin.kind = OriginKind::Fresh;
        }
        origin
    }

    /// What the module may add of its own.
    fn own(&self, compared: &Compared<'_>, site: &Site) -> Own {
        let own = own(compared, site.step, &self.built_in, self.run);
        // What right runs make of equal inputs is rounding, however much it is.
        let alone = compared.by_noise && !self.any_input(site, Measurement::differs);
        if alone { own.at_least(compared.tolerance) } else { own }
    }

    fn excess(
        &self,
        compared: &Compared<'_>,
        measurement: &Measurement,
        own: &Own,
        site: &Site,
    ) -> Option<Excess> {
        if measurement.estimated {
            return excess_of_estimate(measurement, own);
        }
        let sources = site.sources.iter().filter(|_| self.inputs == Inputs::Computed);
        let sources: Vec<(&Compared<'_>, Source)> =
            sources.map(|&source| (&self.compared[source.index], source)).collect();
        excess(compared, measurement, own, &sources, median_length(compared.rows()))
    }

    /// Whether one of the inputs has something to pass on.
    fn any_input(&self, site: &Site, has: fn(&Measurement) -> bool) -> bool {
        let mut inputs = site.sources.iter().map(|source| self.compared[source.index].measurement);
        self.inputs == Inputs::Computed && inputs.any(|measurement| measurement.is_some_and(has))
    }
}

/// The median length of the rows that are not zero.
fn median_length(rows: &[RowError]) -> f64 {
    let mut lengths: Vec<f32> = rows.iter().map(|row| row.golden).filter(|&length| length > 0.0).collect();
    let middle = lengths.len() / 2;
    if lengths.is_empty() {
        return 0.0;
    }
    f64::from(*lengths.select_nth_unstable_by(middle, f32::total_cmp).1)
}
