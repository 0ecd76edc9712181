//! `nvl-convert`: inspects, converts and verifies checkpoints.

mod progress;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use converter::arguments::{self, Arguments, Command, ConvertArguments};
use converter::plan::PlanOptions;
use converter::report::{Inspection, plan_text, verification_text};
use converter::resolve::Settings;
use converter::source::{CodeCaches, FetchOptions, Location};
use converter::write::check_place;
use converter::{Conversion, Error, Export, verify, verify_source};

use cli::escape::{self, terminal};
use progress::{Fetching, Progress};

fn main() -> ExitCode {
    cli::tell_file_size_limit();
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let known = error.downcast_ref::<Error>();
            // One of ours has its source in its own sentence.
            let message = known.map_or_else(|| format!("{error:#}"), ToString::to_string);
            eprintln!("error: {}", terminal(&message));
            if let Some(hint) = known.and_then(Error::hint) {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(2)
        }
    }
}

/// Runs the command; whether its answer is yes.
fn run(arguments: Arguments) -> anyhow::Result<bool> {
    match arguments.command {
        Command::Inspect { source, json, hub } => {
            let (caches, code_revision) = (CodeCaches::from_env(), hub.code_revision.clone());
            let settings = Settings { caches, code_revision, ..Settings::default() };
            let conversion =
                Conversion::prepare(fetched(&source, hub.options(true))?, settings, PlanOptions::KEEP)?;
            let inspection = Inspection::of(&conversion);
            if json {
                print(&(escape::json(&serde_json::to_string_pretty(&inspection)?) + "\n"))?;
            } else {
                print(&inspection.to_string())?;
            }
            Ok(true)
        }
        Command::Convert(convert_arguments) => convert(&convert_arguments),
        Command::Verify { out, source, local_files_only } => {
            // First, while Ctrl-C still ends the program at once.
            let options = FetchOptions { local_files_only, ..FetchOptions::default() };
            let source = source.as_deref().map(|source| fetched(source, options)).transpose()?;
            let progress = Progress::watching()?;
            let (ledger, mut verification) = verify(&out, &progress)?;
            if let Some(source) = source {
                let of_source = verify_source(&out, &ledger, source, &progress)?;
                verification.files += of_source.files;
                verification.source_tensors = of_source.source_tensors;
                verification.differences.extend(of_source.differences);
            }
            progress.finish();
            print(&verification_text(&verification))?;
            Ok(verification.is_clean())
        }
        Command::Export { out, hf_dir, force } => {
            // Said before anything is read, as for a conversion.
            check_place(&hf_dir, &out, force)?;
            let export = Export::prepare(&out)?;
            let progress = Progress::watching()?;
            progress.expect(export.bytes());
            let exported = export.write(&hf_dir, force, &progress)?;
            let summary = progress.finish();
            let (files, tensors) = (exported.files, exported.tensors);
            eprintln!(
                "{} written: {files} files, {tensors} tensors; {summary}",
                terminal(&hf_dir.display().to_string())
            );
            Ok(true)
        }
        Command::Common(command) => {
            command.run(arguments::command())?;
            Ok(true)
        }
    }
}

/// Where SOURCE is on this machine; what is on the hub is fetched.
fn fetched(source: &str, options: FetchOptions) -> anyhow::Result<Location> {
    Ok(Location::parse(source).fetched(options, &Fetching::default())?)
}

fn convert(arguments: &ConvertArguments) -> anyhow::Result<bool> {
    if !arguments.dry_run {
        // Said before anything is fetched or read, since both may take long.
        check_place(&arguments.out, Path::new(&arguments.source), arguments.force)?;
    }
    let location = fetched(&arguments.source, arguments.hub.options(arguments.dry_run))?;
    let conversion = Conversion::prepare(location, arguments.settings(), arguments.options())?;
    if arguments.strict {
        conversion.findings().refuse_assumptions()?;
    }
    if arguments.dry_run {
        print(&plan_text(conversion.plan()))?;
        for warning in &conversion.findings().warnings {
            eprintln!("warning: {}", terminal(warning));
        }
        return Ok(true);
    }
    let progress = Progress::watching()?;
    progress.expect(conversion.source_bytes());
    let ledger = conversion.write(&arguments.out, arguments.force, &progress)?;
    let summary = progress.finish();
    for warning in &ledger.warnings {
        eprintln!("warning: {}", terminal(warning));
    }
    eprintln!("{} written: {summary}", terminal(&arguments.out.display().to_string()));
    Ok(true)
}

fn print(text: &str) -> anyhow::Result<()> {
    cli::print(text.as_bytes()).context("cannot write to stdout")
}
