//! `manifest.json`: who computed what, from which request, and what was recorded.
//!
//! Fields that this version does not know are kept in `extra` and written back, so that a producer may say more.

use std::borrow::Cow;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::layout::Lines;
use crate::rows::RowAlignment;
use crate::{Dtype, Sketch};

pub use crate::format::{FILE_NAME, FORMAT, VERSIONS};

/// A whole `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// One of [`VERSIONS`].
    pub version: u64,
    /// What ran.
    pub producer: Producer,
    /// Which weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// The SHA-256 of each Python file that ran, by file name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub remote_code: IndexMap<String, String>,
    /// What was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
    /// The text that was tokenised, image tokens included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The token ids that were generated, the end-of-sequence token included; absent if nothing was generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generated_ids: Option<Vec<i64>>,
    /// The answer as text; absent if nothing was generated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The recorded tensors in order of execution.
    pub entries: Vec<Entry>,
    /// Further fields, kept as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A manifest without its entries: what a recorder knows apart from the tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct ManifestHead {
    /// What ran.
    pub producer: Producer,
    /// Which weights.
    pub checkpoint: Option<Checkpoint>,
    /// The SHA-256 of each Python file that ran, by file name.
    pub remote_code: IndexMap<String, String>,
    /// What was asked.
    pub request: Option<Request>,
    /// The text that was tokenised, image tokens included.
    pub prompt: Option<String>,
    /// The token ids that were generated, the end-of-sequence token included.
    pub generated_ids: Option<Vec<i64>>,
    /// The answer as text.
    pub text: Option<String>,
    /// Further fields, written as they are.
    pub extra: Map<String, Value>,
}

/// The program that made the dump, and what its numbers depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Producer {
    /// The program.
    pub name: String,
    /// The program's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The commit that the program was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The version of torch or libtorch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch: Option<String>,
    /// The version of transformers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformers: Option<String>,
    /// The version of timm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timm: Option<String>,
    /// Where it ran: `cpu`, `cuda:0`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The run's dtype, usually a torch name; a producer whose weights have another type may name it freely.
    pub dtype: String,
    /// The dtype of each part that ran, by the module path of the model's direct child.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub dtypes: IndexMap<String, String>,
    /// The dtype in which `pixel_values` reached the vision tower: `float32` as the image processor gives them, another where
    /// they were rounded first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_values_dtype: Option<String>,
    /// Which attention kernels ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<AttentionImplementations>,
    /// The number of threads of the computation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threads: Option<u64>,
    /// The instruction set that the kernels chose, as torch names it (`AVX2`, `AVX512`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_capability: Option<String>,
    /// Who made the processor, as it says itself (`GenuineIntel`, `AuthenticAMD`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_vendor: Option<String>,
    /// oneMKL's `MKL_CBWR`, where it was set: the kernels whose order of sums was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mkl_cbwr: Option<String>,
    /// Where the run departs from the public code, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deviations: Vec<String>,
    /// Further fields, kept as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The attention kernels of each part: `eager`, `sdpa`, `flash_attention_2`, or a name of the producer's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionImplementations {
    /// In the vision tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vision: Option<String>,
    /// In the language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The weights that ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The folder's or the repository's name.
    pub name: String,
    /// The repository's revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Further fields, kept as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What was asked of the model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Request {
    /// The system prompt; written as `null` if there is none.
    #[serde(default)]
    pub system: Option<String>,
    /// The conversation, oldest turn first; the last turn has no answer yet.
    pub turns: Vec<Turn>,
    /// The pictures, in the order of their image tags.
    #[serde(default)]
    pub images: Vec<Image>,
    /// The limit on generated tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<u64>,
    /// Whether tokens were drawn by chance (`false`: greedy).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub do_sample: Option<bool>,
    /// Further generation settings (`temperature`, `top_p`, `seed`, …), kept as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A question, and its answer if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// What the user said.
    pub user: String,
    /// What the model had answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assistant: Option<String>,
}

/// A picture of the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// The file's name, without its folder.
    pub file: String,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The SHA-256 of the file.
    pub sha256: String,
    /// How many tiles it was cut into, the thumbnail included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles: Option<u32>,
    /// Further fields, kept as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A recorded tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The place in the order of execution: strictly increasing along `entries`.
    pub order: u64,
    /// The module path in the public `modeling.py`, or a plain name.
    pub name: String,
    /// The forward pass that computed it: 0 is the prefill, the others decode.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub step: u64,
    /// What the tensor is to the computation.
    pub role: Role,
    /// The class of the module, empty for a tensor that is no module's output.
    pub module: String,
    /// The element type.
    pub dtype: Dtype,
    /// The shape, outermost dimension first.
    pub shape: Vec<usize>,
    /// The SHA-256 of the little-endian bytes.
    pub sha256: String,
    /// The safetensors file that holds the tensor; absent if the dump has one file only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The `order` of each entry that it was computed from, nearest first; `None` where nobody has recorded that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<u64>>,
    /// How the rows of each input belong to the entry's; empty if all do one to one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_rows: Vec<RowAlignment>,
    /// How many of each operator lie between the inputs and the entry.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub operations: IndexMap<String, u64>,
    /// What stands for the tensor if the dump does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sketch: Option<Box<Sketch>>,
    /// Further fields, kept as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a tensor is to the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Given to the model.
    Input,
    /// Computed on the way.
    Activation,
    /// A result.
    Output,
}

impl Role {
    /// The name, as it stands in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Role::Input => "input",
            Role::Activation => "activation",
            Role::Output => "output",
        }
    }
}

impl Entry {
    /// What tells the entry from all others: the tensor's name in its file. It is the name, with `@` and the number of the step
    /// behind it if that is not 0.
    pub fn key(&self) -> Cow<'_, str> {
        key_of(&self.name, self.step)
    }
}

/// The key of the entry of a name in a step.
pub fn key_of(name: &str, step: u64) -> Cow<'_, str> {
    if step == 0 { Cow::Borrowed(name) } else { Cow::Owned(format!("{name}@{step}")) }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(step: &u64) -> bool {
    *step == 0
}

impl Producer {
    /// A producer of which only the program and the run's dtype are known.
    pub fn new(name: impl Into<String>, dtype: impl Into<String>) -> Self {
        Producer {
            name: name.into(),
            version: None,
            commit: None,
            torch: None,
            transformers: None,
            timm: None,
            device: None,
            dtype: dtype.into(),
            dtypes: IndexMap::new(),
            pixel_values_dtype: None,
            attention: None,
            threads: None,
            cpu_capability: None,
            cpu_vendor: None,
            mkl_cbwr: None,
            deviations: Vec::new(),
            extra: Map::new(),
        }
    }
}

impl Checkpoint {
    /// A checkpoint of which only the name is known.
    pub fn new(name: impl Into<String>) -> Self {
        Checkpoint { name: name.into(), revision: None, extra: Map::new() }
    }
}

impl ManifestHead {
    /// A head of which only the producer is known.
    pub fn new(producer: Producer) -> Self {
        ManifestHead {
            producer,
            checkpoint: None,
            remote_code: IndexMap::new(),
            request: None,
            prompt: None,
            generated_ids: None,
            text: None,
            extra: Map::new(),
        }
    }

    /// The whole manifest.
    pub fn with_entries(self, entries: Vec<Entry>) -> Manifest {
        let ManifestHead { producer, checkpoint, remote_code, request, prompt, generated_ids, text, extra } =
            self;
        let version = VERSIONS[usize::from(entries.iter().any(Entry::needs_version_2))];
        Manifest {
            format: FORMAT.to_owned(),
            version,
            producer,
            checkpoint,
            remote_code,
            request,
            prompt,
            generated_ids,
            text,
            entries,
            extra,
        }
    }
}

impl Manifest {
    /// The manifest without its entries, to write a changed copy of a dump.
    pub fn head(&self) -> ManifestHead {
        ManifestHead {
            producer: self.producer.clone(),
            checkpoint: self.checkpoint.clone(),
            remote_code: self.remote_code.clone(),
            request: self.request.clone(),
            prompt: self.prompt.clone(),
            generated_ids: self.generated_ids.clone(),
            text: self.text.clone(),
            extra: self.extra.clone(),
        }
    }

    /// The file's content: JSON indented by one space, with a final newline; if there are steps, each entry in one line.
    ///
    /// # Errors
    ///
    /// Only what serde_json reports, which for these types is nothing.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.entries.iter().any(|entry| entry.step > 0) {
            self.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Lines::new()))?;
        } else {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
            self.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
        }
        bytes.push(b'\n');
        Ok(bytes)
    }
}
