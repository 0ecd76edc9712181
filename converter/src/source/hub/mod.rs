//! Repositories of the hub: what a checkpoint needs of one is fetched into the hub's own cache, once.

mod address;
mod auto_map;
mod cache;
mod client;
mod connection;
mod download;
mod names;
mod remote;
mod settings;
mod status;
mod watch;

pub use remote::RemoteFiles;
pub use settings::HubSettings;
pub use watch::Watch;

pub(super) use names::{is_repository, is_revision};
pub(super) use settings::{HubFolders, environment};

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::files::{CONFIG_FILE, NEEDED, OPTIONAL, PREPROCESSOR_FILE};
use super::quantization::refuse_before_weights;
use crate::error::visible;
use crate::families;
use crate::weights::{Folder, INDEX_FILE, SINGLE_FILE};
use crate::{Error, json};

use auto_map::{other_repositories, own_modules};
use cache::RepositoryCache;
use client::Failure;
use connection::Connection;
use download::Download;
use names::{is_commit, is_plain};
use remote::RemoteFile;

/// The revision of a repository where none is named.
const MAIN: &str = "main";

/// What is fetched of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchOptions {
    /// Nothing: the cache has to have it.
    pub local_files_only: bool,
    /// Of files of weights that the cache lacks only the headers, which are read on the hub.
    pub headers_only: bool,
    /// The revision of other repositories, which have code; `main` if none is named.
    pub code_revision: Option<String>,
}

/// Where what was fetched is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The snapshot's folder in the cache.
    pub path: PathBuf,
    /// Its commit.
    pub commit: String,
    /// The files of weights, where only their headers are read.
    pub weights: Option<RemoteFiles>,
}

/// The hub, and its cache on this machine.
pub struct Hub {
    connection: Arc<Connection>,
    options: FetchOptions,
    /// Why the hub could not be asked, once it was tried in vain.
    in_vain: RefCell<Option<Failure>>,
}

/// One repository at one commit.
struct Snapshot<'a> {
    hub: &'a Hub,
    repository: &'a str,
    cache: RepositoryCache,
    commit: String,
    /// The files it has, where the hub was asked.
    names: Option<Vec<String>>,
}

impl Hub {
    /// The hub as `settings` say.
    pub fn new(settings: HubSettings, options: FetchOptions) -> Self {
        Self { connection: Arc::new(Connection::new(settings)), options, in_vain: RefCell::default() }
    }

    /// Fetches what a checkpoint needs of `repository`, unless the cache has it.
    ///
    /// # Errors
    /// [`Error::Hub`], which says what to do; [`Error::Json`] where the index can't be read.
    pub fn fetch(
        &self,
        repository: &str,
        revision: Option<&str>,
        watch: &dyn Watch,
    ) -> Result<Fetched, Error> {
        let snapshot =
            Snapshot::find(self, repository, revision.unwrap_or(MAIN), &is_complete, false, watch)?;
        snapshot.get(CONFIG_FILE, watch)?;
        // Before 17 GB of another model are fetched.
        let config = snapshot.json(CONFIG_FILE)?;
        families::of_source(&snapshot.dir().join(CONFIG_FILE), &config)?;
        for name in NEEDED {
            snapshot.get(name, watch)?;
        }
        for name in OPTIONAL {
            snapshot.get_if_there(name, watch)?;
        }
        refuse_before_weights(&Folder::open(&snapshot.dir())?, &config)?;
        snapshot.get_code(watch)?;
        snapshot.account_for_code(&config, watch)?;
        let mut elsewhere = BTreeMap::new();
        for name in snapshot.shards()? {
            if self.options.headers_only && !snapshot.has(&name) && snapshot.names.is_some() {
                elsewhere.insert(name.clone(), Arc::new(snapshot.remote(&name, watch)?));
            } else {
                snapshot.get(&name, watch)?;
            }
        }
        self.fetch_other_code(&snapshot, &config, watch)?;
        let weights = match elsewhere.is_empty() {
            true => None,
            false => Some(RemoteFiles::of(Folder::open(&snapshot.dir())?, elsewhere)),
        };
        Ok(Fetched { path: snapshot.dir(), commit: snapshot.commit, weights })
    }

    /// Python of other repositories is evidence and no need: without it its behaviours are assumptions, and said to be. One
    /// whose revision the user named is a need.
    fn fetch_other_code(&self, of: &Snapshot<'_>, config: &Value, watch: &dyn Watch) -> Result<(), Error> {
        let revision = self.options.code_revision.as_deref();
        for (other, modules) in
            other_repositories(config).into_iter().filter(|(other, _)| other != of.repository)
        {
            let has_modules = |dir: &Path| modules.iter().all(|name| dir.join(name).is_file());
            // Whoever names a commit that the cache has wants what he had before.
            let is_pinned = of.names.is_none();
            let code = Snapshot::find(self, &other, revision.unwrap_or(MAIN), &has_modules, is_pinned, watch)
                .and_then(|snapshot| snapshot.get_code(watch));
            match code {
                Err(error) if revision.is_some() => return Err(error),
                Err(error) => {
                    watch.note(&format!("the Python code of `{other}` could not be fetched: {error}"));
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn is_offline(&self) -> bool {
        self.connection.settings.offline || self.options.local_files_only
    }

    /// Why nothing is asked, for a message.
    fn offline_by(&self) -> &'static str {
        if self.options.local_files_only {
            "`--local-files-only` is given"
        } else {
            "`HF_HUB_OFFLINE` is set"
        }
    }
}

impl<'a> Snapshot<'a> {
    /// The repository at `revision`. The hub is not asked where it may not be, nor where the cache has everything by
    /// `is_complete` and `revision` is a commit or `prefer_cache` is set. Where the hub cannot be asked, a cache that has
    /// everything stands for it, with a note.
    fn find(
        hub: &'a Hub,
        repository: &'a str,
        revision: &str,
        is_complete: &dyn Fn(&Path) -> bool,
        prefer_cache: bool,
        watch: &dyn Watch,
    ) -> Result<Self, Error> {
        let connection = &hub.connection;
        for (expected, is_name, text) in [
            ("`owner/name`", is_repository(repository), repository),
            ("a branch, a tag or a commit", is_revision(revision), revision),
        ] {
            if !is_name {
                let found = format!("`{}`", visible(text));
                let shown = visible(repository);
                return Err(connection.refuse(&shown, None, expected, found, "check the spelling of SOURCE"));
            }
        }
        let cache = RepositoryCache::of(&connection.settings.cache, repository);
        let known = cache.commit_of(revision);
        let at = |commit: String, names| Self { hub, repository, cache: cache.clone(), commit, names };
        if hub.is_offline() {
            return match known {
                Some(commit) => Ok(at(commit, None)),
                None => Err(connection.refuse(
                    repository,
                    None,
                    format!("revision `{revision}` in the cache `{}`", connection.settings.cache.display()),
                    format!("none, and {}", hub.offline_by()),
                    "fetch it without that first, or set `HF_HUB_CACHE` to the cache that has it",
                )),
            };
        }
        let complete = known.filter(|commit| is_complete(&cache.snapshot(commit)));
        if let Some(commit) = complete.clone().filter(|_| is_commit(revision) || prefer_cache) {
            return Ok(at(commit, None));
        }
        let note = |text: &str| watch.note(text);
        let before = hub.in_vain.borrow().clone();
        let failure = match before.map_or_else(|| connection.repository(repository, revision, &note), Err) {
            Ok(found) => {
                if let Err(error) = cache.note_commit(revision, &found.commit) {
                    // Of consequence only where there is no hub the next time.
                    watch.note(&format!("the cache does not know from now on what `{revision}` is: {error}"));
                }
                return Ok(at(found.commit, Some(found.names)));
            }
            Err(failure) => failure,
        };
        let error = connection.explain(repository, None, &failure);
        let cached = complete.filter(|_| !failure.is_absence());
        hub.in_vain.replace(Some(failure).filter(Failure::is_of_the_hub));
        let Some(commit) = cached else { return Err(error) };
        watch.note(&format!("what the cache has of `{revision}` is used, commit {commit}: {error}"));
        Ok(at(commit, None))
    }

    fn dir(&self) -> PathBuf {
        self.cache.snapshot(&self.commit)
    }

    /// Whether the cache has the file `name`; through the link: one that leads to nothing is no file.
    fn has(&self, name: &str) -> bool {
        self.dir().join(name).is_file()
    }

    fn json(&self, name: &str) -> Result<Value, Error> {
        json_of(&self.dir(), name)
    }

    /// Fetches the file `name` if the repository has it.
    fn get_if_there(&self, name: &str, watch: &dyn Watch) -> Result<(), Error> {
        let is_there = self.names.iter().flatten().any(|there| there == name);
        if is_there { self.get(name, watch) } else { Ok(()) }
    }

    /// Fetches the file `name`, unless the cache has it.
    fn get(&self, name: &str, watch: &dyn Watch) -> Result<(), Error> {
        if self.has(name) {
            return Ok(());
        }
        let Hub { connection, .. } = self.hub;
        if self.names.is_none() {
            let (found, hint) = match self.hub.is_offline() {
                true => (
                    format!("no such file, and {}", self.hub.offline_by()),
                    "run it once without that: only missing files are fetched",
                ),
                false => {
                    ("no such file, and the hub was not asked".into(), "run it again with access to the hub")
                }
            };
            let expected = format!("it in the cache `{}`", connection.settings.cache.display());
            return Err(connection.refuse(self.repository, Some(name), expected, found, hint));
        }
        let Self { repository, cache, commit, .. } = self;
        Download { connection, cache, repository, commit, name, watch }.run()
    }

    /// Fetches the repository's own Python code, which is read and never run.
    fn get_code(&self, watch: &dyn Watch) -> Result<(), Error> {
        let mut names = self.names.iter().flatten().filter(|name| name.ends_with(".py"));
        names.try_for_each(|name| self.get(name, watch))
    }

    /// Tells what code the configuration names and the cache has not, where nobody knows whether the repository has it; notes it
    /// where the hub was asked.
    fn account_for_code(&self, config: &Value, watch: &dyn Watch) -> Result<(), Error> {
        let named = own_modules(config).into_iter().chain(own_modules(&self.json(PREPROCESSOR_FILE)?));
        let missing: BTreeSet<String> = named.filter(|name| is_plain(name) && !self.has(name)).collect();
        if self.names.is_some() {
            missing.iter().for_each(|name| self.cache.note_absence(&self.commit, name));
            return Ok(());
        }
        let unknown = missing.iter().filter(|name| !self.cache.is_absent(&self.commit, name));
        let unknown: Vec<String> = unknown.map(|name| format!("`{name}`")).collect();
        if !unknown.is_empty() {
            let (commit, repository) = (&self.commit, self.repository);
            watch.note(&format!(
                "the cache has no {} of `{repository}`, and the hub was not asked whether there is; `hf download {repository} --revision {commit}` fetches it",
                unknown.join(", ")
            ));
        }
        Ok(())
    }

    /// The names of the files of weights.
    fn shards(&self) -> Result<Vec<String>, Error> {
        if self.has(INDEX_FILE) {
            return Ok(shards_of(&self.json(INDEX_FILE)?));
        }
        if self.has(SINGLE_FILE) || self.names.iter().flatten().any(|name| name == SINGLE_FILE) {
            return Ok(vec![SINGLE_FILE.into()]);
        }
        Err(self.hub.connection.refuse(
            self.repository,
            None,
            format!("a file `{SINGLE_FILE}` or `{INDEX_FILE}`"),
            "neither",
            "only checkpoints in safetensors files are converted",
        ))
    }

    /// The file of weights `name`, which stays where it is.
    fn remote(&self, name: &str, watch: &dyn Watch) -> Result<RemoteFile, Error> {
        let connection = &self.hub.connection;
        let note = |text: &str| watch.note(text);
        let found = connection.file(self.repository, &self.commit, name, &note);
        let found = found.map_err(|failure| connection.explain(self.repository, Some(name), &failure))?;
        let bytes = match found.bytes {
            Some(bytes) => Ok(bytes),
            // A server that tells it only of what it sends.
            None => connection.client.get(&found.url, 0, Some(1)).map(|answer| match answer.range() {
                Some((_, _, Some(bytes))) => bytes,
                _ => answer.length().unwrap_or(0),
            }),
        };
        Ok(RemoteFile {
            connection: Arc::clone(connection),
            repository: self.repository.into(),
            commit: self.commit.clone(),
            name: name.into(),
            bytes: bytes.map_err(|failure| connection.explain(self.repository, Some(name), &failure))?,
            found: Mutex::new(found),
            start: Mutex::default(),
        })
    }
}

/// The JSON of the file `name` of a snapshot.
fn json_of(dir: &Path, name: &str) -> Result<Value, Error> {
    let folder = Folder::open(dir)?;
    json::parse(&folder.file_path(name), &folder.read(name)?)
}

/// Whether a snapshot has everything without which there is no model.
fn is_complete(dir: &Path) -> bool {
    let has = |name: &str| dir.join(name).is_file();
    let weights = match json_of(dir, INDEX_FILE) {
        Ok(index) => shards_of(&index),
        Err(_) => vec![SINGLE_FILE.into()],
    };
    has(CONFIG_FILE) && NEEDED.iter().all(|name| has(name)) && weights.iter().all(|name| has(name))
}

/// The files that an index names.
fn shards_of(index: &Value) -> Vec<String> {
    let map = index.get("weight_map").and_then(Value::as_object);
    let names: BTreeSet<&str> = map
        .into_iter()
        .flat_map(|map| map.values())
        .filter_map(Value::as_str)
        // Any other is refused when the index is read in earnest.
        .filter(|name| is_plain(name))
        .collect();
    names.into_iter().map(str::to_string).collect()
}
