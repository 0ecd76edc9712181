//! Many requests from a file, answered into another: a run that can be killed at any moment and taken up again.

mod identity;
mod line;
mod outcomes;
mod requests;
mod row;
mod row_bytes;
mod shard;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

pub use identity::{Difference, FileHashes, Identity, RunConfig, checkpoint_sha256, files_of};
pub use line::{RequestLine, RequestTurn};
pub use outcomes::{Done, Outcomes};
pub use requests::{Requests, SourceLine};
pub use row::{AnsweredRow, Outcome, Row, RowImage};
pub use shard::Shard;

use crate::arguments::RecordingArguments;
use crate::error::{Error, Result};
use crate::generate::GenerationConfig;
use crate::record::Recorder;
use crate::session::Session;

/// What stays the same for all requests of a run.
pub struct Runner {
    /// What answers.
    pub session: Session,
    /// Where to write a dump of each request, and what it has.
    pub record: Option<(PathBuf, RecordingArguments)>,
}

impl Runner {
    /// Answers one request, whose pictures' paths are relative to `base`.
    ///
    /// # Errors
    /// Whatever is wrong with this request; the run can go on with the next. [`Error::Interrupted`]: it cannot.
    pub fn answer(&self, line: &SourceLine, request: &RequestLine, base: &Path) -> Result<Outcome> {
        let sampling = request.sampling();
        sampling.check()?;
        let prepared = self.session.prepare(&request.chat(base)?)?;
        let config = GenerationConfig {
            max_new_tokens: request.max_new_tokens,
            eos_token_ids: self.session.end_token_ids(&request.eos_token_ids)?,
            sampling,
            logprobs: request.logprobs,
        };
        let recorder = match &self.record {
            // A dump of a request that was not finished is made anew.
            Some((dir, what)) => {
                let writer = golden::DumpWriter::create_replacing(dir.join(line.dump_name()))?;
                what.recorder(writer, self.session.attention())?
            }
            None => Recorder::off(),
        };
        let answer = self.session.answer(&prepared, &config, &request.stop, recorder, |_| Ok(()))?;
        Outcome::answered(&prepared, &answer)
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

/// Where a run's requests come from and its answers go, and how they are computed.
#[derive(Debug, Clone)]
pub struct RunFiles {
    /// The file of requests.
    pub requests: PathBuf,
    /// The file of answers.
    pub answers: PathBuf,
    /// Which of the requests.
    pub shard: Shard,
    /// Whether answers that are there are to be removed.
    pub begin_anew: bool,
    /// How they are computed.
    pub config: RunConfig,
}

/// Answers the requests of a file, each once, into another; those that are in the other already are left as they are.
///
/// `load` makes the runner, and is not called where nothing is left to do. `on_row` is told of each row.
///
/// # Errors
/// Where a file cannot be read or written, or the answers are not those of these requests. What is wrong with a single
/// request becomes its own row. [`Error::Interrupted`] where the user has asked to stop: the request under way has no row.
pub fn run(
    files: &RunFiles,
    load: impl FnOnce() -> Result<Runner>,
    mut on_row: impl FnMut(usize, usize, &Row),
) -> Result<RunSummary> {
    let requests = Requests::read(&files.requests)?;
    let base = files.requests.parent().unwrap_or(Path::new(""));
    let mut outcomes = Outcomes::open(&files.answers, &files.requests, files.begin_anew)?;
    let (mut summary, left) = left_to_do(files, &requests, &outcomes, base)?;
    if left.is_empty() {
        return Ok(summary);
    }
    let runner = load()?;
    let total = left.len();
    for (index, line) in left.into_iter().enumerate() {
        runner.session.check_not_stopped()?;
        // Of the files as they are now, before they are looked at.
        let identity = Identity::of(line, base, &files.config, &FileHashes::default());
        let row = Row::new(line, outcome(&runner, line, base)?, identity);
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

/// The requests that have no row, and a count of those that have one.
fn left_to_do<'a>(
    files: &RunFiles,
    requests: &'a Requests,
    outcomes: &Outcomes,
    base: &Path,
) -> Result<(RunSummary, Vec<&'a SourceLine>)> {
    let lines: Vec<&SourceLine> = requests.lines().filter(|line| files.shard.has(line.number)).collect();
    let by_number: HashMap<usize, &SourceLine> = lines.iter().map(|&line| (line.number, line)).collect();
    outcomes.check_none_but(&by_number)?;
    let done = outcomes.lines().filter_map(|number| by_number.get(&number)?.request.as_ref().ok());
    let hashes = FileHashes::read(done.flat_map(|request| files_of(request, base)).collect());
    let mut summary = RunSummary::default();
    let mut left = Vec::new();
    for line in lines {
        match outcomes.of(line, || Identity::of(line, base, &files.config, &hashes))? {
            None => left.push(line),
            Some(done) => {
                summary.done_before += 1;
                summary.failed += usize::from(done == Done::Failed);
            }
        }
    }
    Ok((summary, left))
}

/// Answers a request, whatever happens but the user's wish to stop.
fn outcome(runner: &Runner, line: &SourceLine, base: &Path) -> Result<Outcome> {
    let request = match &line.request {
        Ok(request) => request,
        Err(problem) => return Ok(Outcome::failed(&Error::Request(problem.clone()))),
    };
    // What is done for one request is thrown away with it, so that the next finds nothing half done.
    let answered = catch_unwind(AssertUnwindSafe(|| runner.answer(line, request, base)));
    match answered {
        Ok(Err(Error::Interrupted)) => Err(Error::Interrupted),
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => Ok(Outcome::failed(&error)),
        Err(_) => Ok(Outcome::failed(&Error::Defect)),
    }
}
