//! `nvl-reference`: runs the model from a normalized checkpoint.

mod commands;

use std::process::ExitCode;

use clap::Parser as _;
use reference::arguments::{Arguments, Command};

use commands::Verdict;

fn main() -> ExitCode {
    cli::tell_file_size_limit();
    let result = match Arguments::parse().command {
        Command::Generate(args) => commands::generate::run(args),
        Command::Run(args) => commands::run::run(args),
        Command::Preprocess(args) => commands::preprocess::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Replay(args) => commands::replay::run(args),
        Command::Isolate(args) => commands::isolate::run(args),
        Command::Common(command) => commands::common(command),
    };
    match result {
        Ok(Verdict::Yes) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(1),
        Err(error) => {
            commands::print_error(&error);
            commands::exit_code(&error)
        }
    }
}
