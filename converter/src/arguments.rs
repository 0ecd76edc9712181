//! The command line.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::architecture::Part;
use crate::normalized::TorchDtype;
use crate::plan::{PlanOptions, ShardSize};
use crate::resolve::Settings;
use crate::source::{CodeCaches, FetchOptions};

/// The whole command line, as clap describes it: for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Converts a Llama-3.1-Nemotron-Nano-VL checkpoint to a normalized one that needs no Python
#[derive(Debug, Parser)]
#[command(name = "nvl-convert", version = cli::VERSION, max_term_width = 100)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what a checkpoint contains, and how each behaviour of the model is known
    Inspect {
        /// A folder, or a hub id with an optional revision (`owner/name@rev`)
        source: String,
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "clap would show them in place of the arguments'")]
        hub: HubArguments,
    },
    /// Write a normalized checkpoint, with a ledger of every tensor and assumption
    Convert(ConvertArguments),
    /// Hash a normalized checkpoint and compare it with its ledger, and with its source
    Verify {
        /// The normalized checkpoint
        out: PathBuf,
        /// Convert this source again, in memory, and compare
        #[arg(long)]
        source: Option<String>,
        /// Do not use the network: the cache must have what SOURCE needs
        #[arg(long)]
        local_files_only: bool,
    },
    /// Write the original checkpoint again, byte by byte
    Export {
        /// The normalized checkpoint
        out: PathBuf,
        /// The folder to write, in Hugging Face's layout
        hf_dir: PathBuf,
        /// Replace HF_DIR if it is empty or an unchanged export
        #[arg(long)]
        force: bool,
    },
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show them in place of the commands'")]
    Common(cli::Command),
}

/// What is asked of a hub
#[derive(Debug, Args)]
pub struct HubArguments {
    /// The revision of the other repository that has the model's code: a branch, a tag or a commit
    #[arg(long, value_name = "REV")]
    pub code_revision: Option<String>,
    /// Do not use the network: the cache must have everything
    #[arg(long)]
    pub local_files_only: bool,
}

impl HubArguments {
    /// What is fetched of a source on the hub: of files of weights perhaps only the headers.
    pub fn options(&self, headers_only: bool) -> FetchOptions {
        FetchOptions {
            local_files_only: self.local_files_only,
            headers_only,
            code_revision: self.code_revision.clone(),
        }
    }
}

/// Arguments of `convert`
#[derive(Debug, Args)]
pub struct ConvertArguments {
    /// A folder, or a hub id with an optional revision (`owner/name@rev`)
    pub source: String,
    /// The folder to write
    pub out: PathBuf,
    /// The part to write: transformers' own classes load `text` and `vision`
    #[arg(long, value_enum, default_value_t = PartArgument::All)]
    part: PartArgument,
    /// The dtype of the weights written
    #[arg(long, value_parser = DtypeArgument::parser(), default_value = DtypeArgument::KEEP)]
    dtype: DtypeArgument,
    /// The largest file, unless a single tensor is larger
    #[arg(long, value_name = "SIZE", default_value = "5GB")]
    max_shard_size: ShardSize,
    /// Whether the tower resizes its positions with aligned corners, if no source file says so
    #[arg(long, value_name = "true|false")]
    align_corners: Option<bool>,
    /// The factor by which a picture is enlarged before it is cut into tiles, if no source file says it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    upscale_factor: Option<u8>,
    /// Refuse behaviours that are only assumed
    #[arg(long)]
    pub strict: bool,
    /// Print the plan and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Replace OUT if it is empty or a converted checkpoint without other files
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show them in place of the arguments'")]
    pub hub: HubArguments,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PartArgument {
    All,
    Text,
    Vision,
}

/// `--dtype`: `keep`, or a dtype.
#[derive(Debug, Clone, Copy)]
struct DtypeArgument(Option<TorchDtype>);

impl DtypeArgument {
    const KEEP: &str = "keep";

    fn parser() -> impl TypedValueParser<Value = Self> {
        let names = TorchDtype::ALL.map(TorchDtype::as_str);
        PossibleValuesParser::new([Self::KEEP].into_iter().chain(names))
            .map(|name| Self(TorchDtype::named(&name)))
    }
}

impl ConvertArguments {
    /// What the user says of the model.
    pub fn settings(&self) -> Settings {
        Settings {
            align_corners: self.align_corners,
            upscale_factor: self.upscale_factor.map(usize::from),
            caches: CodeCaches::from_env(),
            code_revision: self.hub.code_revision.clone(),
        }
    }

    /// How the checkpoint is to be written.
    pub fn options(&self) -> PlanOptions {
        let part = match self.part {
            PartArgument::All => Part::All,
            PartArgument::Text => Part::Text,
            PartArgument::Vision => Part::Vision,
        };
        PlanOptions { part, dtype: self.dtype.0, max_shard_size: self.max_shard_size }
    }
}
