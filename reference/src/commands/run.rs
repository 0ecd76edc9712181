//! `nvl-reference run`.

use anyhow::Result;
use cli::escape::terminal;
use converter::normalized::{Checkpoint, TorchDtype};
use indicatif::{ProgressBar, ProgressStyle};
use reference::Error;
use reference::Math;
use reference::arguments::RunArguments;
use reference::run::{RunConfig, RunFiles, Runner, checkpoint_sha256, run as run_requests};
use reference::session::Session;
use reference::settings::Settings;
use tch::Device;

use super::{Verdict, interrupt, load_opened, warn_of_added};

/// Runs the command: 0 where every request was answered, 1 where one was not.
pub fn run(args: RunArguments) -> Result<Verdict> {
    let settings = Settings { threads: args.model.threads, ..Settings::default() };
    settings.apply();
    interrupt::listen()?;
    // A dump is for comparing: it gets the exact operations unless told otherwise.
    let math = args.model.math.unwrap_or(if args.record.is_some() { Math::Exact } else { Math::Fast });
    args.recording.check(args.model.attention_with(math))?;
    let checkpoint = Checkpoint::open(&args.model.model).map_err(Error::from)?;
    let device = args.model.device.resolve()?;
    let files = RunFiles {
        requests: args.requests.clone(),
        answers: args.answers.clone(),
        shard: args.shard,
        begin_anew: args.force,
        config: config(&args, &checkpoint, device, math)?,
    };
    let progress = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len} requests, {eta} left {msg}") {
        progress.set_style(style);
    }
    let summary = run_requests(
        &files,
        || load(&args, checkpoint, device, math, settings),
        |at, total, row| {
            progress.set_length(total as u64);
            progress.set_position(at as u64);
            if row.is_error() {
                progress.suspend(|| {
                    eprintln!("line {}: `{}` could not be answered", row.line, terminal(&row.id))
                });
            }
        },
    )?;
    progress.finish_and_clear();
    eprintln!(
        "{} answered, {} could not be, {} were done before: {}",
        summary.answered,
        summary.failed,
        summary.done_before,
        terminal(&args.answers.display().to_string())
    );
    Ok(if summary.failed == 0 { Verdict::Yes } else { Verdict::No })
}

/// What the answers depend on beside the requests.
fn config(
    args: &RunArguments,
    checkpoint: &Checkpoint,
    device: Device,
    math: Math,
) -> Result<RunConfig, Error> {
    let dtype = args.model.dtype.unwrap_or(checkpoint.config().torch_dtype);
    let pixels = args.model.pixel_values_dtype.map_or(TorchDtype::Float32, |pixels| pixels.dtype(dtype));
    Ok(RunConfig {
        checkpoint: checkpoint_sha256(&args.model.model)?,
        dtype: dtype.as_str().to_owned(),
        device: if matches!(device, Device::Cuda(_)) { "cuda" } else { "cpu" }.to_owned(),
        math: math.as_str().to_owned(),
        attention: args.model.attention_with(math).as_str().to_owned(),
        pixel_values_dtype: pixels.as_str().to_owned(),
        recording: args.record.is_some().then(|| args.recording.clone()),
    })
}

fn load(
    args: &RunArguments,
    checkpoint: Checkpoint,
    device: Device,
    math: Math,
    settings: Settings,
) -> Result<Runner, Error> {
    warn_of_added(&args.model.model);
    let model = load_opened(checkpoint, &args.model, args.model.dtype, device, math)?;
    let session = Session::new(model, &args.model.model, settings, interrupt::is_stopped)?;
    if let Some(dir) = &args.record {
        std::fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.clone(), source })?;
    }
    Ok(Runner { session, record: args.record.clone().map(|dir| (dir, args.recording.clone())) })
}
