//! Finds the Python that goes with a checkpoint: in its folder, or in the caches of huggingface_hub and transformers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::SourceFile;
use super::hub::{HubFolders, environment, is_revision};
use store::hash::sha256;

/// Longer files are taken for absent: they are no code of this model.
const MAX_BYTES: u64 = 1 << 20;

/// Folders where code of other repositories may lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeCaches {
    /// Caches of huggingface_hub: `models--owner--name/snapshots/<revision>/`.
    pub hub: Vec<PathBuf>,
    /// Caches of transformers: `transformers_modules/owner/name/<revision>/`.
    pub modules: Vec<PathBuf>,
}

/// A file of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CodeFile {
    /// Its name.
    pub(crate) name: String,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
    /// The SHA-256 of its content.
    pub(crate) sha256: String,
    /// The repository and revision that it is of, if it is not the checkpoint's folder.
    pub(crate) origin: Option<(String, String)>,
}

impl CodeCaches {
    /// The caches that the environment names, as huggingface_hub and transformers read it.
    pub fn from_env() -> Self {
        let folders = HubFolders { variable: &environment };
        Self { hub: folders.hub().into_iter().collect(), modules: folders.modules().into_iter().collect() }
    }

    /// The file `name` of `repository`, if a cache has it in one version only, or in the one that `main` is.
    ///
    /// # Errors
    /// A sentence that says which versions there are.
    pub(crate) fn find(&self, repository: &str, name: &str) -> Result<Option<CodeFile>, String> {
        let mut versions: BTreeMap<String, CodeFile> = BTreeMap::new();
        for hub in &self.hub {
            let models = hub.join(format!("models--{}", repository.replace('/', "--")));
            let snapshots = models.join("snapshots");
            let main = fs::read_to_string(models.join("refs/main")).unwrap_or_default();
            if !main.trim().is_empty()
                && let Some(file) = read(&snapshots.join(main.trim()), name, repository)
            {
                return Ok(Some(file));
            }
            collect(&snapshots, name, repository, &mut versions);
        }
        for modules in &self.modules {
            let modules = modules.join("transformers_modules");
            for encode in [str::to_string, module_name] {
                collect(&of_repository(&modules, repository, encode), name, repository, &mut versions);
            }
        }
        if versions.len() > 1 {
            let found: Vec<String> = versions
                .values()
                .filter_map(|file| {
                    file.origin.as_ref().map(|(_, revision)| format!("`{}`", revision.escape_debug()))
                })
                .collect();
            return Err(format!("the caches have several versions of it, at {}", found.join(", ")));
        }
        Ok(versions.into_values().next())
    }

    /// The file `name` of `repository` at `revision`: a commit, or what a cache has noted for a branch or tag.
    ///
    /// # Errors
    /// A sentence that says that no cache has that revision.
    pub(crate) fn find_at(
        &self,
        repository: &str,
        revision: &str,
        name: &str,
    ) -> Result<Option<CodeFile>, String> {
        let missing = || Err(format!("the caches have no revision `{}` of it", revision.escape_debug()));
        // It becomes part of a path.
        if !is_revision(revision) {
            return missing();
        }
        let mut folders = Vec::new();
        for hub in &self.hub {
            let models = hub.join(format!("models--{}", repository.replace('/', "--")));
            let noted = fs::read_to_string(models.join("refs").join(revision)).unwrap_or_default();
            let commit = if noted.trim().is_empty() { revision } else { noted.trim() };
            if is_revision(commit) {
                folders.push(models.join("snapshots").join(commit));
            }
        }
        for modules in &self.modules {
            let modules = modules.join("transformers_modules");
            for encode in [str::to_string, module_name] {
                folders.push(of_repository(&modules, repository, encode).join(revision));
            }
        }
        folders.retain(|folder| folder.is_dir());
        if folders.is_empty() {
            return missing();
        }
        Ok(folders.iter().find_map(|folder| read(folder, name, repository)))
    }
}

/// The folder of a repository in the cache of transformers, where `encode` writes its parts.
fn of_repository(modules: &Path, repository: &str, encode: fn(&str) -> String) -> PathBuf {
    repository.split('/').fold(modules.to_path_buf(), |path, part| path.join(encode(part)))
}

impl CodeFile {
    /// The file `name` among those of the checkpoint's folder.
    pub(crate) fn in_folder(files: &[SourceFile], name: &str) -> Option<Self> {
        let file = files.iter().find(|file| file.name == name)?;
        Some(Self {
            name: file.name.clone(),
            bytes: file.bytes.clone(),
            sha256: file.sha256.clone(),
            origin: None,
        })
    }
}

/// How transformers writes a part of a repository's name where it must be a Python identifier.
fn module_name(part: &str) -> String {
    part.replace('.', "_dot_").replace('-', "_hyphen_")
}

/// Every version of the file in the folders of `parent`, by its SHA-256.
fn collect(parent: &Path, name: &str, repository: &str, versions: &mut BTreeMap<String, CodeFile>) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    for file in folders.iter().filter_map(|folder| read(folder, name, repository)) {
        versions.entry(file.sha256.clone()).or_insert(file);
    }
}

fn read(folder: &Path, name: &str, repository: &str) -> Option<CodeFile> {
    let path = folder.join(name);
    let bytes = store::read(&path, MAX_BYTES).ok()?;
    let revision = folder.file_name()?.to_string_lossy().into_owned();
    let origin = Some((repository.to_string(), revision));
    Some(CodeFile { name: name.to_string(), sha256: sha256(&bytes), bytes, origin })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn write(dir: &TempDir, path: &str, text: &str) {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn caches(dir: &TempDir) -> CodeCaches {
        CodeCaches { hub: vec![dir.path().join("hub")], modules: vec![dir.path().join("modules")] }
    }

    #[test]
    fn finds_a_snapshot_and_prefers_the_one_that_main_is() {
        let dir = TempDir::new().unwrap();
        assert_eq!(caches(&dir).find("a/b-c", "x.py"), Ok(None));
        write(&dir, "hub/models--a--b-c/snapshots/r1/x.py", "1");
        let found = caches(&dir).find("a/b-c", "x.py").unwrap().unwrap();
        assert_eq!(found.origin, Some(("a/b-c".into(), "r1".into())));
        assert_eq!((found.bytes.as_slice(), found.sha256), (&b"1"[..], sha256(b"1")));
        write(&dir, "hub/models--a--b-c/snapshots/r2/x.py", "1");
        assert!(caches(&dir).find("a/b-c", "x.py").unwrap().is_some());
        write(&dir, "hub/models--a--b-c/snapshots/r3/x.py", "2");
        let message = caches(&dir).find("a/b-c", "x.py").unwrap_err();
        assert_eq!(message, "the caches have several versions of it, at `r1`, `r3`");
        write(&dir, "hub/models--a--b-c/refs/main", "r3\n");
        assert_eq!(caches(&dir).find("a/b-c", "x.py").unwrap().unwrap().bytes, b"2");
        assert_eq!(caches(&dir).find("a/b", "x.py"), Ok(None));
    }

    #[test]
    fn finds_the_revision_that_is_named_and_no_other() {
        let dir = TempDir::new().unwrap();
        write(&dir, "hub/models--a--b/snapshots/r1/x.py", "1");
        write(&dir, "hub/models--a--b/snapshots/r2/x.py", "2");
        write(&dir, "hub/models--a--b/refs/main", "r1");
        write(&dir, "hub/models--a--b/refs/v/2", "r2");
        write(&dir, "modules/transformers_modules/a/b/r3/x.py", "3");
        let at = |revision: &str, name: &str| caches(&dir).find_at("a/b", revision, name);
        for (revision, expected) in [("main", "1"), ("r1", "1"), ("v/2", "2"), ("r2", "2"), ("r3", "3")] {
            let found = at(revision, "x.py").unwrap().unwrap();
            assert_eq!(found.bytes, expected.as_bytes(), "{revision}");
            assert!(at(revision, "y.py").unwrap().is_none());
        }
        for revision in ["r4", "../snapshots/r1", "v", ""] {
            let error = at(revision, "x.py").unwrap_err();
            assert_eq!(error, format!("the caches have no revision `{revision}` of it"));
        }
        write(&dir, "hub/models--a--b/refs/evil", "../../../../etc");
        assert!(at("evil", "x.py").is_err());
    }

    #[test]
    fn finds_the_modules_of_transformers_under_both_spellings() {
        for path in ["a/b-c.d/r1/x.py", "a/b_hyphen_c_dot_d/r1/x.py"] {
            let dir = TempDir::new().unwrap();
            write(&dir, &format!("modules/transformers_modules/{path}"), "1");
            assert!(caches(&dir).find("a/b-c.d", "x.py").unwrap().is_some(), "{path}");
        }
    }
}
