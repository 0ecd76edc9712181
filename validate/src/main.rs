//! `nvl-validate`: prints, and sets the exit status.

mod commands;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use validate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    cli::tell_file_size_limit();
    let result = match Arguments::parse().command {
        Command::Diff(arguments) => commands::diff::run(&arguments),
        Command::Calibrate(arguments) => commands::calibrate::run(&arguments),
        Command::Names { golden, candidate, out } => {
            commands::names::run(&golden, &candidate, out.as_deref())
        }
        Command::Maps { name } => commands::maps::run(name.as_deref()),
        Command::Sketch(arguments) => commands::sketch::run(&arguments),
        Command::Show(arguments) => commands::show::run(&arguments),
        Command::Common(command) => commands::common(command),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Nothing can be said about a closed stderr; the status says it.
            let mut stderr = anstream::stderr();
            let _ = writeln!(stderr, "error: {}", cli::escape::terminal(&error.to_string()));
            if let Some(hint) = error.hint() {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            ExitCode::from(2)
        }
    }
}
