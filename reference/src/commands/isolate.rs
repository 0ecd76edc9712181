//! `nvl-reference isolate`: every module of a run that computed wrongly.

use std::fmt::{self, Write as _};

use anyhow::Result;
use cli::escape::terminal;
use converter::normalized::TorchDtype;
use golden::Dump;
use measure::tolerance::Metric;
use reference::arguments::{IsolateArguments, ModelArguments};
use reference::isolate::{Fault, Isolated, check_in_full, in_any_variant, isolate};
use reference::prompt::Tokenizer;
use reference::recorded::{InputSource, RecordedRun, find_pixel_values_dtype};
use reference::settings::Settings;
use reference::{AttnImplementation, Error, Math, NemotronVl};
use serde_json::{Value, json};

use super::{Verdict, apply_settings, dtypes_of, load_model, note, print, print_json, spinner};

/// One of the computations that a run's modules may have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    math: Math,
    attention: AttnImplementation,
    pixel_values_dtype: TorchDtype,
}

/// Runs the command: 0 where no module is at fault, else 1.
pub fn run(args: IsolateArguments) -> Result<Verdict> {
    let golden = Dump::open(&args.golden)?;
    let candidate = Dump::open(&args.candidate)?;
    apply_settings(Settings::of(&golden.manifest().producer), &args.model, &golden);
    golden.verify()?;
    candidate.verify()?;
    check_in_full(&candidate)?;

    let tokenizer = Tokenizer::load(&args.model.model).map_err(Error::from)?;
    let dtypes = [dtypes_of(&args.model, &golden)?, dtypes_of(&args.model, &candidate)?];
    let mut model = load_model(&args.model, dtypes[0], Math::Exact)?;
    // The golden run tells whether this is the model that it was made by.
    let (own, expected) = isolated(&mut model, &args, &tokenizer, &golden, &golden)?;
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
        model = load_model(&args.model, dtypes[1], Math::Exact)?;
    }
    let (found, pixels) = isolated(&mut model, &args, &tokenizer, &golden, &candidate)?;
    tell_pixels(expected, pixels);

    if args.json {
        print_json(&report(&found))?;
    } else {
        print(&text(&found)?)?;
    }
    Ok(if found.iter().any(|isolated| isolated.fault.is_some()) { Verdict::No } else { Verdict::Yes })
}

/// Tells what no module is at fault for.
fn tell_pixels(golden: Option<TorchDtype>, candidate: Option<TorchDtype>) {
    if let (Some(expected), Some(found)) = (golden, candidate)
        && expected != found
    {
        let [expected, found] = [expected, found].map(TorchDtype::as_str);
        note(&format!(
            "`pixel_values` reached the candidate's tower in {found}, the golden run's in {expected}"
        ));
    }
}

/// Isolates a run, whose modules may have computed in any of several ways; with the dtype in which `pixel_values` reached its
/// tower, where that is known.
fn isolated(
    model: &mut NemotronVl,
    args: &IsolateArguments,
    tokenizer: &Tokenizer,
    golden: &Dump,
    run: &Dump,
) -> Result<(Vec<Isolated>, Option<TorchDtype>)> {
    let source = InputSource { config: model.config(), tokenizer, images: &args.images };
    let inputs = source.inputs_of(run)?;
    let mut recorded = RecordedRun::of(run);
    if recorded.pixel_values_dtype.is_none() {
        recorded.pixel_values_dtype = find_pixel_values_dtype(model, run, &inputs)?;
    }
    let mut found = Vec::new();
    for variant in variants(&args.model, &recorded, model.dtype()) {
        model.set_math(variant.math);
        model.set_attention(variant.attention);
        model.set_pixel_values_dtype(variant.pixel_values_dtype);
        let progress = spinner(terminal(&format!("isolating {}", run.path().display())));
        found.push(isolate(model, golden, run, &inputs)?);
        progress.finish_and_clear();
    }
    Ok((in_any_variant(found), recorded.pixel_values_dtype))
}

/// How a run may have computed: what neither the user nor its manifest tells is tried, each choice once at least.
fn variants(args: &ModelArguments, recorded: &RecordedRun, model: TorchDtype) -> Vec<Variant> {
    let maths = known_or_all(args.math, [Math::Exact, Math::Fast]);
    let attention = args.attention.or(recorded.attention());
    let attentions = known_or_all(attention, [AttnImplementation::Eager, AttnImplementation::Sdpa]);
    let pixels = args.pixel_values_dtype.map(|pixels| pixels.dtype(model)).or(recorded.pixel_values_dtype);
    let pixels = known_or_all(pixels, [TorchDtype::Float32, model]);
    let count = maths.len().max(attentions.len()).max(pixels.len());
    let mut variants: Vec<Variant> = (0..count)
        .map(|at| Variant {
            math: maths[at % maths.len()],
            attention: attentions[at % attentions.len()],
            pixel_values_dtype: pixels[at % pixels.len()],
        })
        .collect();
    variants.dedup();
    variants
}

fn known_or_all<T>(known: Option<T>, all: [T; 2]) -> Vec<T> {
    known.map_or(all.into(), |known| vec![known])
}

fn at_fault(found: &[Isolated]) -> impl Iterator<Item = &Isolated> {
    found.iter().filter(|isolated| isolated.fault.is_some())
}

fn text(found: &[Isolated]) -> Result<String, fmt::Error> {
    let mut text = String::new();
    /// The widest that the column of names gets; a longer one moves its own line only.
    const WIDEST: usize = 120;
    let names: Vec<String> = at_fault(found).map(|isolated| terminal(&isolated.entry.name)).collect();
    let widths = names.iter().map(|name| name.chars().count()).filter(|&width| width <= WIDEST);
    let width = widths.max().unwrap_or(0);
    for (name, isolated) in names.iter().zip(at_fault(found)) {
        writeln!(text, "{name:<width$}  {:<22}  {}", terminal(class(isolated)), why(isolated))?;
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
