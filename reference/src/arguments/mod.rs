//! The command line.

mod model;
mod recording;
mod request;
mod sampling;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use golden::Steps;

use crate::run::Shard;

pub use model::{ModelArguments, PixelValuesArgument};
pub use recording::RecordingArguments;
pub use request::RequestArguments;
pub use sampling::SamplingArguments;

/// The whole command line, as clap describes it: for manual pages and completions.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs Llama-3.1-Nemotron-Nano-VL from a normalized checkpoint: reference answers, and activations of every layer.
#[derive(Debug, Parser)]
#[command(name = "nvl-reference", version = cli::VERSION, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a question, with or without pictures
    Generate(GenerateArguments),
    /// Answer a file of requests (JSON Lines); an interrupted run continues
    Run(RunArguments),
    /// Write the model's inputs, pixels and token ids, as an activation dump
    Preprocess(PreprocessArguments),
    /// Measure how fast the model runs on this machine
    Bench(BenchArguments),
    /// Run a golden's request again from its recorded `pixel_values` and `input_ids`
    Replay(ReplayArguments),
    /// Name every wrong module of a recorded run, even after an earlier error
    Isolate(IsolateArguments),
    #[command(flatten)]
    #[expect(missing_docs, reason = "clap would show them in place of the commands'")]
    Common(cli::Command),
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// Which model, and where and how it runs.
    #[command(flatten)]
    pub model: ModelArguments,
    /// What is asked.
    #[command(flatten)]
    pub request: RequestArguments,
    /// The most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_new_tokens: usize,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArguments,
    /// A token that ends the answer, instead of the tokenizer's end token; may be repeated
    #[arg(long = "eos-token-id", value_name = "ID")]
    pub eos_token_ids: Vec<i64>,
    /// End the answer before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// With `--json`: write the log probability of each token, and of this many of the most likely ones
    #[arg(long, value_name = "N", requires = "json", num_args = 0..=1, default_missing_value = "0")]
    pub logprobs: Option<usize>,
    /// Write an activation dump of the prefill, or of the passes in `--steps`, and the logits of each step, to this folder
    #[arg(long, value_name = "OUT")]
    pub record: Option<PathBuf>,
    /// What is recorded.
    #[command(flatten)]
    pub recording: RecordingArguments,
    /// Replace OUT if it exists
    #[arg(long, requires = "record")]
    pub force: bool,
    /// Print the complete answer as JSON, with token ids and times
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Which model, and where and how it runs.
    #[command(flatten)]
    pub model: ModelArguments,
    /// The requests, one JSON object a line
    #[arg(value_name = "REQUESTS.jsonl")]
    pub requests: PathBuf,
    /// The answers, one JSON object a line; requests that are already answered here are skipped
    #[arg(value_name = "OUT.jsonl")]
    pub answers: PathBuf,
    /// Remove all answers in OUT and start again
    #[arg(long)]
    pub force: bool,
    /// Answer only part i of n of the requests (i from 0); each process needs its own OUT
    #[arg(long, value_name = "i/n", default_value_t = Shard::WHOLE)]
    pub shard: Shard,
    /// Write an activation dump of each request to this folder
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
    /// What is recorded.
    #[command(flatten)]
    pub recording: RecordingArguments,
}

/// Arguments of `preprocess`.
#[derive(Debug, Args)]
pub struct PreprocessArguments {
    /// Folder of a normalized checkpoint, made by `nvl-convert convert`
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// What is asked.
    #[command(flatten)]
    pub request: RequestArguments,
    /// Write an activation dump of pixels, grids and token ids to this folder
    #[arg(long, value_name = "DUMP")]
    pub out: PathBuf,
    /// Replace DUMP and FILE if they exist
    #[arg(long)]
    pub force: bool,
    /// Also write the tiles as one image, with a row for each picture
    #[arg(long, value_name = "FILE")]
    pub tiles_png: Option<PathBuf>,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Which model, and where and how it runs.
    #[command(flatten)]
    pub model: ModelArguments,
    /// Tiles of the picture; 0 for the language model only
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub tiles: usize,
    /// Tokens of the prompt, without the picture's
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub prompt_tokens: usize,
    /// Tokens to decode
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub new_tokens: usize,
    /// Measured runs, after a warm-up run; their medians are printed
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub runs: usize,
    /// Print the figures as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// Which model, and where and how it runs.
    #[command(flatten)]
    pub model: ModelArguments,
    /// The folder of the golden dump
    #[arg(value_name = "GOLDEN")]
    pub golden: PathBuf,
    /// A picture of the golden's request, in order; needed if the golden has only a sketch of `pixel_values`
    #[arg(long = "image", value_name = "FILE")]
    pub images: Vec<PathBuf>,
    /// Write this run's dump to this folder
    #[arg(long, value_name = "OUT")]
    pub record: PathBuf,
    /// Replace OUT if it exists
    #[arg(long)]
    pub force: bool,
    /// Record the attention weights even if the golden has none
    #[arg(long)]
    pub attn_weights: bool,
    /// Record these forward passes (`0:4`, `2:`, `every:16`, `0,3,7`) instead of the golden's; 0 is the prefill
    #[arg(long, value_name = "STEPS")]
    pub steps: Option<Steps>,
    /// Record the key-value cache behind each pass even if the golden has none
    #[arg(long)]
    pub kv: bool,
    /// Leave out what each entry was computed from
    #[arg(long)]
    pub no_flow: bool,
    /// Write sketches instead of tensors: the dump is small, and is compared by estimates
    #[arg(long)]
    pub sketch: bool,
    /// Use this machine's best kernels instead of the golden's
    #[arg(long)]
    pub native_kernels: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `isolate`.
#[derive(Debug, Args)]
pub struct IsolateArguments {
    /// Which model, and where and how it runs.
    #[command(flatten)]
    pub model: ModelArguments,
    /// The folder of the golden dump
    #[arg(value_name = "GOLDEN")]
    pub golden: PathBuf,
    /// The folder of the dump under test
    #[arg(value_name = "CANDIDATE")]
    pub candidate: PathBuf,
    /// A picture of the request, in order; needed if a dump has only a sketch of `pixel_values`, or none
    #[arg(long = "image", value_name = "FILE")]
    pub images: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
