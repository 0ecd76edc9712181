//! Where a checkpoint is: a folder, or a repository of the hub.

use std::fs;
use std::path::{Path, PathBuf};

use super::hub::{FetchOptions, Fetched, Hub, HubSettings, RemoteFiles, Watch};
use crate::Error;

/// Where a source checkpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder.
    Folder {
        /// Its path.
        path: PathBuf,
        /// Repository and revision, where the path is a snapshot in the hub's cache.
        snapshot: Option<(String, String)>,
    },
    /// A snapshot in the hub's cache that lacks files of weights: their headers are read on the hub.
    Remote {
        /// Its path.
        path: PathBuf,
        /// Repository and revision.
        snapshot: (String, String),
        /// Its files of weights.
        files: RemoteFiles,
    },
    /// A repository of the hub: `owner/name` or `owner/name@revision`.
    Hub {
        /// `owner/name`.
        repository: String,
        /// Branch, tag or commit.
        revision: Option<String>,
    },
}

impl Location {
    /// What the argument SOURCE means: a folder if there is one of this path, else a repository if it has that form.
    pub fn parse(source: &str) -> Self {
        let path = Path::new(source);
        if fs::metadata(path).is_err()
            && let Some((repository, revision)) = hub_id(source)
        {
            return Self::Hub { repository, revision };
        }
        let snapshot = fs::canonicalize(path).ok().and_then(|real| snapshot_of(&real));
        Self::Folder { path: path.to_path_buf(), snapshot }
    }

    /// A location on this machine: what is on the hub is fetched into its cache, unless it is there.
    ///
    /// # Errors
    /// Those of [`Hub::fetch`].
    pub fn fetched(self, options: FetchOptions, watch: &dyn Watch) -> Result<Self, Error> {
        let Self::Hub { repository, revision } = self else { return Ok(self) };
        let hub = Hub::new(HubSettings::from_env()?, options);
        let Fetched { path, commit, weights } = hub.fetch(&repository, revision.as_deref(), watch)?;
        let snapshot = (repository, commit);
        Ok(match weights {
            Some(files) => Self::Remote { path, snapshot, files },
            None => Self::Folder { path, snapshot: Some(snapshot) },
        })
    }

    /// The folder to read from.
    ///
    /// # Errors
    /// [`Error::NotAFolder`] for a repository of the hub that was not fetched.
    pub fn folder(&self) -> Result<&Path, Error> {
        match self {
            Self::Folder { path, .. } | Self::Remote { path, .. } => Ok(path),
            Self::Hub { repository, .. } => Err(Error::NotAFolder {
                path: repository.into(),
                found: "a repository of the hub that was not fetched",
            }),
        }
    }

    /// The last component of the folder's real path, or the repository's name.
    pub fn name(&self) -> String {
        match self {
            Self::Folder { snapshot: Some((repository, _)), .. }
            | Self::Remote { snapshot: (repository, _), .. }
            | Self::Hub { repository, .. } => repository.rsplit('/').next().unwrap_or_default().to_string(),
            Self::Folder { path, .. } => fs::canonicalize(path)
                .ok()
                .and_then(|real| real.file_name().map(|name| name.to_string_lossy().into_owned()))
                .unwrap_or_default(),
        }
    }

    /// Repository and revision, where they are known.
    pub fn repository(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Folder { snapshot, .. } => {
                (snapshot.as_ref().map(|(id, _)| id.as_str()), snapshot.as_ref().map(|(_, rev)| rev.as_str()))
            }
            Self::Remote { snapshot: (repository, revision), .. } => (Some(repository), Some(revision)),
            Self::Hub { repository, revision } => (Some(repository), revision.as_deref()),
        }
    }
}

/// `owner/name` with an optional `@revision`; a path with more components or a leading dot is none. Whether the two can be names
/// is told when the hub is asked: what looks like them is not looked for as a path.
fn hub_id(text: &str) -> Option<(String, Option<String>)> {
    let (repository, revision) = match text.split_once('@') {
        Some((repository, revision)) if !revision.is_empty() => (repository, Some(revision.to_string())),
        Some(_) => return None,
        None => (text, None),
    };
    let (owner, name) = repository.split_once('/')?;
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    (plain(owner) && plain(name)).then(|| (repository.to_string(), revision))
}

/// `…/models--owner--name/snapshots/<revision>`: how the hub's cache names a snapshot.
fn snapshot_of(real: &Path) -> Option<(String, String)> {
    let revision = real.file_name()?.to_str()?;
    let snapshots = real.parent().filter(|parent| parent.ends_with("snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?.strip_prefix("models--")?;
    Some((repository.replacen("--", "/", 1), revision.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_repository_from_a_path() {
        let hub = |text: &str| hub_id(text);
        assert_eq!(hub("nvidia/Llama-3.1_x"), Some(("nvidia/Llama-3.1_x".into(), None)));
        assert_eq!(hub("a/b@refs/pr/1"), Some(("a/b".into(), Some("refs/pr/1".into()))));
        for path in ["a", "./a", "../a", "/a/b", "a/b/c", "a/", "a/b@", "a b/c"] {
            assert_eq!(hub(path), None, "{path}");
        }
    }

    #[test]
    fn reads_repository_and_revision_from_the_cache() {
        let path = Path::new("/cache/models--nvidia--C-RADIOv2-H/snapshots/0123abc");
        assert_eq!(snapshot_of(path), Some(("nvidia/C-RADIOv2-H".into(), "0123abc".into())));
        assert_eq!(snapshot_of(Path::new("/data/shapes")), None);
    }
}
