//! Which modules of a recorded run computed wrongly, whatever came before them.
//!
//! The model runs once on the run's own inputs. Whenever a module has computed something, that is compared with what the
//! run has recorded for it; then the recorded numbers take its place, and the model goes on from these. So each module is
//! given exactly what it was given in the run, and a difference is its own.
//!
//! A run of which only sketches are left has nothing to go on from: then the model goes on from what it has computed, and a
//! difference is a module's own where that computed from equal inputs.

use golden::{Dtype, Dump, Entry, Role, TensorView};
use measure::metric::{Measurement, measure, measure_entry, measure_tensor};
use measure::origin::{Inputs, origins_of_entries};
use measure::tolerance::{Excess, Metric};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::generate::ModelInputs;
use crate::kind::float_kind_of;
use crate::model::NemotronVl;
use crate::model::observer::{Observer, Site, Unobserved};
use crate::record::with_bytes;
use crate::recorded::fail;

/// What was found of one entry of the run.
#[derive(Debug, Clone)]
pub struct Isolated {
    /// The run's entry.
    pub entry: Entry,
    /// How far it is from what the module computes of the run's own inputs; none where the shapes differ, or the model has
    /// no such module.
    pub measurement: Option<Measurement>,
    /// Why the module is at fault, if it is.
    pub fault: Option<Fault>,
}

/// Why a module is at fault.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Rounding does not explain the difference.
    Error(Excess),
    /// NaN or infinities stand at other places.
    NonFinite {
        /// How many.
        mismatches: usize,
    },
    /// The module gives another shape.
    Shape {
        /// What the module computes.
        expected: Vec<usize>,
        /// What was recorded.
        found: Vec<usize>,
    },
    /// Whole numbers that differ.
    Unequal {
        /// How many.
        differing: usize,
    },
}

/// Of several right ways to compute, what is left if a module may have taken any of them for each entry.
pub fn in_any_variant(variants: Vec<Vec<Isolated>>) -> Vec<Isolated> {
    let mut variants = variants.into_iter();
    let mut found = variants.next().unwrap_or_default();
    for variant in variants {
        for (isolated, other) in found.iter_mut().zip(variant) {
            if isolated.fault.is_some() && other.fault.is_none() {
                *isolated = other;
            }
        }
    }
    found
}

impl Isolated {
    /// The relative L2 difference, where there is one.
    pub fn relative_l2(&self) -> Option<f64> {
        self.measurement.as_ref().and_then(|measurement| measurement.relative_l2)
    }

    /// The row that is furthest off, of an error that only some rows have.
    pub fn row(&self) -> Option<usize> {
        match &self.fault {
            Some(Fault::Error(Excess { metric: Metric::RowRelativeL2, row, .. })) => *row,
            _ => None,
        }
    }
}

/// Refuses a run whose modules cannot be judged one by one, since sketches stand for what they computed.
///
/// # Errors
/// [`Error::SketchedRun`]
pub fn check_in_full(run: &Dump) -> Result<()> {
    match sketched(run).next() {
        None => Ok(()),
        Some(first) => Err(Error::SketchedRun {
            dir: run.path().to_owned(),
            name: first.name.clone(),
            found: sketched(run).count(),
        }),
    }
}

/// The activations that a dump has as sketches only.
fn sketched(run: &Dump) -> impl Iterator<Item = &Entry> {
    run.entries().iter().filter(|entry| entry.role == Role::Activation && entry.sketch.is_some())
}

/// Runs each module of the model on the inputs that a recorded run gave it, and compares what comes out. `inputs` are those of
/// the whole run.
///
/// They are compared with those of the golden one. Steps of decoding are given the run's own tokens, and are one entry: what is
/// kept between them is in no dump.
///
/// # Errors
/// [`Error::Golden`] where the run's `input_ids` are empty; [`Error::Comparison`] for sketches that do not tell of each other; else
/// what the model reports of inputs that it does not take.
pub fn isolate(model: &NemotronVl, golden: &Dump, run: &Dump, inputs: &ModelInputs) -> Result<Vec<Isolated>> {
    let _no_grad = tch::no_grad_guard();
    let ids = run.manifest().generated_ids.clone().unwrap_or_default();
    let dtype: Option<Dtype> = run.manifest().producer.dtype.parse().ok();
    let prompt = inputs.input_ids.size().last().map_or(0, |&tokens| tokens as usize);
    if prompt == 0 {
        return Err(fail(run, "its `input_ids` are empty"));
    }
    let mut isolation = Isolation::new(golden, run)?;
    let mut cache = model.cache(prompt + ids.len())?;
    let logits =
        model.prefill(inputs.pixel_values.as_ref(), &inputs.input_ids, &mut cache, &mut isolation)?;
    let mut step_logits = vec![logits];
    for id in ids.iter().take(ids.len().saturating_sub(1)) {
        step_logits.push(model.decode(*id, &mut cache, &mut Unobserved)?);
    }
    let rows = step_logits
        .iter()
        .map(|logits| Ok(logits.f_select(1, -1)?.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?))
        .collect::<Result<Vec<Tensor>>>()?;
    isolation.compare("step_logits", &Tensor::f_cat(&rows, 0)?)?;
    golden.check()?;
    run.check()?;
    Ok(isolation.judged(dtype))
}

/// Compares what modules compute with a recorded run, and puts the recorded numbers in its place.
struct Isolation<'a> {
    run: &'a Dump,
    /// Whether the recorded numbers take the place of the computed ones.
    goes_on_from_run: bool,
    /// In the order of the run's entries.
    found: Vec<Found>,
}

#[derive(Clone)]
enum Found {
    /// The model has not computed it.
    Nothing,
    Measured(Box<Measurement>),
    Shape(Vec<usize>),
}

impl<'a> Isolation<'a> {
    fn new(golden: &Dump, run: &'a Dump) -> Result<Self> {
        let found = vec![Found::Nothing; run.entries().len()];
        let goes_on_from_run = sketched(run).next().is_none();
        let mut isolation = Self { run, goes_on_from_run, found };
        for (entry, found) in run.entries().iter().zip(&mut isolation.found) {
            let Some(expected) =
                golden.entry(&entry.name).filter(|_| entry.role == Role::Input && entry.step == 0)
            else {
                continue;
            };
            *found = if expected.shape == entry.shape {
                measured(measure_entry((golden, &entry.name), (run, &entry.name))?)
            } else {
                Found::Shape(expected.shape.clone())
            };
        }
        Ok(isolation)
    }

    /// Compares what was computed, in the dtype that it was recorded in.
    fn compare(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        // A module that runs while decoding was recorded in the prefill only.
        let is_prefill = |entry: &Entry| entry.step == 0 && entry.name == name;
        let Some(at) = self.run.entries().iter().position(is_prefill) else { return Ok(()) };
        let (entry, Found::Nothing) = (&self.run.entries()[at], &self.found[at]) else { return Ok(()) };
        let Some(kind) = float_kind_of(entry.dtype) else { return Ok(()) };
        self.found[at] = with_bytes(&tensor.f_to_kind(kind)?, |shape, data| {
            if shape != entry.shape {
                return Ok(Found::Shape(shape.to_vec()));
            }
            let computed = TensorView::new(entry.dtype, shape, data)?;
            Ok(measured(match (self.run.get(name), &entry.sketch) {
                (Some(recorded), _) => measure(&computed, &recorded),
                (None, Some(sketch)) => measure_tensor((entry, sketch), &computed)?,
                (None, None) => None,
            }))
        })?;
        Ok(())
    }

    fn judged(self, dtype: Option<Dtype>) -> Vec<Isolated> {
        let entries = self.run.entries();
        let measurement = |found: &Found| match found {
            Found::Measured(measurement) => Some((**measurement).clone()),
            Found::Nothing | Found::Shape(_) => None,
        };
        let measurements: Vec<Option<Measurement>> = self.found.iter().map(measurement).collect();
        let inputs = if self.goes_on_from_run { Inputs::Recorded } else { Inputs::Computed };
        let origins = origins_of_entries(entries, &measurements, inputs, dtype);
        let all = entries.iter().zip(&self.found).zip(measurements).zip(origins);
        all.map(|(((entry, found), measurement), origin)| {
            let fault = match (found, &measurement) {
                (Found::Shape(expected), _) => {
                    Some(Fault::Shape { expected: expected.clone(), found: entry.shape.clone() })
                }
                (_, Some(measured)) if origin.is_fresh() => Some(match origin.excess {
                    Some(excess) => Fault::Error(excess),
                    None if measured.non_finite_mismatches > 0 => {
                        Fault::NonFinite { mismatches: measured.non_finite_mismatches }
                    }
                    None => Fault::Unequal { differing: measured.differing.unwrap_or(measured.elements) },
                }),
                _ => None,
            };
            Isolated { entry: entry.clone(), measurement, fault }
        })
        .collect()
    }
}

impl Observer for Isolation<'_> {
    fn output(&mut self, site: Site<'_>, output: Tensor) -> Result<Tensor> {
        self.compare(site.name, &output)?;
        let Some(view) = self.run.get(site.name).filter(|_| self.goes_on_from_run) else { return Ok(output) };
        let shape: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
        let Some(kind) = float_kind_of(view.dtype()).filter(|_| shape == output.size()) else {
            return Ok(output);
        };
        let mut recorded = output.f_empty_like()?;
        recorded.f_copy_(&Tensor::f_from_data_size(view.data(), &shape, kind)?)?;
        Ok(recorded)
    }
}

fn measured(measurement: Option<Measurement>) -> Found {
    measurement.map_or(Found::Nothing, |measurement| Found::Measured(Box::new(measurement)))
}
