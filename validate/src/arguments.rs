//! The command line.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use globset::Glob;
use golden::sketch;

use crate::names;
use crate::relation::Relation;
use crate::report::{Format, GraphFormat};
use measure::tolerance::Preset;

/// The whole command line, as clap describes it: for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Compares activation dumps layer by layer and names the first divergence
///
/// Exit status: 0 if everything is within its tolerance, 1 if something is not, 2 if the comparison could not be made.
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
    /// Measure right runs, and write their limits as a policy to standard output
    Calibrate(CalibrateArguments),
    /// List the ready-made name maps, or print one
    Maps {
        /// The map to print
        #[arg(value_parser = PossibleValuesParser::new(names::builtin::names()))]
        name: Option<String>,
    },
    /// Propose a name map for a candidate with its own names and layouts
    Names {
        /// The folder of the dump that is right
        golden: PathBuf,
        /// The folder of the candidate's dump of the same request
        candidate: PathBuf,
        /// Write the map to this file [default: standard output]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Make a dump of sketches from a full dump: it is small enough for git, and is compared by estimates
    Sketch(SketchArguments),
    /// Show what is in a dump
    Show(ShowArguments),
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show them in place of the commands'")]
    Common(cli::Command),
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The folder of the dump that is right
    pub golden: PathBuf,
    /// The folder of the dump under test
    pub candidate: PathBuf,
    /// Use a built-in policy: every bit, or the limits of one dtype for all entries
    #[arg(long, value_name = "NAME", value_parser = preset())]
    pub preset: Option<Preset>,
    /// Take tolerances from this TOML file
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Map the candidate's names and layouts: a TOML file, or a ready-made map (`nvl-validate maps`)
    #[arg(long, value_name = "FILE|NAME")]
    pub names: Option<String>,
    /// Two runs of one engine, the plain one first, that must agree in this way
    #[arg(long, value_name = "NAME", value_parser = relation())]
    pub relation: Option<Relation>,
    /// Take the limits from the noise of this right run of the same request; may be repeated, the largest noise counts
    #[arg(long, value_name = "DUMP")]
    pub noise: Vec<PathBuf>,
    /// An error may be this many times the noise
    #[arg(long, value_name = "K", default_value_t = NOISE_FACTOR, value_parser = factor, requires = "noise")]
    pub noise_factor: f64,
    /// The format of the report; may be repeated with `--out`
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Vec<Format>,
    /// Write a `report.*` file for each format to this folder [default formats: all]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Show the texts of differing ids, with this checkpoint folder or `tokenizer.json`
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Show each entry in its own row of the table
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
    /// An error may be this many times the noise
    #[arg(long, value_name = "K", default_value_t = NOISE_FACTOR, value_parser = factor)]
    pub factor: f64,
    /// Do not check the tensors against their recorded hashes
    #[arg(long)]
    pub no_verify: bool,
}

/// Arguments of `show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// The dump's folder
    pub dump: PathBuf,
    /// Show only the sites whose name matches; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub sites: Vec<Glob>,
    /// Print what each entry was computed from, as a graph for Graphviz or Mermaid [default format: dot]
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "dot", value_enum)]
    pub graph: Option<GraphFormat>,
}

/// Arguments of `sketch`.
#[derive(Debug, Args)]
pub struct SketchArguments {
    /// The folder of the full dump
    pub dump: PathBuf,
    /// The folder to write; it must be empty or not exist
    pub out: PathBuf,
    /// The seed of the sketches: only sketches with the same seed can be compared
    #[arg(long, value_name = "N", default_value_t = sketch::DEFAULT_SEED, value_parser = seed())]
    pub seed: u64,
    /// Sketch only the sites whose name matches, and keep the others in full; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub sites: Vec<Glob>,
    /// Replace an existing dump
    #[arg(long)]
    pub force: bool,
}

fn preset() -> impl TypedValueParser<Value = Preset> {
    let names = PossibleValuesParser::new(Preset::ALL.map(Preset::name));
    names.try_map(|name| Preset::named(&name).ok_or("expected a preset"))
}

fn relation() -> impl TypedValueParser<Value = Relation> {
    let names = PossibleValuesParser::new(Relation::ALL.map(Relation::name));
    names.try_map(|name| Relation::named(&name).ok_or("expected a relation"))
}

fn seed() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(..sketch::SEED_LIMIT)
}

/// How many times the noise of right runs an error may be, if nothing else is said.
pub const NOISE_FACTOR: f64 = 3.0;

fn factor(text: &str) -> Result<f64, String> {
    let expected = || format!("expected a number from 1 on, found `{text}`");
    text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor >= 1.0).ok_or_else(expected)
}
