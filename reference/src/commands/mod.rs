//! The program's commands: arguments in, library calls, words out.

pub mod bench;
pub mod generate;
mod interrupt;
pub mod isolate;
pub mod preprocess;
pub mod replay;
pub mod run;

use std::process::ExitCode;
use std::time::Duration;

use converter::normalized::TorchDtype;
use indicatif::{ProgressBar, ProgressStyle};
use reference::Math;
use reference::NemotronVl;
use reference::arguments::{self, ModelArguments};
use reference::request::PreparedRequest;
use release::escape::{json, terminal};
use serde::Serialize;

/// What a command that could be carried out found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0.
    Yes,
    /// Exit status 1.
    No,
}

/// Loads the model, telling so.
pub fn load_model(
    args: &ModelArguments,
    dtype: Option<TorchDtype>,
    math: Math,
) -> reference::Result<NemotronVl> {
    let device = args.device.resolve()?;
    let spinner = spinner(terminal(&format!("loading {}", args.model.display())));
    let model = NemotronVl::load(&args.model, dtype, device, args.math.unwrap_or(math))?;
    spinner.finish_and_clear();
    Ok(model)
}

/// Tells what a user may not expect of the pictures.
pub fn warn(prepared: &PreparedRequest) {
    for (file, warning) in prepared.warnings() {
        eprintln!("warning: {}", terminal(&format!("{file}: {warning}")));
    }
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
    release::print(text.as_bytes()).map_err(reference::Error::Output)
}

/// Writes a value to stdout as JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    Ok(print(&(json(&serde_json::to_string_pretty(value)?) + "\n"))?)
}

/// Prints completions or manual pages of the program itself.
pub fn release(command: release::Command) -> anyhow::Result<Outcome> {
    command.run(arguments::command())?;
    Ok(Outcome::Yes)
}
