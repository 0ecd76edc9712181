//! `nvl-reference replay`.

use std::fmt::{self, Write as _};

use anyhow::Result;
use converter::normalized::TorchDtype;
use golden::{Dump, DumpWriter};
use reference::Error;
use reference::Math;
use reference::arguments::ReplayArguments;
use reference::prompt::Tokenizer;
use reference::replay::{ReplaySummary, replay};
use reference::settings::Settings;

use super::{Outcome, load_model, print, print_json, spinner};

/// Runs the command: 0 where the generated ids are the golden's, else 1.
pub fn run(args: ReplayArguments) -> Result<Outcome> {
    let golden = Dump::open(&args.golden)?;
    let mut settings = Settings::of(&golden.manifest().producer);
    if args.native_kernels {
        settings.cpu_capability = None;
    }
    settings.threads = args.model.threads.or(settings.threads);
    if let Some(difference) = settings.difference(&golden.manifest().producer) {
        eprintln!("warning: {difference}");
    }
    settings.apply();
    golden.verify()?;

    let tokenizer = Tokenizer::load(&args.model.model).map_err(Error::from)?;
    let create = if args.force { DumpWriter::create_replacing } else { DumpWriter::create };
    let writer = create(&args.record)?;
    let dtype = match args.model.dtype {
        Some(dtype) => dtype.into(),
        None => golden_dtype(&golden)?,
    };
    let model = load_model(&args.model, Some(dtype), Math::Exact)?;
    let progress = spinner(format!("replaying {}", args.golden.display()));
    let decode = |ids: &[i64]| tokenizer.answer(ids).map_err(Error::from);
    let summary = replay(&model, &golden, &settings, vec![tokenizer.eos_token_id()], decode, writer)?;
    progress.finish_and_clear();

    if args.json {
        print_json(&summary)?;
    } else {
        print(&text(&summary)?)?;
    }
    Ok(if summary.generated_ids_equal { Outcome::Yes } else { Outcome::No })
}

fn text(summary: &ReplaySummary) -> Result<String, fmt::Error> {
    let mut text = String::new();
    writeln!(text, "sites: {} of {} recorded", summary.recorded, summary.entries)?;
    writeln!(text, "equal to the last bit: {} of {}", summary.bit_equal, summary.entries)?;
    if let Some(name) = &summary.first_difference {
        writeln!(text, "first that is not: {name}")?;
    }
    writeln!(
        text,
        "generated ids: {}",
        if summary.generated_ids_equal { "the golden's" } else { "not the golden's" }
    )?;
    Ok(text)
}

pub(super) fn golden_dtype(golden: &Dump) -> Result<TorchDtype> {
    let name = &golden.manifest().producer.dtype;
    [TorchDtype::Float32, TorchDtype::Bfloat16, TorchDtype::Float16]
        .into_iter()
        .find(|dtype| dtype.as_str() == name)
        .ok_or_else(|| {
            let problem = format!(
                "`producer.dtype`: expected float32, bfloat16 or float16, found `{name}`; say `--dtype`"
            );
            Error::Golden { dir: golden.path().to_owned(), problem }.into()
        })
}
