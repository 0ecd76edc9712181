//! `nvl-reference`: runs the model from a normalized checkpoint.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::Outcome;

/// Runs Llama-3.1-Nemotron-Nano-VL from a normalized checkpoint: reference answers, and activations of every layer.
#[derive(Debug, Parser)]
#[command(name = "nvl-reference", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer a question, about pictures or without any
    Generate(commands::generate::Args),
    /// Answer many requests from a file of JSON Lines into another; a run that was killed is taken up again
    Run(commands::run::Args),
    /// Write what the model would be given, pixels and token ids, as an activation dump
    Preprocess(commands::preprocess::Args),
    /// Measure how fast the model runs on this machine
    Bench(commands::bench::Args),
    /// Run a golden's own request again, from its recorded `pixel_values` and `input_ids`
    Replay(commands::replay::Args),
    /// Name every module that computed wrongly in a recorded run, whatever came before it
    Isolate(commands::isolate::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Generate(args) => commands::generate::run(args),
        Command::Run(args) => commands::run::run(args),
        Command::Preprocess(args) => commands::preprocess::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Replay(args) => commands::replay::run(args),
        Command::Isolate(args) => commands::isolate::run(args),
    };
    match result {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) => {
            commands::print_error(&error);
            commands::exit_code(&error)
        }
    }
}
