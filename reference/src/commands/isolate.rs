//! `nvl-reference isolate`: every module of a run that computed wrongly.

use std::fmt::{self, Write as _};
use std::path::Path;

use anyhow::Result;
use golden::Dump;
use reference::arguments::IsolateArguments;
use reference::isolate::{Fault, Isolated, in_any_way, isolate};
use reference::settings::Settings;
use reference::{Error, Math, NemotronVl};
use serde_json::{Value, json};
use validate::tolerance::Metric;

use super::replay::golden_dtype;
use super::{Outcome, load_model, print, print_json, spinner};

/// Runs the command: 0 where no module is at fault, else 1.
pub fn run(args: IsolateArguments) -> Result<Outcome> {
    let golden = Dump::open(&args.golden)?;
    let candidate = Dump::open(&args.candidate)?;
    let mut settings = Settings::of(&golden.manifest().producer);
    settings.threads = args.model.threads.or(settings.threads);
    if let Some(difference) = settings.difference(&golden.manifest().producer) {
        eprintln!("warning: {difference}");
    }
    settings.apply();
    golden.verify()?;
    candidate.verify()?;

    let dtypes = [golden_dtype(&golden)?, golden_dtype(&candidate)?].map(|own| match args.model.dtype {
        Some(dtype) => dtype.into(),
        None => own,
    });
    // A module may compute as the public code does, or as fused kernels do, which round at other places.
    let ways = args.model.math.map_or(vec![Math::Exact, Math::Fast], |math| vec![math]);
    let mut model = load_model(&args.model, Some(dtypes[0]), Math::Exact)?;
    // The golden run tells whether this is the model that it was made by.
    let own = isolated(&mut model, &ways, &golden, &args.golden)?;
    if let Some(at_fault) = at_fault(&own).next() {
        let problem = format!(
            "`{}`: expected what the model computes of the recorded inputs, found otherwise: {}",
            at_fault.entry.name,
            why(at_fault)
        );
        let (dir, model) = (args.golden.clone(), args.model.model.clone());
        return Err(Error::NotTheModel { dir, model, problem }.into());
    }
    if dtypes[1] != dtypes[0] {
        // Before the other one is loaded: memory need not have room for two.
        drop(model);
        model = load_model(&args.model, Some(dtypes[1]), Math::Exact)?;
    }
    let found = isolated(&mut model, &ways, &golden, &args.candidate)?;

    if args.json {
        print_json(&report(&found))?;
    } else {
        print(&text(&found)?)?;
    }
    Ok(if found.iter().any(|isolated| isolated.fault.is_some()) { Outcome::No } else { Outcome::Yes })
}

/// Isolates a run, whose modules may have computed in any of these ways.
fn isolated(model: &mut NemotronVl, ways: &[Math], golden: &Dump, run: &Path) -> Result<Vec<Isolated>> {
    let mut found = Vec::new();
    for &math in ways {
        model.set_math(math);
        let progress = spinner(format!("isolating {}", run.display()));
        found.push(isolate(model, golden, Dump::open(run)?)?);
        progress.finish_and_clear();
    }
    Ok(in_any_way(found))
}

fn at_fault(found: &[Isolated]) -> impl Iterator<Item = &Isolated> {
    found.iter().filter(|isolated| isolated.fault.is_some())
}

fn text(found: &[Isolated]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let width = at_fault(found).map(|isolated| isolated.entry.name.len()).max().unwrap_or(0);
    for isolated in at_fault(found) {
        writeln!(text, "{:<width$}  {:<22}  {}", isolated.entry.name, class(isolated), why(isolated))?;
    }
    let compared = found.iter().filter(|isolated| isolated.measurement.is_some()).count();
    let faults = at_fault(found).count();
    writeln!(
        text,
        "{compared} of {} entries computed again from the run's own inputs; at fault: {faults}",
        found.len()
    )?;
    Ok(text)
}

fn class(isolated: &Isolated) -> &str {
    if isolated.entry.module.is_empty() { isolated.entry.role.name() } else { &isolated.entry.module }
}

/// Why an entry is at fault, in words.
fn why(isolated: &Isolated) -> String {
    match &isolated.fault {
        None => "it is not at fault".to_owned(),
        Some(Fault::Error(excess)) => {
            let what = match (excess.metric, excess.row) {
                (Metric::RowRelativeL2, Some(row)) => format!("relative L2 of row {row}"),
                _ => "relative L2".to_owned(),
            };
            format!("{what} {:.1e}, of which rounding explains {:.1e}", excess.found, excess.limit)
        }
        Some(Fault::NonFinite { mismatches }) => {
            format!("{mismatches} NaN or infinities at other places")
        }
        Some(Fault::Shape { expected, found }) => format!("shape: expected {expected:?}, found {found:?}"),
        Some(Fault::Unequal { differing }) => format!("{differing} numbers differ"),
    }
}

fn report(found: &[Isolated]) -> Value {
    let entry = |isolated: &Isolated| {
        json!({
            "order": isolated.entry.order,
            "name": isolated.entry.name,
            "module": isolated.entry.module,
            "compared": isolated.measurement.is_some(),
            "relative_l2": isolated.relative_l2().filter(|value| value.is_finite()),
            "at_fault": isolated.fault.is_some(),
            "reason": isolated.fault.as_ref().map(|_| why(isolated)),
            "row": isolated.row(),
        })
    };
    let names: Vec<&str> = at_fault(found).map(|isolated| isolated.entry.name.as_str()).collect();
    json!({ "at_fault": names, "entries": found.iter().map(entry).collect::<Vec<Value>>() })
}
