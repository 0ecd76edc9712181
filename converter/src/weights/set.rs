//! All tensors of a checkpoint, whether in one file or in shards with an index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;

use super::{Folder, HeaderEntry, INDEX_FILE, SINGLE_FILE, WeightsFile};
use crate::error::visible;
use crate::{Error, TensorProblem, json};

/// Every tensor of a checkpoint's folder.
#[derive(Debug)]
pub struct Weights {
    files: Vec<WeightsFile>,
    places: HashMap<String, (usize, usize)>,
    index: Option<String>,
}

/// One tensor, and the file it is in.
#[derive(Debug, Clone, Copy)]
pub struct Tensor<'a> {
    /// The tensor.
    pub name: &'a str,
    /// Its dtype.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: &'a [usize],
    /// The file that has it.
    pub file: &'a WeightsFile,
    entry: &'a HeaderEntry,
}

impl Tensor<'_> {
    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.entry.end - self.entry.start
    }

    /// Where its data are in its file.
    pub fn place(&self) -> Range<usize> {
        let start = self.file.header().data_start;
        start + self.entry.start..start + self.entry.end
    }

    /// Its little-endian elements, row by row.
    ///
    /// # Errors
    /// Those of [`WeightsFile::read_at`].
    pub fn read(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.bytes()];
        self.file.read_at(self.place().start as u64, &mut bytes)?;
        Ok(bytes)
    }

    /// Gives `take` its little-endian elements, row by row, piece by piece.
    ///
    /// # Errors
    /// Those of [`WeightsFile::for_each_piece`].
    pub fn for_each_piece(&self, take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        self.file.for_each_piece(self.entry, take)
    }

    /// As [`Tensor::for_each_piece`], of the bytes `range` of the tensor only.
    ///
    /// # Errors
    /// Those of [`WeightsFile::for_each_piece`].
    pub fn for_each_piece_in(
        &self,
        range: Range<usize>,
        take: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.file.for_each_piece_in(self.entry.start + range.start..self.entry.start + range.end, take)
    }
}

/// Where files of weights come from.
pub(crate) trait Files {
    /// Whether there is one of this name.
    fn has(&self, name: &str) -> bool;

    /// Opens the file of weights `name`.
    fn open(&self, name: &str) -> Result<WeightsFile, Error>;
}

impl Files for Folder {
    fn has(&self, name: &str) -> bool {
        Folder::has(self, name)
    }

    fn open(&self, name: &str) -> Result<WeightsFile, Error> {
        WeightsFile::open(self, name)
    }
}

/// `model.safetensors.index.json`.
#[derive(Debug, Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// Those of [`WeightsFile::open`] for each file; [`Error::MissingFile`] where there is neither;
    /// [`Error::BadFile`] where there are both; [`Error::Tensors`] where index and shards disagree.
    pub fn open(folder: &Folder) -> Result<Self, Error> {
        Self::open_of(folder, folder)
    }

    /// As [`Weights::open`], with the index from `folder` and files of weights from `files`.
    pub(crate) fn open_of(folder: &Folder, files: &dyn Files) -> Result<Self, Error> {
        match (folder.has(INDEX_FILE), files.has(SINGLE_FILE)) {
            (true, true) => Err(Error::BadFile {
                path: folder.file_path(SINGLE_FILE),
                expected: "either one file or shards with an index",
                found: format!("both `{SINGLE_FILE}` and `{INDEX_FILE}`"),
            }),
            (true, false) => Self::open_shards(folder, files),
            (false, true) => {
                let file = files.open(SINGLE_FILE)?;
                let places = file
                    .header()
                    .tensors
                    .iter()
                    .enumerate()
                    .map(|(entry, tensor)| (tensor.name.clone(), (0, entry)))
                    .collect();
                Ok(Self { files: vec![file], places, index: None })
            }
            (false, false) => Err(Error::MissingFile {
                dir: folder.path().to_path_buf(),
                expected: format!("`{SINGLE_FILE}` or `{INDEX_FILE}`"),
            }),
        }
    }

    fn open_shards(folder: &Folder, files: &dyn Files) -> Result<Self, Error> {
        let path = folder.file_path(INDEX_FILE);
        let index: Index = json::parse(&path, &folder.read(INDEX_FILE)?)?;
        let names: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        if names.is_empty() {
            return Err(Error::field(&path, "weight_map", "at least one tensor", "none"));
        }
        let files = names
            .into_iter()
            .map(|name| files.open(name).map_err(|error| named_by(&path, &index, name, error)))
            .collect::<Result<Vec<_>, _>>()?;

        let mut places: HashMap<String, (usize, usize)> = HashMap::new();
        let mut problems = Vec::new();
        for (file, shard) in files.iter().enumerate() {
            for (entry, tensor) in shard.header().tensors.iter().enumerate() {
                let misplaced = |expected: String, found: String| TensorProblem::Misplaced {
                    name: tensor.name.clone(),
                    expected,
                    found,
                };
                if let Some(&(first, _)) = places.get(&tensor.name) {
                    let both = format!("both `{}` and `{}`", files[first].name(), shard.name());
                    problems.push(misplaced("one file".into(), both));
                    continue;
                }
                places.insert(tensor.name.clone(), (file, entry));
                match index.weight_map.get(&tensor.name) {
                    Some(named) if named == shard.name() => {}
                    Some(named) => {
                        problems.push(misplaced(
                            format!("`{named}`, by the index"),
                            format!("`{}`", shard.name()),
                        ));
                    }
                    None => problems.push(misplaced(
                        "no file, because the index does not list it".into(),
                        format!("`{}`", shard.name()),
                    )),
                }
            }
        }
        for (name, file) in &index.weight_map {
            if !places.contains_key(name) {
                problems.push(TensorProblem::Misplaced {
                    name: name.clone(),
                    expected: format!("`{file}`, by the index"),
                    found: "no file".into(),
                });
            }
        }
        if problems.is_empty() {
            Ok(Self { files, places, index: Some(INDEX_FILE.to_string()) })
        } else {
            Err(Error::Tensors { path, problems })
        }
    }

    /// Refuses files that somebody has written to, replaced or removed since they were opened.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.files.iter().try_for_each(WeightsFile::check_unchanged)
    }

    /// The files, in the order of their names.
    pub fn files(&self) -> &[WeightsFile] {
        &self.files
    }

    /// The name of the index, if the checkpoint has one.
    pub fn index(&self) -> Option<&str> {
        self.index.as_deref()
    }

    /// The tensor `name`, if there is one.
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let &(file, entry) = self.places.get(name)?;
        let file = &self.files[file];
        Some(Self::tensor(file, &file.header().tensors[entry]))
    }

    /// Every tensor, in the order of the files and of the data inside each.
    pub fn iter(&self) -> impl Iterator<Item = Tensor<'_>> + Clone {
        self.files
            .iter()
            .flat_map(|file| file.header().tensors.iter().map(move |entry| Self::tensor(file, entry)))
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn tensor<'a>(file: &'a WeightsFile, entry: &'a HeaderEntry) -> Tensor<'a> {
        Tensor { name: &entry.name, dtype: entry.dtype, shape: &entry.shape, file, entry }
    }
}

/// Names the entry of the index that led to a file which isn't there, or can't be one of the folder.
fn named_by(path: &Path, index: &Index, file: &str, error: Error) -> Error {
    let tensor = index.weight_map.iter().find(|(_, named)| *named == file).map_or("", |(tensor, _)| tensor);
    match error {
        Error::MissingFile { dir, expected } => {
            let tensor = visible(tensor);
            Error::MissingFile {
                dir,
                expected: format!("{expected}, which `{INDEX_FILE}` names for tensor `{tensor}`"),
            }
        }
        Error::BadFile { path: folder, expected, found } if folder == path.parent().unwrap_or(path) => {
            Error::field(path, format!("weight_map.{}", visible(tensor)), expected, found)
        }
        other => other,
    }
}
