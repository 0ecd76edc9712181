//! A checkpoint's folder: gives out its own files and no others.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::Error;
use crate::error::visible;

/// A checkpoint's folder. A name or link that leads out of it is refused, with one exception: the hub's cache,
/// whose snapshots are folders of links into the repository's own `blobs`.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    real: PathBuf,
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
                Error::MissingFile { dir: self.path.clone(), expected: format!("`{}`", visible(name)) }
            } else {
                Error::io("read", &path)(error)
            }
        })?;
        if !real.starts_with(&self.real) && !self.blobs.as_ref().is_some_and(|blobs| real.starts_with(blobs))
        {
            return Err(Error::BadFile {
                path,
                expected: "a file inside the folder",
                found: format!("a link to `{}`", visible(&real.to_string_lossy())),
            });
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
        let mut bytes = Vec::new();
        let path = self.path.join(name);
        self.open_file(name)?.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        Ok(bytes)
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
