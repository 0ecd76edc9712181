//! `nvl-reference generate`.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use golden::DumpWriter;
use reference::Error;
use reference::Math;
use reference::answer::Answer;
use reference::arguments::GenerateArguments;
use reference::generate::{FinishReason, GenerationConfig, StepLogprobs};
use reference::memory::peak_resident_bytes;
use reference::record::Recorder;
use reference::request::PreparedRequest;
use reference::session::Session;
use reference::settings::Settings;
use serde::Serialize;

use super::{Verdict, interrupt, load_model, print_json, spinner, warn};

/// Runs the command; the answer is streamed to stdout.
pub fn run(args: GenerateArguments) -> Result<Verdict> {
    let settings = Settings { threads: args.model.threads, ..Settings::default() };
    settings.apply();
    let sampling = args.sampling.sampling()?;
    let request = args.request.request()?;
    // A dump is for comparing: it gets the exact operations unless told otherwise.
    let math = if args.record.is_some() { Math::Exact } else { Math::Fast };
    args.recording.check(args.model.attention_with(math))?;
    let model = load_model(&args.model, args.model.dtype, math)?;
    let session = Session::new(model, &args.model.model, settings, interrupt::is_stopped)?;
    let prepared = session.prepare(&request)?;
    warn(&prepared);
    let config = GenerationConfig {
        max_new_tokens: args.max_new_tokens,
        eos_token_ids: session.end_token_ids(&args.eos_token_ids)?,
        sampling,
        logprobs: args.logprobs,
    };

    // Until here there is nothing to end cleanly, and a signal ends the program by itself.
    interrupt::listen()?;
    let recorder = match &args.record {
        Some(out) => {
            let create = if args.force { DumpWriter::create_replacing } else { DumpWriter::create };
            args.recording.recorder(create(out)?, session.attention())?
        }
        None => Recorder::off(),
    };
    let mut print = Printer { on: !args.json };
    let waiting = spinner(format!("reading {} tokens", prepared.inputs.input_ids.numel()));
    let answer = session.answer(&prepared, &config, &args.stop, recorder, |piece| {
        waiting.finish_and_clear();
        print.write(piece)
    })?;
    print.write("\n")?;
    if answer.generation.finish_reason == FinishReason::Length && std::io::stderr().is_terminal() {
        eprintln!("note: stopped at `--max-new-tokens {}`", args.max_new_tokens);
    }
    if args.json {
        print_json(&Report::new(&answer, &prepared))?;
    }
    Ok(Verdict::Yes)
}

/// Writes to stdout as the answer comes.
struct Printer {
    on: bool,
}

impl Printer {
    fn write(&mut self, piece: &str) -> reference::Result<()> {
        if !self.on || piece.is_empty() {
            return Ok(());
        }
        let mut stdout = std::io::stdout();
        stdout.write_all(piece.as_bytes()).and_then(|()| stdout.flush()).map_err(Error::Output)
    }
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    text: &'a str,
    generated_ids: &'a [i64],
    finish_reason: FinishReason,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    logprobs: &'a [StepLogprobs],
    prompt: &'a str,
    prompt_tokens: usize,
    generated_tokens: usize,
    tiles: Vec<usize>,
    prefill_secs: f64,
    decode_secs: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_resident_bytes: Option<u64>,
}

impl<'a> Report<'a> {
    fn new(answer: &'a Answer, prepared: &'a PreparedRequest) -> Self {
        let generation = &answer.generation;
        Self {
            text: &answer.text,
            generated_ids: &generation.token_ids,
            finish_reason: generation.finish_reason,
            logprobs: &generation.logprobs,
            prompt: &prepared.prompt,
            prompt_tokens: prepared.inputs.input_ids.numel(),
            generated_tokens: generation.token_ids.len(),
            tiles: prepared.pictures.iter().map(|picture| picture.num_tiles).collect(),
            prefill_secs: generation.prefill_time.as_secs_f64(),
            decode_secs: generation.decode_time.as_secs_f64(),
            peak_resident_bytes: peak_resident_bytes(),
        }
    }
}
