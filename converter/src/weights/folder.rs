//! A checkpoint's folder: gives out its own files and no others.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use store::Stamp;

use crate::Error;
use crate::error::visible;

/// A checkpoint's folder. A name or link that leads out of it is refused, with one exception: links into the `blobs` of a
/// repository in a cache of the hub. A snapshot there consists of them, and so does a folder that an older
/// `huggingface-cli download --local-dir` made.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    real: PathBuf,
    /// Where this folder is a snapshot: the `blobs` of its own repository, whatever their names.
    blobs: Option<PathBuf>,
}

impl Folder {
    /// Opens the folder at `path`.
    ///
    /// # Errors
    /// [`Error::NotAFolder`] where there is none; [`Error::Io`] where it cannot be reached.
    pub fn open(path: &Path) -> Result<Self, Error> {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(Error::NotAFolder { path: path.to_path_buf(), found: "a file" }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotAFolder { path: path.to_path_buf(), found: "nothing" });
            }
            Err(error) => return Err(Error::io("read", path)(error)),
        }
        let real = fs::canonicalize(path).map_err(Error::io("read", path))?;
        let blobs = real
            .parent()
            .filter(|snapshots| snapshots.file_name().is_some_and(|name| name == "snapshots"))
            .and_then(Path::parent)
            .and_then(|repository| fs::canonicalize(repository.join("blobs")).ok());
        Ok(Self { path: path.to_path_buf(), real, blobs })
    }

    /// The folder as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the file `name`, for messages.
    pub fn file_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether the folder has an entry `name`, of whatever kind.
    pub fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path.join(name)).is_ok()
    }

    /// The names of all entries, sorted; one that is not Unicode is left out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(Error::io("read", &self.path))? {
            let entry = entry.map_err(Error::io("read", &self.path))?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens the regular file `name` of this folder for reading.
    ///
    /// # Errors
    /// [`Error::MissingFile`]; [`Error::BadFile`] for anything but a regular file inside the folder.
    pub fn open_file(&self, name: &str) -> Result<File, Error> {
        self.check_name(name)?;
        let path = self.path.join(name);
        let real = fs::canonicalize(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                match fs::read_link(&path) {
                    Ok(target) => {
                        Error::DanglingLink { path: path.clone(), target: visible(&target.to_string_lossy()) }
                    }
                    Err(_) => Error::MissingFile {
                        dir: self.path.clone(),
                        expected: format!("`{}`", visible(name)),
                    },
                }
            } else {
                Error::io("read", &path)(error)
            }
        })?;
        let is_own_blob = self.blobs.as_ref().is_some_and(|blobs| real.starts_with(blobs));
        if !real.starts_with(&self.real) && !is_own_blob && !is_blob(&real) {
            let found = format!("a link to `{}`", visible(&real.to_string_lossy()));
            return Err(Error::OutsideFile { path, found });
        }
        store::open(&real).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => Error::NotRegular { path: path.clone(), source: error },
            _ => Error::io("open", &path)(error),
        })
    }

    /// Reads the file `name` whole.
    ///
    /// # Errors
    /// As [`Folder::open_file`].
    pub fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        Ok(self.read_stamped(name)?.0)
    }

    /// Reads the file `name` whole, and tells when it was.
    ///
    /// # Errors
    /// As [`Folder::open_file`].
    pub(crate) fn read_stamped(&self, name: &str) -> Result<(Vec<u8>, Stamp), Error> {
        let mut bytes = Vec::new();
        let path = self.path.join(name);
        let mut file = self.open_file(name)?;
        // Before it is read: what is written to it meanwhile is seen afterwards.
        let stamp = Stamp::of(&file).map_err(Error::io("read", &path))?;
        file.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        Ok((bytes, stamp))
    }

    /// A name is a single normal component: no separator, no `..`, nothing absolute, no control character.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), Error> {
        let mut components = Path::new(name).components();
        let single = matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none();
        if single && !name.contains(['/', '\\']) && !name.chars().any(char::is_control) {
            return Ok(());
        }
        Err(Error::BadFile {
            path: self.path.clone(),
            expected: "the plain name of a file inside the folder",
            found: format!("`{}`", visible(name)),
        })
    }
}

/// Whether a real path is `…/models--owner--name/blobs/<hash>`, as the hub's cache keeps the content of a file: by its git hash,
/// or its SHA-256.
fn is_blob(real: &Path) -> bool {
    let mut names = real.iter().rev().map(|name| name.to_str().unwrap_or_default());
    let (hash, above, higher) = (names.next().unwrap_or_default(), names.next(), names.next());
    if ![40, 64].contains(&hash.len()) || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return false;
    }
    if above == Some("blobs") {
        return higher.is_some_and(|repository| repository.starts_with("models--"));
    }
    // The store that all repositories of a cache share: `…/blobs/<two digits>/<hash>`, and a file that says so.
    let store = real.ancestors().nth(2).filter(|_| higher == Some("blobs") && above == hash.get(..2));
    store.is_some_and(|store| store.join(".huggingface-shared-blobs").is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const GIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "content").unwrap();
    }

    #[test]
    fn links_into_the_blobs_of_any_cache_are_followed_and_no_others() {
        let (cache, local) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        write(&cache.path().join("shared/blobs/.huggingface-shared-blobs"));
        for (target, is_read) in [
            (format!("hub/models--a--b/blobs/{SHA256}"), true),
            (format!("elsewhere/models--a--b/blobs/{GIT}"), true),
            (format!("models--a--b/snapshots/{SHA256}"), false),
            (format!("datasets--a--b/blobs/{SHA256}"), false),
            (format!("blobs/{SHA256}"), false),
            (format!("models--a--b/blobs/more/{SHA256}"), false),
            ("models--a--b/blobs/secret.txt".into(), false),
            (format!("shared/blobs/ba/{SHA256}"), true),
            (format!("shared/blobs/bb/{SHA256}"), false),
            (format!("unshared/blobs/ba/{SHA256}"), false),
        ] {
            let target = cache.path().join(target);
            write(&target);
            let link = local.path().join("file");
            symlink(&target, &link).unwrap();
            let read = Folder::open(local.path()).unwrap().read("file");
            assert_eq!(read.is_ok(), is_read, "{}", target.display());
            if let Err(error) = read {
                assert!(
                    error.to_string().contains("expected a file inside the folder, found a link to"),
                    "{error}"
                );
                let hint = error.hint().unwrap();
                assert!(hint.contains("`cp -rL") && hint.contains("snapshots"), "{hint}");
            }
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named() {
        let local = TempDir::new().unwrap();
        symlink("/nowhere/blobs/abc", local.path().join("file")).unwrap();
        let error = Folder::open(local.path()).unwrap().read("file").unwrap_err();
        let expected = "expected a file, found a link to `/nowhere/blobs/abc`, which does not exist";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert!(error.hint().unwrap().contains("download it again"));
    }

    #[test]
    fn a_link_of_links_is_judged_by_where_it_ends() {
        let (cache, local) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let blob = cache.path().join(format!("models--a--b/blobs/{SHA256}"));
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        write(&cache.path().join("secret"));
        symlink(cache.path().join("secret"), &blob).unwrap();
        symlink(&blob, local.path().join("file")).unwrap();
        assert!(Folder::open(local.path()).unwrap().read("file").is_err());
    }
}
