//! One file on its way into the cache: it goes on where it stopped, ends at the size that was announced, and is what was
//! announced or gone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::cache::RepositoryCache;
use super::client::{ATTEMPTS, Failure};
use super::connection::{Connection, FileFound};
use super::watch::Watch;
use crate::Error;
use crate::plan::human_bytes;
use store::hash::sha256_of;

/// A download that broke off after so many bytes has brought something: its attempts are counted anew.
const PROGRESS_BYTES: u64 = 1 << 20;
/// The most of a file that is none of weights, in bytes: a tokenizer is the largest, with some 20 MB.
const SMALL_BYTES: u64 = 100 << 20;
/// How long another program may hold a file without bringing anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file of a repository at one commit, to be fetched.
pub(super) struct Download<'a> {
    pub(super) connection: &'a Connection,
    pub(super) cache: &'a RepositoryCache,
    pub(super) repository: &'a str,
    pub(super) commit: &'a str,
    pub(super) name: &'a str,
    pub(super) watch: &'a dyn Watch,
}

/// Why a piece of a file did not come.
enum Trouble {
    There(Failure),
    Here(io::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::There(failure)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Here(error)
    }
}

impl Download<'_> {
    /// Fetches the file into the cache, unless its content is there already.
    pub(super) fn run(&self) -> Result<(), Error> {
        let mut found = self.ask()?;
        let blob = self.cache.blob(&found.etag);
        let part = self.cache.blob(&format!("{}.incomplete", found.etag));
        self.local(self.cache.prepare())?;
        let _lock = self.local(self.cache.lock(&found.etag, self.patience(&part)))?;
        let is_there = fs::metadata(&blob)
            .is_ok_and(|blob| blob.is_file() && found.bytes.is_none_or(|bytes| bytes == blob.len()));
        if !is_there {
            self.transfer(&mut found, &part)?;
            self.check(&found, &part)?;
            self.local(fs::rename(&part, &blob))?;
        }
        self.local(self.cache.link(self.commit, self.name, &blob))
    }

    fn ask(&self) -> Result<FileFound, Error> {
        let note = |text: &str| self.watch.note(text);
        let found = self.connection.file(self.repository, self.commit, self.name, &note);
        found.map_err(|failure| self.connection.explain(self.repository, Some(self.name), &failure))
    }

    fn local<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.map_err(|error| self.connection.explain_local(self.repository, Some(self.name), &error))
    }

    /// Waits for another program that has the file, as long as that brings something.
    fn patience<'b>(&'b self, part: &'b Path) -> impl FnMut() -> bool + 'b {
        let (mut since, mut bytes, mut is_told) = (Instant::now(), 0, false);
        move || {
            if !std::mem::replace(&mut is_told, true) {
                self.watch.note(&format!("another program is fetching `{}`; waiting for it", self.name));
            }
            let now = fs::metadata(part).map_or(0, |part| part.len());
            if now != bytes {
                (since, bytes) = (Instant::now(), now);
            }
            sleep(Duration::from_millis(200));
            since.elapsed() < PATIENCE
        }
    }

    /// Fetches what `part` has not, in as many pieces as it takes.
    fn transfer(&self, found: &mut FileFound, part: &Path) -> Result<(), Error> {
        let mut attempt = 0;
        loop {
            let before = fs::metadata(part).map_or(0, |part| part.len());
            let failure = match self.piece(found, part) {
                Ok(()) => return Ok(()),
                Err(Trouble::Here(error)) => return self.local(Err(error)),
                Err(Trouble::There(failure)) => failure,
            };
            let after = fs::metadata(part).map_or(0, |part| part.len());
            attempt = if after >= before + PROGRESS_BYTES { 1 } else { attempt + 1 };
            let give_up = || self.connection.explain(self.repository, Some(self.name), &failure);
            match &failure {
                // Of no use to that server.
                Failure::Status { status: 416, .. } if attempt < ATTEMPTS => {
                    self.local(fs::remove_file(part))?
                }
                // A signed address holds for an hour.
                Failure::Status { status: 400 | 401 | 403 | 404 | 410, .. } if attempt == 1 => {
                    let again = self.ask()?;
                    if again.url == found.url {
                        return Err(give_up());
                    }
                    found.url = again.url;
                }
                failure => match failure.wait(attempt) {
                    Some(wait) => sleep(wait),
                    None => return Err(give_up()),
                },
            }
        }
    }

    /// Fetches from where `part` ends to the file's end.
    fn piece(&self, found: &FileFound, part: &Path) -> Result<(), Trouble> {
        let file = File::options().create(true).truncate(false).write(true).open(part)?;
        let mut from = file.metadata()?.len();
        // A small file that cannot be told by its hash afterwards begins anew.
        let is_small = !self.is_weights() && !is_sha256(&found.etag);
        if is_small || found.bytes.is_some_and(|bytes| from > bytes) {
            from = 0;
        }
        file.set_len(from)?;
        if found.bytes == Some(from) {
            return Ok(());
        }
        let mut answer = self.connection.client.get(&found.url, from, None)?;
        let of_range = match (answer.status, answer.range()) {
            (206, Some((first, _, whole))) if first == from => whole,
            (206, _) => {
                return Err(Failure::Nonsense(format!("bytes from {from} on"), "other bytes".into()).into());
            }
            _ => {
                // A server without ranges begins at the beginning.
                from = 0;
                file.set_len(0)?;
                None
            }
        };
        let announced = found.bytes.or(of_range).or_else(|| Some(from + answer.length()?));
        let limit = self.limit(announced)?;
        if let Some(length) = answer.length()
            && from + length > limit
        {
            return Err(self.too_long(limit).into());
        }
        self.check_space(announced.map_or(0, |bytes| bytes - from), part)?;
        self.watch.begin(self.name, announced.unwrap_or(0));
        self.watch.advance(from);
        let ends_by_itself = answer.length().is_some();
        let mut reader = answer.reader(self.connection.client.timeout);
        let mut chunk = vec![0; 1 << 17];
        loop {
            if announced == Some(from) && ends_by_itself {
                return Ok(());
            }
            let bytes = reader.read(&mut chunk)?;
            if bytes == 0 {
                break;
            }
            if from + bytes as u64 > limit {
                return Err(self.too_long(limit).into());
            }
            file.write_all_at(&chunk[..bytes], from)?;
            from += bytes as u64;
            self.watch.advance(bytes as u64);
        }
        match announced {
            Some(announced) if announced > from => {
                Err(Failure::Broken(format!("{from} of {announced} bytes, and the end of the connection"))
                    .into())
            }
            _ => Ok(()),
        }
    }

    /// The most that the file may have.
    fn limit(&self, announced: Option<u64>) -> Result<u64, Failure> {
        match announced {
            Some(announced) if self.is_weights() || announced <= SMALL_BYTES => Ok(announced),
            Some(announced) => Err(Failure::Nonsense(
                format!("a file of at most {}", human_bytes(SMALL_BYTES)),
                format!("one of {}", human_bytes(announced)),
            )),
            None if self.is_weights() => Err(Failure::Nonsense(
                "its size, by `X-Linked-Size` or `Content-Length`".into(),
                "none".into(),
            )),
            None => Ok(SMALL_BYTES),
        }
    }

    fn is_weights(&self) -> bool {
        self.name.ends_with(".safetensors")
    }

    fn too_long(&self, limit: u64) -> Failure {
        Failure::Nonsense(format!("{limit} bytes"), "more".into())
    }

    /// Refuses what the disk has no room for before it is full.
    fn check_space(&self, bytes: u64, part: &Path) -> io::Result<()> {
        let Some(free) = store::free_bytes(part) else { return Ok(()) };
        if bytes <= free {
            return Ok(());
        }
        let message = format!("{} free, where it takes {}", human_bytes(free), human_bytes(bytes));
        Err(io::Error::new(io::ErrorKind::StorageFull, message))
    }

    /// Whether the download is what was announced: its size, and its SHA-256 where that is its ETag.
    fn check(&self, found: &FileFound, part: &Path) -> Result<(), Error> {
        let bytes = self.local(fs::metadata(part))?.len();
        let mut wrong = found
            .bytes
            .filter(|&announced| announced != bytes)
            .map(|announced| (format!("{announced} bytes"), format!("{bytes}")));
        if wrong.is_none() && is_sha256(&found.etag) {
            let sha256 = self.local(File::open(part).and_then(sha256_of))?;
            wrong = (sha256 != found.etag).then(|| (format!("SHA-256 {}", found.etag), sha256));
        }
        let Some((expected, found)) = wrong else { return Ok(()) };
        // Kept, it would be gone on with.
        let _ = fs::remove_file(part);
        let hint = "run it again: the spoilt file was removed from the cache";
        Err(self.connection.refuse(self.repository, Some(self.name), expected, found, hint))
    }
}

fn is_sha256(etag: &str) -> bool {
    etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}
