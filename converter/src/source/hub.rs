//! Repositories of the hub: what a checkpoint needs of one is fetched into the hub's own cache, once.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use serde_json::Value;

use super::hub_settings::HubSettings;
use super::identity::check_model;
use super::quantization::{QUANTIZATION_FILE, refuse_before_weights};
use super::{CONFIG_FILE, NEEDED, OPTIONAL, hub_id};
use crate::digest::Digest;
use crate::error::visible;
use crate::weights::{Folder, INDEX_FILE, SINGLE_FILE};
use crate::{Error, json};

/// How often a download that broke off goes on before that is told.
const ATTEMPTS: usize = 3;
/// The revision of a repository where none is named.
const MAIN: &str = "main";

/// Watches files on their way.
pub trait Watch {
    /// A file of so many bytes begins, some of which may be there already.
    fn begin(&self, file: &str, bytes: u64);
    /// So many more bytes are there.
    fn advance(&self, bytes: u64);
    /// Something that the user should know, and that is no error.
    fn note(&self, text: &str);
}

/// The hub, and its cache on this machine.
pub struct Hub {
    settings: HubSettings,
}

/// One repository at one commit.
struct Snapshot<'a> {
    hub: &'a Hub,
    repository: &'a str,
    commit: String,
    /// The files it has, where the hub was asked.
    names: Vec<String>,
    api: Option<Api>,
}

impl Hub {
    /// The hub as `settings` say.
    pub fn new(settings: HubSettings) -> Self {
        Self { settings }
    }

    /// Fetches what a checkpoint needs of `repository`, unless the cache has it; the snapshot's folder and its commit.
    ///
    /// # Errors
    /// [`Error::Hub`], which says what to do; [`Error::Json`] where the index can't be read.
    pub fn fetch(
        &self,
        repository: &str,
        revision: Option<&str>,
        watch: &dyn Watch,
    ) -> Result<(PathBuf, String), Error> {
        let snapshot = Snapshot::find(self, repository, revision.unwrap_or(MAIN))?;
        snapshot.get(CONFIG_FILE, watch)?;
        // Before 17 GB of another model are fetched.
        let path = snapshot.dir().join(CONFIG_FILE);
        let config: Value = json::parse(&path, &fs::read(&path).map_err(Error::io("read", &path))?)?;
        check_model(&path, &config)?;
        for name in NEEDED {
            snapshot.get(name, watch)?;
        }
        for name in OPTIONAL.into_iter().chain([QUANTIZATION_FILE]) {
            snapshot.get_if_there(name, watch)?;
        }
        refuse_before_weights(&Folder::open(&snapshot.dir())?, &config)?;
        snapshot.get_code(watch)?;
        for name in snapshot.shards(watch)? {
            snapshot.get(&name, watch)?;
        }
        // Python of another repository is evidence and no need: without it its behaviours are assumptions, and said to be.
        for other in snapshot.other_repositories()? {
            let code = Snapshot::find(self, &other, MAIN).and_then(|snapshot| snapshot.get_code(watch));
            if let Err(error) = code {
                watch.note(&format!("the Python code of `{other}` could not be fetched: {error}"));
            }
        }
        Ok((snapshot.dir(), snapshot.commit))
    }

    fn dir_of(&self, repository: &str) -> PathBuf {
        self.settings.cache.join(format!("models--{}", repository.replace('/', "--")))
    }

    fn refuse(
        &self,
        repository: &str,
        file: Option<&str>,
        expected: &str,
        found: String,
        hint: String,
    ) -> Error {
        Error::Hub {
            repository: repository.into(),
            file: file.map(|file| visible(file).to_string()),
            expected: expected.into(),
            found,
            hint,
        }
    }

    /// What the hub's answer means to the user.
    fn explain(&self, repository: &str, file: Option<&str>, error: ApiError) -> Error {
        let HubSettings { endpoint, cache, token, .. } = &self.settings;
        let refuse = |expected: &str, found: String, hint: String| {
            self.refuse(repository, file, expected, found, hint)
        };
        match error {
            ApiError::RequestError(error) => match *error {
                ureq::Error::StatusCode(status @ (401 | 403)) => refuse(
                    "leave to read it",
                    format!("status {status}: it is gated, private, or not there"),
                    match token {
                        None => format!("accept its conditions at {endpoint}/{repository}, then set `HF_TOKEN` or log in with `hf auth login`"),
                        Some(_) => format!("the account of this token must accept its conditions at {endpoint}/{repository}"),
                    },
                ),
                ureq::Error::StatusCode(404) => refuse(
                    "it on the hub",
                    "status 404: no such repository, revision or file".into(),
                    format!("check the spelling at {endpoint}"),
                ),
                ureq::Error::StatusCode(429) => refuse(
                    "an answer of the hub",
                    "status 429: too many requests".into(),
                    "wait some minutes and run it again: what is in the cache is not fetched again".into(),
                ),
                error => refuse(
                    &format!("an answer of {endpoint}"),
                    error.to_string(),
                    "check the network and `HF_ENDPOINT`, or give a folder; run again, it goes on where it stopped".into(),
                ),
            },
            ApiError::IoError(error)
                if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                let hint = "free some space, or set `HF_HUB_CACHE` to a folder on another disk; run again, it goes on where it stopped";
                refuse(&format!("space in the cache `{}`", cache.display()), error.to_string(), hint.into())
            }
            ApiError::IoError(error)
                if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                let hint = "set `HF_HUB_CACHE` to a folder that this user may write to";
                refuse(&format!("a cache to write to at `{}`", cache.display()), error.to_string(), hint.into())
            }
            ApiError::LockAcquisition(path) => refuse(
                "no other download of it",
                format!("one that holds `{}`", path.display()),
                "wait until it has finished".into(),
            ),
            error => refuse(
                "a whole file",
                error.to_string(),
                "run it again: it goes on where it stopped".into(),
            ),
        }
    }
}

impl<'a> Snapshot<'a> {
    /// The repository at `revision`: asks the hub, or its cache where it may not be asked.
    fn find(hub: &'a Hub, repository: &'a str, revision: &str) -> Result<Self, Error> {
        if hub.settings.offline {
            let dir = hub.dir_of(repository);
            let named = fs::read_to_string(dir.join("refs").join(revision)).unwrap_or_default();
            let commit = if named.is_empty() { revision } else { named.trim() };
            if !is_plain(commit) || !dir.join("snapshots").join(commit).is_dir() {
                return Err(hub.refuse(
                    repository,
                    None,
                    &format!(
                        "revision `{}` in the cache `{}`",
                        visible(revision),
                        hub.settings.cache.display()
                    ),
                    "none, and `HF_HUB_OFFLINE` is set".into(),
                    "fetch it without `HF_HUB_OFFLINE` first, or set `HF_HUB_CACHE` to the cache that has it"
                        .into(),
                ));
            }
            return Ok(Self { hub, repository, commit: commit.into(), names: vec![], api: None });
        }
        let settings = &hub.settings;
        let explain = |error| hub.explain(repository, None, error);
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(settings.endpoint.clone())
            .with_token(settings.token.clone())
            .with_user_agent("nvl-convert", env!("CARGO_PKG_VERSION"))
            .with_progress(false)
            .build()
            .map_err(explain)?;
        let at = |revision: &str| {
            Repo::with_revision(repository.to_string(), RepoType::Model, revision.to_string())
        };
        let info = api.repo(at(revision)).info().map_err(explain)?;
        // It becomes part of a path.
        if !is_plain(&info.sha) {
            let found = format!("`{}`", visible(&info.sha));
            return Err(hub.refuse(repository, None, "a commit", found, "check `HF_ENDPOINT`".into()));
        }
        Cache::new(settings.cache.clone())
            .repo(at(revision))
            .create_ref(&info.sha)
            .map_err(|error| explain(error.into()))?;
        let names =
            info.siblings.into_iter().map(|file| file.rfilename).filter(|name| is_plain(name)).collect();
        Ok(Self { hub, repository, commit: info.sha, names, api: Some(api) })
    }

    fn dir(&self) -> PathBuf {
        self.hub.dir_of(self.repository).join("snapshots").join(&self.commit)
    }

    /// Fetches the file `name` if the repository has it.
    fn get_if_there(&self, name: &str, watch: &dyn Watch) -> Result<(), Error> {
        if self.names.iter().any(|there| there == name) { self.get(name, watch) } else { Ok(()) }
    }

    /// Fetches the file `name`, unless the cache has it.
    fn get(&self, name: &str, watch: &dyn Watch) -> Result<(), Error> {
        // Through the link: one that leads to nothing is no file.
        if self.dir().join(name).is_file() {
            return Ok(());
        }
        let Some(api) = &self.api else {
            return Err(self.hub.refuse(
                self.repository,
                Some(name),
                &format!("it in the cache `{}`", self.hub.settings.cache.display()),
                "no such file, and `HF_HUB_OFFLINE` is set".into(),
                "run it without `HF_HUB_OFFLINE` once: only what is missing is fetched".into(),
            ));
        };
        let explain = |error| self.hub.explain(self.repository, Some(name), error);
        let repo = Repo::with_revision(self.repository.to_string(), RepoType::Model, self.commit.clone());
        let repo = api.repo(repo);
        let metadata = api.metadata(&repo.url(name)).map_err(explain)?;
        // Both become parts of paths.
        if !is_plain(metadata.etag()) || metadata.commit_hash() != self.commit {
            let found =
                format!("`{}` of commit `{}`", visible(metadata.etag()), visible(metadata.commit_hash()));
            let expected = format!("a file of commit `{}`", self.commit);
            return Err(self.hub.refuse(
                self.repository,
                Some(name),
                &expected,
                found,
                "check `HF_ENDPOINT`".into(),
            ));
        }
        let size = metadata.size() as u64;
        let blob = self.hub.dir_of(self.repository).join("blobs").join(metadata.etag());
        let part = blob.with_extension("part");
        // All of it may be there but its name, and more than all of it is of no use.
        if fs::metadata(&part).is_ok_and(|part| part.len() >= size) {
            fs::remove_file(&part).map_err(Error::io("remove", &part))?;
        }
        let mut attempt = 1;
        loop {
            match repo.download_with_progress(name, Adapter { watch, name }) {
                Ok(_) => break,
                Err(error) if attempt == ATTEMPTS || !is_broken_off(&error) => return Err(explain(error)),
                Err(_) => attempt += 1,
            }
        }
        self.check(name, &blob, size)
    }

    /// Whether the download is what was announced: its size, and its SHA-256 where that is the name of its blob.
    fn check(&self, name: &str, blob: &Path, size: u64) -> Result<(), Error> {
        let found = fs::metadata(blob).map_err(Error::io("read", blob))?.len();
        let mut wrong = (found != size).then(|| (format!("{size} bytes"), format!("{found}")));
        let announced = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if wrong.is_none() && announced.len() == 64 && announced.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            let sha256 = sha256_of(blob)?;
            wrong = (sha256 != announced).then(|| (format!("SHA-256 {announced}"), sha256));
        }
        let Some((expected, found)) = wrong else { return Ok(()) };
        // Kept, it would be taken for the file from now on.
        let _ = fs::remove_file(self.dir().join(name));
        let _ = fs::remove_file(blob);
        let hint = "run it again: the spoilt file was removed from the cache".into();
        Err(self.hub.refuse(self.repository, Some(name), &expected, found, hint))
    }

    /// Fetches the repository's own Python code, which is read and never run.
    fn get_code(&self, watch: &dyn Watch) -> Result<(), Error> {
        self.names.iter().filter(|name| name.ends_with(".py")).try_for_each(|name| self.get(name, watch))
    }

    /// The names of the files of weights.
    fn shards(&self, watch: &dyn Watch) -> Result<Vec<String>, Error> {
        let index = self.dir().join(INDEX_FILE);
        if !index.is_file() {
            self.get_if_there(SINGLE_FILE, watch)?;
            return if self.dir().join(SINGLE_FILE).is_file() {
                Ok(vec![])
            } else {
                Err(self.hub.refuse(
                    self.repository,
                    None,
                    &format!("a file `{SINGLE_FILE}` or `{INDEX_FILE}`"),
                    "neither".into(),
                    "only checkpoints in safetensors files are converted".into(),
                ))
            };
        }
        let value: Value = json::parse(&index, &fs::read(&index).map_err(Error::io("read", &index))?)?;
        let map = value.get("weight_map").and_then(Value::as_object);
        let mut names: Vec<String> = map
            .into_iter()
            .flat_map(|map| map.values())
            .filter_map(|name| name.as_str())
            // Any other is refused when the index is read in earnest.
            .filter(|name| is_plain(name))
            .map(str::to_string)
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Other repositories that an `auto_map` of the configuration takes its code from.
    fn other_repositories(&self) -> Result<Vec<String>, Error> {
        let path = self.dir().join(CONFIG_FILE);
        let config: Value = json::parse(&path, &fs::read(&path).map_err(Error::io("read", &path))?)?;
        let mut found = Vec::new();
        collect_repositories(&config, &mut found);
        found.sort();
        found.dedup();
        found.retain(|other| other != self.repository);
        Ok(found)
    }
}

/// `owner/name` of each `auto_map` entry of the form `owner/name--module.Class`, at any depth.
fn collect_repositories(value: &Value, found: &mut Vec<String>) {
    let Value::Object(object) = value else { return };
    for (name, value) in object {
        if name == "auto_map" {
            let entries = value.as_object().into_iter().flat_map(|map| map.values());
            found.extend(
                entries
                    .filter_map(Value::as_str)
                    .filter_map(|entry| entry.split_once("--"))
                    .filter_map(|(repository, _)| hub_id(repository))
                    .map(|(repository, _)| repository),
            );
        } else {
            collect_repositories(value, found);
        }
    }
}

/// Whether a name that came from the hub is one component of a path and of a URL.
fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Whether trying again may help: the connection ended in the middle of a file.
fn is_broken_off(error: &ApiError) -> bool {
    match error {
        ApiError::IoError(error) => !matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::PermissionDenied
        ),
        ApiError::RequestError(error) => matches!(**error, ureq::Error::StatusCode(500..=599)),
        _ => false,
    }
}

fn sha256_of(path: &Path) -> Result<String, Error> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut digest = Digest::default();
    let mut chunk = vec![0; 1 << 20];
    loop {
        match file.read(&mut chunk).map_err(Error::io("read", path))? {
            0 => return Ok(digest.finish()),
            bytes => digest.update(&chunk[..bytes]),
        }
    }
}

/// Tells a [`Watch`] what the hub's library tells.
struct Adapter<'a> {
    watch: &'a dyn Watch,
    name: &'a str,
}

impl Progress for Adapter<'_> {
    fn init(&mut self, size: usize, _: &str) {
        self.watch.begin(self.name, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.watch.advance(size as u64);
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_map_names_other_repositories_at_any_depth() {
        let config = serde_json::json!({
            "auto_map": { "AutoModel": "modeling.Model", "AutoConfig": "a/b--configuration.Config" },
            "vision_config": { "auto_map": { "AutoModel": "nvidia/C-RADIOv2-H--hf_model.RADIOModel" } },
            "text": "x/y--z",
            "other": { "auto_map": { "AutoModel": "../../etc--passwd", "AutoConfig": 3 } }
        });
        let mut found = Vec::new();
        collect_repositories(&config, &mut found);
        assert_eq!(found, ["a/b", "nvidia/C-RADIOv2-H"]);
    }

    #[test]
    fn names_that_lead_elsewhere_are_not_plain() {
        assert!(is_plain("model-00001-of-00004.safetensors"));
        for name in ["", ".", "..", "../a", "a/b", "/a", "a\\b", "a b", "a\n", "a%2e"] {
            assert!(!is_plain(name), "{name:?}");
        }
    }
}
