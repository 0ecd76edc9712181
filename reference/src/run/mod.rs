//! Many requests from a file, answered into another: a run that can be killed at any moment and taken up again.

mod line;
mod outcome;
mod requests;
mod shard;

use std::path::{Path, PathBuf};

pub use line::{RequestLine, RequestTurn};
pub use outcome::{Done, Outcomes, Row};
pub use requests::{Requests, SourceLine};
pub use shard::Shard;

use crate::answer::answer;
use crate::arguments::RecordingArguments;
use crate::error::{Error, Result};
use crate::generate::GenerationConfig;
use crate::model::NemotronVl;
use crate::prompt::PromptBuilder;
use crate::record::Recorder;
use crate::settings::{Settings, producer};

/// What stays the same for all requests of a run.
pub struct Runner {
    /// The model.
    pub model: NemotronVl,
    /// Its tokenizer and chat template.
    pub prompts: PromptBuilder,
    /// What a dump's manifest tells of the machine.
    pub settings: Settings,
    /// Name of the checkpoint in a dump's manifest.
    pub checkpoint: Option<String>,
    /// Folder that pictures' paths are relative to: the request file's.
    pub base: PathBuf,
    /// Where to write a dump of each request, and what it has.
    pub record: Option<(PathBuf, RecordingArguments)>,
}

impl Runner {
    /// Answers one request.
    ///
    /// # Errors
    /// Whatever is wrong with this request; the run can go on with the next.
    pub fn answer(&self, line: &SourceLine, request: &RequestLine) -> Result<Row> {
        let sampling = request.sampling();
        sampling.check()?;
        let prepared = request.chat(&self.base)?.prepare(self.model.config(), &self.prompts)?;
        let config = GenerationConfig {
            max_new_tokens: request.max_new_tokens,
            eos_token_ids: self.prompts.tokenizer().end_token_ids(&request.eos_token_ids)?,
            sampling,
            logprobs: request.logprobs,
        };
        let mut recorder = match &self.record {
            // A dump of a request that was not finished is made anew.
            Some((dir, what)) => {
                what.recorder(golden::DumpWriter::create_replacing(dir.join(line.dump_name()))?)?
            }
            None => Recorder::off(),
        };
        let tokenizer = self.prompts.tokenizer();
        let answer =
            answer(&self.model, tokenizer, &prepared.inputs, &config, &request.stop, &mut recorder, |_| {
                Ok(())
            })?;
        if let Some(writer) = recorder.into_writer() {
            let producer = producer(&self.model, &self.settings, &prepared.inputs);
            writer.finish(answer.manifest_head(producer, self.checkpoint.clone(), &prepared, &config))?;
        }
        Ok(Row::answered(line, &prepared, &answer))
    }
}

/// How a run went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Requests that were answered now.
    pub answered: usize,
    /// Requests that could not be answered, now or before.
    pub failed: usize,
    /// Requests that an earlier run had done.
    pub done_before: usize,
}

/// Answers the requests of a file, each once, into another; those that are in the other already are left as they are.
///
/// `load` makes the runner, and is not called where nothing is left to do. `is_stopped` is asked between requests;
/// `on_row` is told of each row.
///
/// # Errors
/// Where a file cannot be read or written, or the answers are not those of these requests. What is wrong with a single
/// request becomes its own row.
pub fn run(
    requests: &Path,
    answers: &Path,
    shard: Shard,
    load: impl FnOnce() -> Result<Runner>,
    is_stopped: impl Fn() -> bool,
    mut on_row: impl FnMut(usize, usize, &Row),
) -> Result<RunSummary> {
    let requests = Requests::read(requests)?;
    let mut outcomes = Outcomes::open(answers)?;
    let mut summary = RunSummary::default();
    let mut left = Vec::new();
    for line in requests.lines().filter(|line| shard.has(line.number)) {
        match outcomes.of(line)? {
            None => left.push(line),
            Some(done) => {
                summary.done_before += 1;
                summary.failed += usize::from(done == Done::Failed);
            }
        }
    }
    if left.is_empty() {
        return Ok(summary);
    }
    let runner = load()?;
    let total = left.len();
    for (index, line) in left.into_iter().enumerate() {
        if is_stopped() {
            return Err(Error::Interrupted);
        }
        let row = match line.request.as_ref().map_err(Clone::clone) {
            Ok(request) => runner.answer(line, request).unwrap_or_else(|error| Row::failed(line, &error)),
            Err(problem) => Row::failed(line, &Error::Request(problem)),
        };
        outcomes.append(&row)?;
        if row.is_error() {
            summary.failed += 1
        } else {
            summary.answered += 1
        }
        on_row(index + 1, total, &row);
    }
    Ok(summary)
}
