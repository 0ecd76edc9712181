//! What the converter knows of one model family. Everything else asks it, and knows no tensor by its name.

mod names;
mod part;
mod pattern;

pub use names::{Axis, Block, Mapping, NameMatch, Names, Rule, rule};
pub use part::Part;

use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;

use crate::Error;
use crate::nemotron_vl::Config;
use crate::normalized::TorchDtype;

/// One model family.
#[derive(Debug, Clone, Copy)]
pub struct Architecture {
    /// `format` in the `config.json` of its normalized checkpoints.
    pub format: &'static str,
    /// `model_type` in a source's `config.json`, and the only class in its `architectures`.
    pub model_type: &'static str,
    /// What becomes of each tensor of a source.
    pub names: Names,
    /// The tensors that a configuration implies, of a part or of all, in the order in which the model uses them.
    pub layout: fn(&Config, Part) -> Vec<TensorLayout>,
    /// The shapes of source tensors that are fused with others, under their names in the source. Those of all other source
    /// tensors follow from `layout`.
    pub fused: fn(&Config) -> Vec<TensorLayout>,
    /// What repeats itself under a number.
    pub layers: fn(&Config) -> Vec<RepeatedLayers>,
    /// Tensors of a source that are not written, because they are equal to others.
    pub duplicates: fn(&Config) -> &'static [Duplicate],
    /// What the names of normalized tensors begin with, in the order of use: `inspect` counts by these.
    pub modules: &'static [&'static str],
    /// The model in a few lines, each a label and a text: `inspect` prints them.
    pub describe: fn(&Config) -> Vec<(&'static str, String)>,
    /// Its parts for other programs.
    pub parts: Parts,
}

/// How parts of a family are written, so that transformers' own classes load them.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// The file of a part that has the normalized configuration of the whole model; its `config.json` is transformers'.
    pub whole_config_file: &'static str,
    /// The name that a normalized tensor has in a part. Tensors that get one name become one: their rows follow each other in
    /// the order of the layout.
    pub name: fn(Part, &str) -> String,
    /// Tensors of a part that are made of the configuration; those with larger elements come first.
    pub buffers: fn(&Config, Part) -> Vec<Buffer>,
    /// Tensors of a part that go to a file of their own, which its index does not list.
    pub apart: fn(Part) -> Option<Apart>,
    /// `config.json` of a part or of all, whose weights have this dtype where they were converted.
    pub config_file: fn(&Config, Part, Option<TorchDtype>) -> Value,
    /// Refuses what a part cannot hold, with the path of the source's configuration.
    pub check: fn(&Config, Part, &Path) -> Result<(), Error>,
    /// What the user of a part must know.
    pub warning: fn(&Config, Part) -> Option<String>,
}

/// A tensor that a configuration implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorLayout {
    /// Its name in the normalized checkpoint.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// Layers of one part of a model.
#[derive(Debug, Clone, Copy)]
pub struct RepeatedLayers {
    /// How many the configuration has.
    pub configured: usize,
    /// In a source.
    pub in_source: LayerNames,
    /// In a normalized checkpoint.
    pub in_normalized: LayerNames,
}

/// Where layers are found.
#[derive(Debug, Clone, Copy)]
pub struct LayerNames {
    /// The field that says how many there are.
    pub field: &'static str,
    /// What the names of their tensors begin with, in front of a layer's number.
    pub prefix: &'static str,
}

/// A tensor of a source that must equal another one, byte by byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// The tensor.
    pub name: &'static str,
    /// The one that is written in its place.
    pub of: &'static str,
    /// Why it is not written.
    pub reason: &'static str,
    /// Why they must be equal.
    pub must_equal: &'static str,
}

/// A tensor that is made of the configuration and of no tensor of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// Its name.
    pub name: &'static str,
    /// Its dtype.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A file beside the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart {
    /// Its name.
    pub file: &'static str,
    /// What the names of its tensors begin with.
    pub prefix: &'static str,
}
