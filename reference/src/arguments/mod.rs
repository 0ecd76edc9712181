//! The command line.

mod model;
mod recording;
mod request;
mod sampling;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

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
    /// Answer a question, about pictures or without any
    Generate(GenerateArguments),
    /// Answer many requests from a file of JSON Lines into another; a run that was killed is taken up again
    Run(RunArguments),
    /// Write what the model would be given, pixels and token ids, as an activation dump
    Preprocess(PreprocessArguments),
    /// Measure how fast the model runs on this machine
    Bench(BenchArguments),
    /// Run a golden's own request again, from its recorded `pixel_values` and `input_ids`
    Replay(ReplayArguments),
    /// Name every module that computed wrongly in a recorded run, whatever came before it
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
    /// Token that ends the answer, in place of the tokenizer's end token; may be given more than once
    #[arg(long = "eos-token-id", value_name = "ID")]
    pub eos_token_ids: Vec<i64>,
    /// End the answer in front of this text; may be given more than once
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// With `--json`: log probabilities of each token, and of so many of the most likely ones
    #[arg(long, value_name = "N", requires = "json", num_args = 0..=1, default_missing_value = "0")]
    pub logprobs: Option<usize>,
    /// Folder to write an activation dump of the prefill to, with the logits of each step
    #[arg(long, value_name = "OUT")]
    pub record: Option<PathBuf>,
    /// What is recorded.
    #[command(flatten)]
    pub recording: RecordingArguments,
    /// Replace OUT where it exists
    #[arg(long, requires = "record")]
    pub force: bool,
    /// Print the answer as JSON, with token ids and times, when it is complete
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Which model, and where and how it runs.
    #[command(flatten)]
    pub model: ModelArguments,
    /// Requests, a JSON object a line
    #[arg(value_name = "REQUESTS.jsonl")]
    pub requests: PathBuf,
    /// Answers, a JSON object a line; requests that are answered here already are left out
    #[arg(value_name = "OUT.jsonl")]
    pub answers: PathBuf,
    /// Begin anew: remove the answers of an earlier run that are in OUT
    #[arg(long)]
    pub force: bool,
    /// Answer only part i of n of the requests (i from 0), for independent processes with an OUT of their own each
    #[arg(long, value_name = "i/n", default_value_t = Shard::WHOLE)]
    pub shard: Shard,
    /// Folder to write an activation dump of each request to
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
    /// Folder to write an activation dump of pixels, grids and token ids to
    #[arg(long, value_name = "DUMP")]
    pub out: PathBuf,
    /// Replace DUMP and FILE where they exist
    #[arg(long)]
    pub force: bool,
    /// Also write the tiles as one picture, a row for each picture
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
    /// Tokens of the prompt, the picture's not counted
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub prompt_tokens: usize,
    /// Tokens to decode
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub new_tokens: usize,
    /// Measured runs, after one that is not; the medians are told
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
    /// Folder of the golden dump
    #[arg(value_name = "GOLDEN")]
    pub golden: PathBuf,
    /// A picture of the golden's request, in its order: for a golden that has its `pixel_values` as a sketch only
    #[arg(long = "image", value_name = "FILE")]
    pub images: Vec<PathBuf>,
    /// Folder to write this run's dump to
    #[arg(long, value_name = "OUT")]
    pub record: PathBuf,
    /// Replace OUT where it exists
    #[arg(long)]
    pub force: bool,
    /// Record the attention's weights, where the golden has none, too
    #[arg(long)]
    pub attn_weights: bool,
    /// Write sketches instead of tensors: a dump that is small, and can still be compared
    #[arg(long)]
    pub sketch: bool,
    /// Use the best kernels of this machine, and not those that the golden was recorded with
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
    /// Folder of the golden dump
    #[arg(value_name = "GOLDEN")]
    pub golden: PathBuf,
    /// Folder of the dump whose modules are to be judged
    #[arg(value_name = "CANDIDATE")]
    pub candidate: PathBuf,
    /// A picture of the request, in its order: for a dump that has its `pixel_values` as a sketch only, or not at all
    #[arg(long = "image", value_name = "FILE")]
    pub images: Vec<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
