//! One hub, and what its answers mean to the user.

use std::io::{self, ErrorKind};

use super::client::{Answer, Client, Failure};
use super::names::{is_plain, quoted};
use super::settings::HubSettings;
use super::status::{Meaning, Refusal};
use crate::Error;
use crate::error::visible;

/// The most that the list of a repository's files may have, in bytes.
const LIST_BYTES: u64 = 64 << 20;

/// A hub, and where its cache is.
pub(super) struct Connection {
    pub(super) settings: HubSettings,
    pub(super) client: Client,
}

/// A file of a repository, as the hub announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileFound {
    /// The hash of its content, or what a server has in place of it.
    pub(super) etag: String,
    /// Its size, where that is announced.
    pub(super) bytes: Option<u64>,
    /// Where its content is.
    pub(super) url: String,
}

/// A repository, as the hub describes it.
pub(super) struct RepositoryFound {
    pub(super) commit: String,
    /// Its files, but for those in folders.
    pub(super) names: Vec<String>,
}

impl Connection {
    pub(super) fn new(settings: HubSettings) -> Self {
        Self { client: Client::new(&settings), settings }
    }

    /// Asks what `revision` of a repository is.
    pub(super) fn repository(
        &self,
        repository: &str,
        revision: &str,
        note: &dyn Fn(&str),
    ) -> Result<RepositoryFound, Failure> {
        let url = format!("{}/api/models/{repository}/revision/{}", self.settings.endpoint, quoted(revision));
        let info = self.client.retried(note, || self.client.json(&url, LIST_BYTES))?;
        let commit = info.get("sha").and_then(serde_json::Value::as_str).unwrap_or_default();
        // It becomes part of a path.
        if !is_plain(commit) {
            return Err(Failure::Nonsense("a commit".into(), format!("`{}`", visible(commit))));
        }
        let files = info.get("siblings").and_then(serde_json::Value::as_array);
        let names = files
            .into_iter()
            .flatten()
            .filter_map(|file| file.get("rfilename")?.as_str())
            .filter(|name| is_plain(name))
            .map(str::to_string)
            .collect();
        Ok(RepositoryFound { commit: commit.into(), names })
    }

    /// Asks for what a file at a commit is.
    pub(super) fn file(
        &self,
        repository: &str,
        commit: &str,
        name: &str,
        note: &dyn Fn(&str),
    ) -> Result<FileFound, Failure> {
        let url = format!("{}/{repository}/resolve/{commit}/{name}", self.settings.endpoint);
        let answer = self.client.retried(note, || self.client.head(&url))?;
        let of_commit = answer.header("x-repo-commit").unwrap_or("none");
        if of_commit != commit {
            let found = format!("`{}`", visible(of_commit));
            return Err(Failure::Nonsense(format!("a file of commit `{commit}` by `X-Repo-Commit`"), found));
        }
        let etag = answer.header("x-linked-etag").or_else(|| answer.header("etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"')).unwrap_or("none");
        // It becomes part of a path.
        if !is_plain(etag) || etag == "none" {
            return Err(Failure::Nonsense("a hash as `ETag`".into(), format!("`{}`", visible(etag))));
        }
        let location = answer.location()?;
        let length = || answer.number("content-length").filter(|_| location.is_none());
        let bytes = answer.number("x-linked-size").or_else(length);
        Ok(FileFound {
            etag: etag.into(),
            bytes,
            url: location.clone().unwrap_or_else(|| answer.url.clone()),
        })
    }

    /// The bytes of a file from `at` on, as many as `into` has room for.
    pub(super) fn range(&self, file: &FileFound, at: u64, into: &mut [u8]) -> Result<(), Failure> {
        /// What is read and thrown away, where a server gives only whole files.
        const SKIPPED_BYTES: u64 = 64 << 20;
        let end = at + into.len() as u64;
        let mut answer = self.client.get(&file.url, at, Some(end))?;
        let mut skipped = match (answer.status, answer.range()) {
            (206, Some((first, _, _))) if first == at => 0,
            (200, _) if end <= SKIPPED_BYTES => at,
            _ => return Err(Failure::Nonsense(format!("bytes {at} to {end} of it"), not_a_range(&answer))),
        };
        let mut reader = answer.reader(self.client.timeout);
        let mut scratch = [0; 1 << 13];
        while skipped > 0 {
            let piece = skipped.min(scratch.len() as u64);
            reader.read_exact(&mut scratch[..piece as usize])?;
            skipped -= piece;
        }
        reader.read_exact(into)
    }

    pub(super) fn refuse(
        &self,
        repository: &str,
        file: Option<&str>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Error {
        Error::Hub {
            repository: repository.into(),
            file: file.map(visible),
            expected: expected.into(),
            found: found.into(),
            hint: hint.into(),
        }
    }

    /// What a failed request means to the user.
    pub(super) fn explain(&self, repository: &str, file: Option<&str>, failure: &Failure) -> Error {
        let HubSettings { endpoint, .. } = &self.settings;
        let refuse = |expected: String, found: String, hint: &str| {
            self.refuse(repository, file, expected, found, hint)
        };
        match failure {
            Failure::Status { status, code, message, wait } => {
                let has_token = self.settings.token.is_some();
                let (status, wait) = (*status, *wait);
                let refusal = Refusal { endpoint, repository, has_token, status, code, message, wait };
                let Meaning { expected, found, hint } = refusal.meaning();
                refuse(expected, found, &hint)
            }
            Failure::Unreachable(found) => refuse(
                format!("an answer of {endpoint}"),
                found.clone(),
                "check the network and `HF_ENDPOINT`, or give a folder; run again, it continues where it stopped",
            ),
            Failure::Slow(found) => refuse(
                format!("an answer of {endpoint} within {} s", self.client.timeout.as_secs_f64()),
                found.clone(),
                "run it again, it continues where it stopped; `HF_HUB_DOWNLOAD_TIMEOUT` and `HF_HUB_ETAG_TIMEOUT` set other limits, in seconds",
            ),
            Failure::Broken(found) => {
                refuse("a whole answer".into(), found.clone(), "run it again: it continues where it stopped")
            }
            Failure::Nonsense(expected, found) => {
                refuse(expected.clone(), visible(found), "check `HF_ENDPOINT`, and any proxy in between")
            }
        }
    }

    /// What a failed access to the cache means to the user.
    pub(super) fn explain_local(&self, repository: &str, file: Option<&str>, error: &io::Error) -> Error {
        let cache = self.settings.cache.display();
        let refuse =
            |expected: String, hint: &str| self.refuse(repository, file, expected, error.to_string(), hint);
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => refuse(
                format!("space in the cache `{cache}`"),
                "free some space, or set `HF_HUB_CACHE` to a folder on another disk; run again, it continues where it stopped",
            ),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => refuse(
                format!("a cache to write to at `{cache}`"),
                "the cache lacks needed files: set `HF_HUB_CACHE` to a folder that this user may write to",
            ),
            ErrorKind::WouldBlock => self.refuse(
                repository,
                file,
                "no other download of it",
                "one that does not come to an end",
                "wait until it has finished, or end it",
            ),
            _ => refuse(format!("the cache `{cache}` in order"), "set `HF_HUB_CACHE` to another folder"),
        }
    }
}

fn not_a_range(answer: &Answer) -> String {
    match answer.status {
        200 => "the whole file: this server gives no parts".into(),
        status => format!("status {status} and other bytes"),
    }
}
