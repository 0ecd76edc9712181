//! The hub's cache on this machine, as `huggingface_hub` lays it out: `blobs` by the hash of their content, `snapshots` of links
//! to them by commit, and in `refs` the commit that a branch or tag was when the hub was asked.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::names::is_plain;

/// One repository in a cache.
#[derive(Debug, Clone)]
pub(super) struct RepositoryCache {
    /// `models--owner--name`.
    dir: PathBuf,
    /// Where the cache's other programs lock its blobs.
    locks: PathBuf,
}

impl RepositoryCache {
    /// The repository `owner/name` in `cache`.
    pub(super) fn of(cache: &Path, repository: &str) -> Self {
        let folder = format!("models--{}", repository.replace('/', "--"));
        Self { locks: cache.join(".locks").join(&folder), dir: cache.join(folder) }
    }

    /// The folder of the files at `commit`.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    /// The commit that `revision` was when the hub was asked last, if there is a snapshot of it.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let named = store::read_to_string(&self.dir.join("refs").join(revision), 1 << 10).unwrap_or_default();
        let commit = if named.trim().is_empty() { revision } else { named.trim() };
        (is_plain(commit) && self.snapshot(commit).is_dir()).then(|| commit.to_string())
    }

    /// Notes what commit `revision` is, unless that is noted already: a cache may be one that nobody may write to.
    pub(super) fn note_commit(&self, revision: &str, commit: &str) -> io::Result<()> {
        let path = self.dir.join("refs").join(revision);
        if revision == commit || store::read_to_string(&path, 1 << 10).is_ok_and(|noted| noted == commit) {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(parent)?;
        // In one step: another program may be reading it.
        store::replace_file(&path, commit.as_bytes())
    }

    /// Notes, as `huggingface_hub` does, that the repository has no file `name` at `commit`.
    pub(super) fn note_absence(&self, commit: &str, name: &str) {
        let path = self.dir.join(".no_exist").join(commit).join(name);
        // Of no consequence in a cache that nobody may write to: it is asked again.
        let _ = path.parent().map(fs::create_dir_all).map(|_| File::create_new(&path));
    }

    /// Whether it is noted that the repository has no file `name` at `commit`.
    pub(super) fn is_absent(&self, commit: &str, name: &str) -> bool {
        self.dir.join(".no_exist").join(commit).join(name).exists()
    }

    /// Where the content with this ETag is.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.dir.join("blobs").join(etag)
    }

    /// Gives the file `name` of the snapshot `commit` the content of `blob`.
    pub(super) fn link(&self, commit: &str, name: &str, blob: &Path) -> io::Result<()> {
        let folder = self.snapshot(commit);
        fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        // One that leads to nothing.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let target = Path::new("../../blobs").join(blob.file_name().unwrap_or_default());
        match std::os::unix::fs::symlink(target, &path) {
            Ok(()) => Ok(()),
            // Another program was as quick.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_file() => Ok(()),
            // A file system without links has the file itself there, as `huggingface_hub` does it.
            Err(error) if has_no_links(&error) => fs::rename(blob, &path),
            Err(error) => Err(error),
        }
    }

    /// Keeps other programs, `huggingface_hub` among them, from fetching the same content. A file system without locks has
    /// none: then two programs may do the same work.
    ///
    /// `wait` is asked, as long as another program has it, whether to go on waiting.
    pub(super) fn lock(&self, etag: &str, mut wait: impl FnMut() -> bool) -> io::Result<Option<File>> {
        fs::create_dir_all(&self.locks)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.locks.join(format!("{etag}.lock")))?;
        loop {
            match store::try_lock(&lock) {
                Ok(true) => return Ok(Some(lock)),
                Ok(false) if wait() => {}
                Ok(false) => return Err(ErrorKind::WouldBlock.into()),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Makes the folder of blobs.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(self.dir.join("blobs"))
    }
}

fn has_no_links(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    error.kind() == ErrorKind::Unsupported || errno == Some(rustix::io::Errno::PERM)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const OTHER: &str = "1123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_reference_is_written_where_it_says_something_new_and_nowhere_else() {
        let cache = TempDir::new().unwrap();
        let repository = RepositoryCache::of(cache.path(), "a/b");
        for revision in ["main", "refs/pr/1"] {
            let path = cache.path().join("models--a--b/refs").join(revision);
            repository.note_commit(revision, COMMIT).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), COMMIT);
            let before = fs::metadata(&path).unwrap().modified().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(20));
            repository.note_commit(revision, COMMIT).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
            repository.note_commit(revision, OTHER).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), OTHER);
            assert_eq!(
                fs::read_dir(path.parent().unwrap())
                    .unwrap()
                    .filter(|e| e.as_ref().unwrap().path().is_file())
                    .count(),
                1
            );
        }
        repository.note_commit(COMMIT, COMMIT).unwrap();
        assert!(!cache.path().join("models--a--b/refs").join(COMMIT).exists());
    }

    #[test]
    fn a_commit_is_known_where_its_snapshot_is_there() {
        let cache = TempDir::new().unwrap();
        let repository = RepositoryCache::of(cache.path(), "a/b");
        assert_eq!(repository.commit_of("main"), None);
        repository.note_commit("main", COMMIT).unwrap();
        assert_eq!(repository.commit_of("main"), None);
        fs::create_dir_all(repository.snapshot(COMMIT)).unwrap();
        assert_eq!(repository.commit_of("main").as_deref(), Some(COMMIT));
        assert_eq!(repository.commit_of(COMMIT).as_deref(), Some(COMMIT));
        // What stands in a reference becomes part of a path.
        fs::write(cache.path().join("models--a--b/refs/main"), "../snapshots").unwrap();
        assert_eq!(repository.commit_of("main"), None);
    }

    #[test]
    fn a_link_replaces_one_that_leads_to_nothing() {
        let cache = TempDir::new().unwrap();
        let repository = RepositoryCache::of(cache.path(), "a/b");
        repository.prepare().unwrap();
        let blob = repository.blob("abc");
        repository.link(COMMIT, "config.json", &blob).unwrap();
        fs::write(&blob, "1").unwrap();
        repository.link(COMMIT, "config.json", &blob).unwrap();
        let path = repository.snapshot(COMMIT).join("config.json");
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../blobs/abc"));
        assert_eq!(fs::read(path).unwrap(), b"1");
    }
}
