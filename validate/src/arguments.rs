//! The command line.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use globset::Glob;
use golden::sketch;

use crate::tolerance::Preset;
use crate::{names, report};

/// The whole command line, as clap describes it: for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Compares activation dumps layer by layer and names the first divergence
///
/// Exit status: 0 if everything is within its tolerance, 1 if something is not, 2 if that could not be told.
#[derive(Debug, Parser)]
#[command(name = "nvl-validate", version = cli::VERSION, max_term_width = 100)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compare a candidate's dump with the golden one
    Diff(DiffArguments),
    /// Write a policy from right runs, to standard output
    Calibrate(CalibrateArguments),
    /// List the ready-made maps of names and layouts, or print one
    Maps {
        /// The map to print
        #[arg(value_parser = PossibleValuesParser::new(names::builtin::names()))]
        name: Option<String>,
    },
    /// Propose a map from a candidate's names and layouts to those of a golden dump
    Names {
        /// The folder of the dump that is right
        golden: PathBuf,
        /// The folder of the dump with names of its own, of the same request
        candidate: PathBuf,
        /// A file for the map; standard output if none is named
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make a dump of sketches from a dump in full: small enough for git, and compared by estimates
    Sketch(SketchArguments),
    /// Show what is in a dump
    Show {
        /// The dump's folder
        dump: PathBuf,
    },
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show them in place of the commands'")]
    Common(cli::Command),
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The folder of the dump that is right
    pub golden: PathBuf,
    /// The folder of the dump to be judged
    pub candidate: PathBuf,
    /// A policy with a name: every bit, or the limits of one dtype for all entries
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Preset::NAMES))]
    pub preset: Option<String>,
    /// A TOML file with tolerances of your own
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// A map of the candidate's names and layouts: a TOML file, or a ready-made map (`nvl-validate maps`)
    #[arg(long, value_name = "FILE|NAME")]
    pub names: Option<String>,
    /// A right run of the same request, whose noise gives the limits; several times for the largest of several
    #[arg(long, value_name = "DUMP")]
    pub noise: Vec<PathBuf>,
    /// How many times the noise an error may be
    #[arg(long, value_name = "K", default_value_t = NOISE_FACTOR, value_parser = factor, requires = "noise")]
    pub noise_factor: f64,
    /// How to present the result; several times with `--out`
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(report::NAMES))]
    pub format: Vec<String>,
    /// A folder for one `report.*` file of each format (all formats if none is named)
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A checkpoint's folder or its `tokenizer.json`, for the texts of the ids where the answers part
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Give each entry a row of its own in the table
    #[arg(long)]
    pub all: bool,
    /// Do not check the tensors against their recorded hashes
    #[arg(long)]
    pub no_verify: bool,
}

/// Arguments of `calibrate`.
#[derive(Debug, Args)]
pub struct CalibrateArguments {
    /// The folder of the dump that is right
    pub golden: PathBuf,
    /// The folders of other right runs of the same request
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// How many times the noise an error may be
    #[arg(long, value_name = "K", default_value_t = NOISE_FACTOR, value_parser = factor)]
    pub factor: f64,
    /// Do not check the tensors against their recorded hashes
    #[arg(long)]
    pub no_verify: bool,
}

/// Arguments of `sketch`.
#[derive(Debug, Args)]
pub struct SketchArguments {
    /// The folder of the dump in full
    pub dump: PathBuf,
    /// The folder to make, which must not exist or be empty
    pub out: PathBuf,
    /// What signs and places are drawn from: only sketches of one seed can be compared
    #[arg(long, value_name = "N", default_value_t = sketch::DEFAULT_SEED, value_parser = seed())]
    pub seed: u64,
    /// Sketch only sites whose name matches, and keep the others in full; may be given more than once
    #[arg(long, value_name = "GLOB")]
    pub sites: Vec<Glob>,
    /// Take the place of a dump that is there
    #[arg(long)]
    pub force: bool,
}

fn seed() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(..sketch::SEED_LIMIT)
}

/// How many times the noise of right runs an error may be, if nothing else is said.
const NOISE_FACTOR: f64 = 3.0;

fn factor(text: &str) -> Result<f64, String> {
    let expected = || format!("expected a number from 1 on, found `{text}`");
    text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor >= 1.0).ok_or_else(expected)
}
