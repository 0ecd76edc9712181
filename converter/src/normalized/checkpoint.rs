//! The reader of a normalized checkpoint.

use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;
use store::Map;

use super::{Config, TorchDtype, check_layers};
use crate::architecture::{Architecture, Part};
use crate::families;
use crate::weights::{Folder, Weights};
use crate::{Error, TensorProblem, json};

/// The file that describes the model.
pub const CONFIG_FILE: &str = "config.json";

/// A normalized checkpoint: its configuration, and its tensors mapped from their files.
///
/// Opening proves that the configuration agrees with itself and that the files hold exactly the tensors that it
/// implies, in their shapes; the bytes of the tensors are only read when they are used. Where they are lost then, because
/// somebody made a file shorter, the program ends with a sentence and status 2: what is computed with them can't be right.
#[derive(Debug)]
pub struct Checkpoint {
    folder: Folder,
    config: Config,
    weights: Weights,
    /// One of each file, by its name.
    maps: HashMap<String, Map>,
}

/// One tensor of a [`Checkpoint`]; its bytes stay in the mapped file.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// The name that was asked for.
    pub name: &'a str,
    /// `F32`, `BF16` or `F16`.
    pub dtype: Dtype,
    /// The shape that the configuration implies.
    pub shape: &'a [usize],
    /// Little-endian elements, row by row; aligned to nothing.
    pub data: &'a [u8],
}

impl Checkpoint {
    /// Opens the normalized checkpoint in the folder `dir`.
    ///
    /// # Errors
    /// Every variant of [`Error`], for a folder that is not a complete and consistent normalized checkpoint.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let folder = Folder::open(dir)?;
        let path = folder.file_path(CONFIG_FILE);
        let text = folder.read(CONFIG_FILE)?;
        // Asked first, so that another format or version is called that, and not a list of unknown fields.
        let kind: Kind = json::parse(&path, &text)?;
        let architecture = kind.check(&path)?;
        let config: Config = json::parse(&path, &text)?;
        config.validate(&path)?;
        let weights = Weights::open(&folder)?;
        let names = weights.iter().map(|tensor| tensor.name);
        check_layers(&path, &(architecture.layers)(&config), |layers| layers.in_normalized, names)?;
        check_tensors(&folder, architecture, &config, &weights)?;
        let mut maps = HashMap::new();
        for file in weights.files() {
            maps.extend(file.map()?.map(|map| (file.name().to_string(), map)));
        }
        Ok(Self { folder, config, weights, maps })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The folder, as it was named.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The folder, for its other files.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The files.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The names of all tensors, in the order of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.weights.iter().map(|tensor| tensor.name)
    }

    /// The tensor `name`.
    ///
    /// # Errors
    /// [`Error::Tensors`] where the checkpoint has none of this name.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let Some(tensor) = self.weights.get(name) else {
            return Err(Error::Tensors {
                path: self.dir().to_path_buf(),
                problems: vec![TensorProblem::Absent { name: name.to_string() }],
            });
        };
        let map = self.maps.get(tensor.file.name());
        let Some(data) = map.and_then(|map| map.get(tensor.place())) else {
            // Shorter when it was mapped than when its header was read.
            tensor.file.check_unchanged()?;
            return Err(Error::io("map", tensor.file.path())(std::io::ErrorKind::UnexpectedEof.into()));
        };
        Ok(TensorView { name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, data })
    }
}

/// The two fields that say what the rest of the file is.
#[derive(serde::Deserialize)]
struct Kind {
    format: Option<serde_json::Value>,
    format_version: Option<serde_json::Value>,
}

impl Kind {
    fn check(&self, path: &Path) -> Result<&'static Architecture, Error> {
        let architecture = families::of_normalized(path, self.format.as_ref())?;
        let expected = serde_json::Value::from(super::FORMAT_VERSION);
        let found = self.format_version.as_ref();
        if found != Some(&expected) {
            let found = found.map_or("no such field".into(), |found| format!("`{found}`"));
            return Err(Error::field(path, "format_version", format!("`{expected}`"), found));
        }
        Ok(architecture)
    }
}

fn check_tensors(
    folder: &Folder,
    architecture: &Architecture,
    config: &Config,
    weights: &Weights,
) -> Result<(), Error> {
    let mut problems = Vec::new();
    let mut expected_names = std::collections::HashSet::new();
    for expected in (architecture.layout)(config, Part::All) {
        match weights.get(&expected.name) {
            None => problems
                .push(TensorProblem::Missing { name: expected.name.clone(), shape: expected.shape.clone() }),
            Some(found) if found.shape != expected.shape => problems.push(TensorProblem::Shape {
                name: expected.name.clone(),
                expected: expected.shape.clone(),
                found: found.shape.to_vec(),
            }),
            Some(found) if TorchDtype::from_dtype(found.dtype).is_none() => {
                problems.push(TensorProblem::Dtype {
                    name: expected.name.clone(),
                    expected: TorchDtype::CODES,
                    found: found.dtype,
                });
            }
            Some(_) => {}
        }
        expected_names.insert(expected.name);
    }
    for tensor in weights.iter().filter(|tensor| !expected_names.contains(tensor.name)) {
        problems.push(TensorProblem::Unknown {
            name: tensor.name.to_string(),
            file: tensor.file.name().to_string(),
        });
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Error::Tensors { path: folder.path().to_path_buf(), problems })
    }
}
