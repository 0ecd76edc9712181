//! The program's commands: arguments in, library calls, words out.

pub mod bench;
pub mod generate;
mod interrupt;
pub mod isolate;
pub mod preprocess;
pub mod replay;
pub mod run;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use cli::escape::{json, terminal};
use converter::normalized::Checkpoint;
use golden::Dump;
use indicatif::{ProgressBar, ProgressStyle};
use reference::arguments::{self, ModelArguments};
use reference::recorded::recorded_dtypes;
use reference::request::PreparedRequest;
use reference::settings::Settings;
use reference::{Dtypes, Math, NemotronVl};
use serde::Serialize;
use tch::Device;

/// What a command that could be carried out found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Exit status 0.
    Yes,
    /// Exit status 1.
    No,
}

/// Loads the model, telling so, to compute as the user says, and as is given here where the user says nothing.
pub fn load_model(
    args: &ModelArguments,
    dtypes: impl Into<Dtypes>,
    math: Math,
) -> reference::Result<NemotronVl> {
    let device = args.device.resolve()?;
    warn_of_added(&args.model);
    load_opened(Checkpoint::open(&args.model)?, args, dtypes, device, math)
}

/// The same of a checkpoint that is open.
pub fn load_opened(
    checkpoint: Checkpoint,
    args: &ModelArguments,
    dtypes: impl Into<Dtypes>,
    device: Device,
    math: Math,
) -> reference::Result<NemotronVl> {
    let spinner = spinner(terminal(&format!("loading {}", args.model.display())));
    let mut model = NemotronVl::of(checkpoint, dtypes, device, args.math.unwrap_or(math), Vec::new())?;
    spinner.finish_and_clear();
    if let Some(attention) = args.attention {
        model.set_attention(attention);
    }
    if let Some(pixel_values) = args.pixel_values_dtype {
        model.set_pixel_values_dtype(pixel_values.dtype(model.dtype()));
    }
    Ok(model)
}

/// Applies the settings of a recorded run, with the threads that the user names, and tells where they are not its own.
pub fn apply_settings(mut settings: Settings, args: &ModelArguments, run: &Dump) -> Settings {
    settings.threads = args.threads.or(settings.threads);
    if let Some(difference) = settings.difference(&run.manifest().producer) {
        warning(&difference);
    }
    settings.apply();
    settings
}

/// The dtypes that the user names, or else those of a recorded run.
///
/// # Errors
/// Where the run has none that the model can run in.
pub fn dtypes_of(args: &ModelArguments, run: &Dump) -> reference::Result<Dtypes> {
    match args.dtype {
        Some(dtype) => Ok(Some(dtype).into()),
        None => recorded_dtypes(run),
    }
}

/// Tells what a user may not expect of the pictures.
pub fn warn(prepared: &PreparedRequest) {
    for (file, problem) in prepared.warnings() {
        warning(&format!("{file}: {problem}"));
    }
}

/// Tells which files of the checkpoint in `dir` its conversion did not write: they count, and nobody vouches for them.
pub fn warn_of_added(dir: &Path) {
    match converter::files_not_in_ledger(dir) {
        Ok(names) => {
            for name in names {
                let file = dir.join(name);
                warning(&format!(
                    "`{}` is not in the checkpoint's ledger: it was put there later",
                    file.display()
                ));
            }
        }
        // A folder that is no checkpoint is an error soon, with better words.
        Err(_) if !dir.join(converter::ledger::LEDGER_FILE).exists() => {}
        Err(error) => warning(&format!("the checkpoint's ledger cannot be read: {error}")),
    }
}

/// Tells on stderr why the result may not be what the user expects.
pub fn warning(text: &str) {
    eprintln!("warning: {}", terminal(text));
}

/// Tells on stderr what the user may want to know of how the command went about it.
pub fn note(text: &str) {
    eprintln!("note: {}", terminal(text));
}

/// A sign of life on stderr; hidden where that is no terminal.
pub fn spinner(message: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    let spinner = ProgressBar::new_spinner().with_message(message);
    if let Ok(style) = style {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// 130 for a run that the user ended, as a shell has it; 2 for all else that could not be carried out.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<reference::Error>() {
        Some(reference::Error::Interrupted) => ExitCode::from(130),
        _ => ExitCode::from(2),
    }
}

/// One line for the error, one for a hint where there is one.
pub fn print_error(error: &anyhow::Error) {
    eprintln!("error: {}", terminal(&error.to_string()));
    let ours = error.downcast_ref::<reference::Error>().and_then(reference::Error::hint);
    let dump = || error.downcast_ref::<golden::Error>().and_then(golden::Error::hint).map(str::to_owned);
    let hint = ours.or_else(dump);
    if let Some(hint) = hint {
        eprintln!("hint: {}", terminal(&hint));
    }
}

/// Writes to stdout; a reader that has seen enough is no failure.
pub fn print(text: &str) -> reference::Result<()> {
    cli::print(text.as_bytes()).map_err(reference::Error::Output)
}

/// Writes a value to stdout as JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&(json(&serde_json::to_string_pretty(value)?) + "\n"))?)
}

/// Prints completions or manual pages of the program itself.
pub fn common(command: cli::Command) -> anyhow::Result<Verdict> {
    command.run(arguments::command())?;
    Ok(Verdict::Yes)
}
