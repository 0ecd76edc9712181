//! How far right runs are off, site by site, and what limits follow from that.

use std::collections::HashMap;
use std::path::PathBuf;

use golden::{Dtype, Dump, Entry};
use rayon::prelude::*;

use crate::error::Result;
use crate::metric::measure_entry;
use crate::origin::{Step, least_bounds, rounds_more, steps};
use crate::tolerance::Bounds;

/// Where a report's limits come from.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSource {
    /// The folders of the right runs.
    pub paths: Vec<PathBuf>,
    /// How many times their noise an error may be.
    pub factor: f64,
}

/// The noise of one or several right runs against a golden one.
#[derive(Debug, Clone)]
pub struct Noise {
    paths: Vec<PathBuf>,
    factor: f64,
    run: Option<Dtype>,
    levels: HashMap<String, Level>,
}

/// How far right runs are off at one site: the largest of each number.
#[derive(Debug, Clone, PartialEq)]
pub struct Level {
    /// Of the whole tensor.
    pub relative_l2: f64,
    /// Of its worst row; `None` where a run has a sketch only.
    pub row_relative_l2: Option<f64>,
    /// The dtypes that the runs have it in.
    pub dtypes: Vec<Dtype>,
    step: Step,
}

impl Noise {
    /// Measures right runs against a golden one, on all threads.
    ///
    /// A site where one of them is not comparable to the golden one (it lacks it, or has it in another shape, or with
    /// NaN or infinities elsewhere) has no noise.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Dump`], with `verify`, for bytes that are not those that were recorded.
    pub fn measure(
        golden: &Dump,
        runs: &[Dump],
        factor: f64,
        verify: bool,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Self> {
        let steps = steps(golden.entries());
        let entries: Vec<(&Entry, Step)> = golden.entries().iter().zip(steps).collect();
        let levels: Vec<Result<Option<(String, Level)>>> = entries
            .into_par_iter()
            .map(|(entry, step)| {
                let level = level_of(golden, runs, entry, step, verify)?;
                progress(
                    runs.iter().flat_map(|run| run.get(&entry.key())).map(|t| t.data().len() as u64).sum(),
                );
                Ok(level.map(|level| (entry.key().into_owned(), level)))
            })
            .collect();
        golden.check()?;
        runs.iter().try_for_each(Dump::check)?;
        let dtypes = runs.iter().filter_map(|run| run.manifest().producer.dtype.parse::<Dtype>().ok());
        Ok(Noise {
            paths: runs.iter().map(|run| run.path().to_owned()).collect(),
            factor,
            run: dtypes.reduce(|a, b| if rounds_more(b, a) { b } else { a }),
            levels: levels.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
        })
    }

    /// The noise at the site of an entry, by its [key](Entry::key).
    pub fn level(&self, site: &str) -> Option<Level> {
        self.levels.get(site).cloned()
    }

    /// The coarsest dtype that one of the runs computed in.
    pub fn run(&self) -> Option<Dtype> {
        self.run
    }

    /// How many times the noise an error may be.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// For a report.
    pub fn source(&self) -> NoiseSource {
        NoiseSource { paths: self.paths.clone(), factor: self.factor }
    }

    /// The limits of an entry: some times the noise, and no less than what rounding explains.
    pub fn bounds(&self, entry: &Entry, level: &Level, run: Option<Dtype>) -> Bounds {
        let (whole, row) = least_bounds(entry, level.step, run);
        Bounds {
            relative_l2: Some((self.factor * level.relative_l2).max(whole)),
            row_relative_l2: level.row_relative_l2.map(|level| (self.factor * level).max(row)),
            ..Bounds::default()
        }
    }
}

fn level_of(golden: &Dump, runs: &[Dump], entry: &Entry, step: Step, verify: bool) -> Result<Option<Level>> {
    let mut level = Level { relative_l2: 0.0, row_relative_l2: Some(0.0), dtypes: Vec::new(), step };
    for run in runs {
        let key = entry.key();
        let Some(found) = run.entry(&key) else { return Ok(None) };
        if verify {
            run.verify_entry(&key)?;
        }
        let measurement = measure_entry((golden, &key), (run, &key))?;
        let Some(measurement) = measurement.filter(|m| m.non_finite_mismatches == 0) else {
            return Ok(None);
        };
        let (Some(whole), row) = (measurement.relative_l2, measurement.row_relative_l2) else {
            return Ok(None);
        };
        if !whole.is_finite() || row.is_some_and(|row| !row.is_finite()) {
            return Ok(None);
        }
        level.relative_l2 = level.relative_l2.max(whole);
        level.row_relative_l2 = level.row_relative_l2.zip(row).map(|(a, b)| a.max(b));
        level.dtypes.push(found.dtype);
    }
    Ok((!runs.is_empty()).then_some(level))
}
