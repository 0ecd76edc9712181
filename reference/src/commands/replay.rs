//! `nvl-reference replay`.

use std::fmt::{self, Write as _};

use anyhow::Result;
use cli::escape::terminal;
use converter::normalized::TorchDtype;
use golden::sketch::DEFAULT_SEED;
use golden::{Dump, DumpWriter};
use reference::arguments::ReplayArguments;
use reference::generate::ModelInputs;
use reference::prompt::Tokenizer;
use reference::recorded::{InputSource, RecordedRun, find_pixel_values_dtype};
use reference::replay::{ReplayOptions, ReplaySummary, replay};
use reference::settings::Settings;
use reference::{AttnImplementation, Error, Math, NemotronVl};

use super::{Verdict, apply_settings, dtypes_of, load_model, note, print, print_json, spinner};

/// Runs the command: 0 where the generated ids are the golden's, else 1.
pub fn run(args: ReplayArguments) -> Result<Verdict> {
    let golden = Dump::open(&args.golden)?;
    let mut settings = Settings::of(&golden.manifest().producer);
    if args.native_kernels {
        settings.cpu_capability = None;
        settings.mkl_cbwr = None;
    }
    let settings = apply_settings(settings, &args.model, &golden);
    golden.verify()?;

    let tokenizer = Tokenizer::load(&args.model.model).map_err(Error::from)?;
    let create = if args.force { DumpWriter::create_replacing } else { DumpWriter::create };
    let writer = create(&args.record)?;
    let mut model = load_model(&args.model, dtypes_of(&args.model, &golden)?, Math::Exact)?;
    let source = InputSource { config: model.config(), tokenizer: &tokenizer, images: &args.images };
    let inputs = source.inputs_of(&golden)?;
    let recorded = RecordedRun::of(&golden);
    compute_as_recorded(&mut model, &args, &golden, &recorded, &inputs)?;
    if args.attn_weights {
        model.attention().check_attn_weights()?;
    }

    let progress = spinner(terminal(&format!("replaying {}", args.golden.display())));
    let decode = |ids: &[i64]| tokenizer.answer(ids).map_err(Error::from);
    let options = ReplayOptions {
        settings: &settings,
        attn_weights: args.attn_weights || recorded.attn_weights,
        steps: args.steps.clone().unwrap_or_else(|| recorded.steps.clone()),
        kv: args.kv || recorded.kv,
        flow: !args.no_flow,
        sketch_seed: args.sketch.then(|| sketch_seed(&golden)),
        mistakes: &[],
    };
    let eos_token_ids = vec![tokenizer.eos_token_id()];
    let summary = replay(&model, &golden, &inputs, options, eos_token_ids, decode, writer)?;
    progress.finish_and_clear();

    if summary.bit_equal < summary.entries && settings.hides_bfloat16_instructions() {
        note(
            "this processor has bfloat16 instructions, which the golden's manifest does not mention: `--native-kernels` uses them",
        );
    }
    if args.json {
        print_json(&summary)?;
    } else {
        print(&text(&summary)?)?;
    }
    Ok(if summary.generated_ids_equal { Verdict::Yes } else { Verdict::No })
}

/// Sets what the user leaves open as it was in the golden run, and tells what is not known of that.
fn compute_as_recorded(
    model: &mut NemotronVl,
    args: &ReplayArguments,
    golden: &Dump,
    recorded: &RecordedRun,
    inputs: &ModelInputs,
) -> Result<()> {
    // Who asks for the fast way does not ask for the golden's.
    if args.model.attention.is_none() && model.math() == Math::Exact {
        match (recorded.attention(), &recorded.text_attention) {
            (Some(attention), _) => model.set_attention(attention),
            (None, Some(other)) => {
                model.set_attention(AttnImplementation::Sdpa);
                note(&format!(
                    "the golden's attention is `{other}`, which is not here: sdpa takes its place"
                ));
            }
            (None, None) => {}
        }
    }
    if args.model.pixel_values_dtype.is_none() && inputs.pixel_values.is_some() {
        let dtype = match recorded.pixel_values_dtype {
            Some(dtype) => dtype,
            None => found_out(model, golden, inputs)?,
        };
        model.set_pixel_values_dtype(dtype);
    }
    Ok(())
}

/// The dtype in which `pixel_values` reached the golden's tower, by what its conditioner gave.
fn found_out(model: &NemotronVl, golden: &Dump, inputs: &ModelInputs) -> Result<TorchDtype> {
    let found = find_pixel_values_dtype(model, golden, inputs)?;
    let dtype = found.unwrap_or(TorchDtype::Float32);
    if model.dtype() != TorchDtype::Float32 {
        let why =
            if found.is_some() { "by what it computed of them" } else { "which was not to be found out" };
        let name = dtype.as_str();
        note(&format!(
            "the golden does not say in which dtype `pixel_values` reached the tower: assumed {name}, {why}"
        ));
    }
    Ok(dtype)
}

/// The seed of the golden's sketches, so that the two can be compared.
fn sketch_seed(golden: &Dump) -> u64 {
    let mut sketches = golden.entries().iter().filter_map(|entry| entry.sketch.as_ref());
    sketches.next().map(|sketch| sketch.seed).unwrap_or(DEFAULT_SEED)
}

fn text(summary: &ReplaySummary) -> Result<String, fmt::Error> {
    let mut text = String::new();
    writeln!(text, "sites: {} of {} recorded", summary.recorded, summary.entries)?;
    writeln!(text, "equal to the last bit: {} of {}", summary.bit_equal, summary.entries)?;
    if let Some(name) = &summary.first_difference {
        writeln!(text, "first that is not: {}", terminal(name))?;
    }
    writeln!(
        text,
        "generated ids: {}",
        if summary.generated_ids_equal { "the golden's" } else { "not the golden's" }
    )?;
    Ok(text)
}
