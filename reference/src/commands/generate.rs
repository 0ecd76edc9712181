//! `nvl-reference generate`.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;
use golden::manifest::Checkpoint;
use golden::{DumpWriter, ManifestHead};
use reference::generate::{FinishReason, Generation, GenerationConfig, Sampling, generate};
use reference::model::Math;
use reference::prompt::PromptBuilder;
use reference::record::Recorder;
use reference::request::{ChatRequest, PreparedRequest, read_history};
use reference::settings::{Settings, producer};
use reference::{Error, NemotronVl};
use serde::Serialize;

use super::{ModelArgs, Outcome, load_model, spinner};

/// Arguments of `generate`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// A picture; once for each, in the order of their `<image>` in the prompt
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// The question; without a history or an `<image>` of its own it gets one in front for each picture
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// System prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Earlier turns, as JSON: [{"user": "…", "assistant": "…"}, …]
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// The most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 512)]
    max_new_tokens: usize,
    /// Draw tokens by chance, logits divided by T; 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Draw among the most likely tokens only, as many as reach this probability together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// The same seed draws the same tokens
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Folder to write an activation dump of the prefill to, with the logits of each step
    #[arg(long, value_name = "OUT")]
    record: Option<PathBuf>,
    /// Record only sites whose name matches; may be given more than once
    #[arg(long, value_name = "GLOB", requires = "record")]
    sites: Vec<String>,
    /// Replace OUT where it exists
    #[arg(long, requires = "record")]
    force: bool,
    /// Print the answer as JSON, with token ids and times, when it is complete
    #[arg(long)]
    json: bool,
}

/// Runs the command; the answer is streamed to stdout.
pub fn run(args: Args) -> Result<Outcome> {
    let settings = Settings { threads: args.model.threads, cpu_capability: None };
    settings.apply();
    let config = generation_config(&args)?;
    let request = ChatRequest {
        system: args.system.clone(),
        history: args.history.as_deref().map(read_history).transpose()?,
        question: args.prompt.clone(),
        images: args.images.clone(),
    };
    // A dump is for comparing: it gets the exact operations unless told otherwise.
    let math = if args.record.is_some() { Math::Exact } else { Math::Fast };
    let model = load_model(&args.model, args.model.dtype.map(Into::into), math)?;
    let prompts = PromptBuilder::load(&args.model.model, model.config()).map_err(Error::from)?;
    let prepared = request.prepare(model.config(), &prompts)?;
    for (file, warning) in prepared.warnings() {
        eprintln!("warning: {file}: {warning}");
    }
    let config = GenerationConfig { eos_token_ids: vec![prompts.tokenizer().eos_token_id()], ..config };

    let mut recorder = match &args.record {
        Some(out) => {
            let create = if args.force { DumpWriter::create_replacing } else { DumpWriter::create };
            Recorder::new(create(out)?, &args.sites)?
        }
        None => Recorder::off(),
    };
    let generation = stream(&model, &prompts, &prepared, &config, &mut recorder, !args.json)?;
    let text = prompts.tokenizer().answer(&generation.token_ids).map_err(Error::from)?;

    if let Some(writer) = recorder.into_writer() {
        let mut head = ManifestHead::new(producer(&model, &settings));
        head.checkpoint = args.model.model.file_name().map(|name| Checkpoint::new(name.to_string_lossy()));
        head.request = Some(prepared.manifest(config.max_new_tokens, &config.sampling));
        head.prompt = Some(prepared.prompt.clone());
        head.generated_ids = Some(generation.token_ids.clone());
        head.text = Some(text.clone());
        writer.finish(head)?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&Answer::new(&text, &prepared, &generation))?);
    }
    Ok(Outcome::Yes)
}

/// Generates; with `print`, writes the answer to stdout as it comes, and a line break behind it.
fn stream(
    model: &NemotronVl,
    prompts: &PromptBuilder,
    prepared: &PreparedRequest,
    config: &GenerationConfig,
    recorder: &mut Recorder,
    print: bool,
) -> Result<Generation> {
    let mut stdout = std::io::stdout();
    let mut write = |piece: &str| -> reference::Result<()> {
        if print && !piece.is_empty() {
            stdout.write_all(piece.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Output)?;
        }
        Ok(())
    };
    let waiting = spinner(format!("reading {} tokens", prepared.inputs.input_ids.numel()));
    let mut answer = prompts.tokenizer().answer_stream();
    let generation = generate(model, &prepared.inputs, config, recorder, |token| {
        waiting.finish_and_clear();
        write(&answer.push(token)?)
    })?;
    write(&answer.finish().map_err(Error::from)?)?;
    write("\n")?;
    if generation.finish_reason == FinishReason::Length && std::io::stderr().is_terminal() {
        eprintln!("note: stopped at `--max-new-tokens {}`", config.max_new_tokens);
    }
    Ok(generation)
}

fn generation_config(args: &Args) -> Result<GenerationConfig> {
    let refuse = |flag: &str, expected: &str, found: f64| {
        Err(Error::Request(format!("`{flag}`: expected {expected}, found {found}")).into())
    };
    if !(args.temperature.is_finite() && args.temperature >= 0.0) {
        return refuse("--temperature", "0 or more", args.temperature);
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return refuse("--top-p", "more than 0 and at most 1", args.top_p);
    }
    let sampling = if args.temperature == 0.0 {
        Sampling::Greedy
    } else {
        Sampling::Random { temperature: args.temperature, top_p: args.top_p, seed: args.seed }
    };
    Ok(GenerationConfig { max_new_tokens: args.max_new_tokens, eos_token_ids: Vec::new(), sampling })
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    text: &'a str,
    generated_ids: &'a [i64],
    finish_reason: FinishReason,
    prompt: &'a str,
    prompt_tokens: usize,
    generated_tokens: usize,
    tiles: Vec<usize>,
    prefill_secs: f64,
    decode_secs: f64,
}

impl<'a> Answer<'a> {
    fn new(text: &'a str, prepared: &'a PreparedRequest, generation: &'a Generation) -> Self {
        Self {
            text,
            generated_ids: &generation.token_ids,
            finish_reason: generation.finish_reason,
            prompt: &prepared.prompt,
            prompt_tokens: prepared.inputs.input_ids.numel(),
            generated_tokens: generation.token_ids.len(),
            tiles: prepared.pictures.iter().map(|picture| picture.num_tiles).collect(),
            prefill_secs: generation.prefill_time.as_secs_f64(),
            decode_secs: generation.decode_time.as_secs_f64(),
        }
    }
}
