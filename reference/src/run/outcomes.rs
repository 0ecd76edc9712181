//! The file of answers: a row for each request, appended whole.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::identity::Identity;
use super::requests::SourceLine;
use super::row::{DoneRow, Row};
use super::row_bytes::{begins_as_row, is_cut_off};
use crate::error::{Error, Result};

/// The file of answers, held by one process at a time.
#[derive(Debug)]
pub struct Outcomes {
    path: PathBuf,
    file: File,
    /// Where the next row goes.
    len: u64,
    /// The rows that are there, by line number of the requests, with their own.
    done: HashMap<usize, (usize, DoneRow)>,
}

/// What an earlier run did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It answered it.
    Answered,
    /// It could not.
    Failed,
}

/// Rows with log probabilities are long; a line that is longer is no row.
const MAX_ROW_BYTES: u64 = 1 << 30;

impl Outcomes {
    /// Opens the file or makes it. A row that a killed run did not finish is cut off, its request is not done; nothing else
    /// that is in the file is ever changed, unless it is to be begun anew.
    ///
    /// # Errors
    /// [`Error::Write`] where it cannot be opened; [`Error::Run`] where it is the file of requests, another process holds
    /// it, or it has a line that is no row; [`Error::OtherRun`] where one is not as it was written.
    pub fn open(path: &Path, requests: &Path, begin_anew: bool) -> Result<Self> {
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let refuse = |problem| Error::Run { path: path.to_owned(), problem };
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            // To open a pipe may wait for ever.
            return Err(refuse(
                "expected a file to write answers to, found a folder, a pipe or a device".into(),
            ));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let asked = std::fs::metadata(requests)
            .map_err(|source| Error::Read { path: requests.to_owned(), source })?;
        if store::is_same_file(&asked, &file.metadata().map_err(failed)?) {
            let problem =
                format!("expected a file for answers, found the file of requests, `{}`", requests.display());
            return Err(refuse(problem));
        }
        if !store::try_lock(&file).map_err(failed)? {
            return Err(refuse("another run is writing to it".to_owned()));
        }
        let mut outcomes = Self { path: path.to_owned(), file, len: 0, done: HashMap::new() };
        if begin_anew {
            outcomes.empty()?
        } else {
            outcomes.read_rows()?
        }
        Ok(outcomes)
    }

    /// Removes all rows.
    fn empty(&mut self) -> Result<()> {
        let mut first = Vec::new();
        self.read_line(&mut BufReader::new(&self.file), &mut first)?;
        if !first.is_empty() && !begins_as_row(&first) {
            return Err(self.refuse(1, "expected a row of an earlier run, found something else"));
        }
        self.cut(0)
    }

    fn read_rows(&mut self) -> Result<()> {
        let mut reader = BufReader::new(self.file.try_clone().map_err(|source| self.failed(source))?);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            self.read_line(&mut reader, &mut line)?;
            let (row, is_whole) = match line.strip_suffix(b"\n") {
                Some(row) => (row, true),
                None => (line.as_slice(), false),
            };
            if line.is_empty() {
                break;
            }
            if row.is_empty() {
                self.len += line.len() as u64;
                continue;
            }
            match DoneRow::read(row) {
                Ok(row) => self.keep(number, row)?,
                Err(_) if !is_whole && is_cut_off(row) => break,
                Err(problem) => return Err(self.refuse(number, problem)),
            }
            self.len += line.len() as u64;
            if !is_whole {
                // All but the line break.
                self.file
                    .seek(SeekFrom::End(0))
                    .and_then(|_| self.file.write_all(b"\n"))
                    .map_err(|source| self.failed(source))?;
                self.len += 1;
            }
        }
        self.cut(self.len)
    }

    fn read_line(&self, reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<()> {
        let read = io::Read::take(reader, MAX_ROW_BYTES).read_until(b'\n', line);
        read.map(|_| ()).map_err(|source| self.failed(source))
    }

    fn keep(&mut self, number: usize, row: DoneRow) -> Result<()> {
        if let Some((earlier, _)) = self.done.get(&row.line) {
            let problem = format!(
                "expected one row for each request, found that of line {} in line {earlier} too",
                row.line
            );
            return Err(self.refuse(number, &problem));
        }
        self.done.insert(row.line, (number, row));
        Ok(())
    }

    /// The numbers of the requests that have a row.
    pub fn lines(&self) -> impl Iterator<Item = usize> {
        self.done.keys().copied()
    }

    /// Refuses rows of requests that are not among those of this run.
    ///
    /// # Errors
    /// [`Error::OtherRun`] for the first such row.
    pub fn check_none_but(&self, lines: &HashMap<usize, &SourceLine>) -> Result<()> {
        let strangers = self.done.values().filter(|(_, row)| !lines.contains_key(&row.line));
        match strangers.min_by_key(|(number, _)| *number) {
            None => Ok(()),
            Some((number, row)) => Err(self.other_run(format!(
                "line {number} answers `{}`, line {} of the requests: expected a request of this run, found none there",
                row.id, row.line
            ))),
        }
    }

    /// What an earlier run did with a request; none where nothing.
    ///
    /// # Errors
    /// [`Error::OtherRun`] where it was another request, or computed in another way, when it was done.
    pub fn of(&self, line: &SourceLine, request: impl FnOnce() -> Identity) -> Result<Option<Done>> {
        let Some((_, row)) = self.done.get(&line.number) else { return Ok(None) };
        if row.id != line.id {
            return Err(self.other_run(format!(
                "line {} of the requests is `{}`, and was `{}` when it was answered",
                line.number, line.id, row.id
            )));
        }
        if let Some(difference) = request().difference(&row.request) {
            return Err(self.other_run(format!(
                "line {} of the requests (`{}`): `{}`: {}",
                line.number, line.id, difference.field, difference.found
            )));
        }
        Ok(Some(if row.error.is_some() { Done::Failed } else { Done::Answered }))
    }

    /// Adds a row, and sees that it is on the disk.
    ///
    /// # Errors
    /// [`Error::Write`]; what was written of the row is then removed.
    pub fn append(&mut self, row: &Row) -> Result<()> {
        let mut bytes = row.to_bytes().map_err(|error| self.failed(error.into()))?;
        bytes.push(b'\n');
        if let Err(source) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            // A full disk has room for this; if not, the next run cuts the row off.
            let _ = self.file.set_len(self.len);
            return Err(self.failed(source));
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn cut(&mut self, len: u64) -> Result<()> {
        let cut = |file: &mut File| {
            if file.metadata()?.len() != len {
                file.set_len(len)?;
            }
            file.seek(SeekFrom::Start(len))
        };
        cut(&mut self.file).map_err(|source| self.failed(source))?;
        self.len = len;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Write { path: self.path.clone(), source }
    }

    /// A line that is none of ours, or no longer.
    fn refuse(&self, number: usize, problem: &str) -> Error {
        Error::Run { path: self.path.clone(), problem: format!("line {number}: {problem}") }
    }

    fn other_run(&self, problem: String) -> Error {
        Error::OtherRun { path: self.path.clone(), problem }
    }
}
