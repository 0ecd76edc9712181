//! A conversion from end to end.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::ledger::{
    self, LEDGER_FILE, LEDGER_FORMAT, LEDGER_VERSION, Ledger, LedgerOptions, LedgerSource, ReadFile, Tool,
    WrittenFile,
};
use crate::nemotron_vl::Buffers;
use crate::normalized::{CONFIG_FILE, Checkpoint, Config, check_layers};
use crate::part_config;
use crate::plan::{Plan, PlanOptions, SourceTensor};
use crate::resolve::{Findings, Settings, resolve};
use crate::source::{
    CHAT_TEMPLATE_FILE, GENERATION_CONFIG_FILE, Location, SourceCheckpoint, chat_template, refuse_quantized,
};
use crate::weights::{INDEX_FILE, Tensor, WeightsFile};
use crate::write::{Observer, Staging, Streamed, check_place, write_tensors};
use crate::{Error, TensorProblem};
use store::hash::sha256;
use store::safetensors_header::LENGTH_BYTES;

/// Files that a normalized folder has as the source has them.
const COPIED: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    CHAT_TEMPLATE_FILE,
    GENERATION_CONFIG_FILE,
];

/// A source that was read and understood, and the plan of its conversion; nothing is written yet.
#[derive(Debug)]
pub struct Conversion {
    source: SourceCheckpoint,
    config: Config,
    findings: Findings,
    plan: Plan,
    options: PlanOptions,
    /// The template, where it has to be taken out of the tokenizer's configuration.
    template: Option<String>,
}

impl Conversion {
    /// Reads the source at `location`, resolves its configuration and plans its conversion.
    ///
    /// # Errors
    /// Where the source can't be read, contradicts itself, or isn't supported.
    pub fn prepare(location: Location, settings: Settings, options: PlanOptions) -> Result<Self, Error> {
        let source = SourceCheckpoint::open(location)?;
        let dir = source.folder().path();
        let architecture = source.architecture();
        let (config_path, json) = (source.folder().file_path(CONFIG_FILE), source.json(CONFIG_FILE)?);
        refuse_quantized(source.folder(), source.weights(), &json, architecture.names)?;
        let buffers = Buffers::read(source.weights(), dir)?;
        let (config, mut findings) = resolve(&source, &buffers, settings, options.part)?;
        (architecture.parts.check)(&config, options.part, &config_path)?;
        let names = source.weights().iter().map(|tensor| tensor.name);
        check_layers(&config_path, &(architecture.layers)(&config), |layers| layers.in_source, names)?;
        let plan = Plan::new(architecture, SourceTensor::all(source.weights()), &config, options)
            .map_err(|problems| Error::Tensors { path: dir.to_path_buf(), problems })?;
        findings.warnings.extend(check_equal(&source, &plan)?);
        let (template, warning) = chat_template(&source)?;
        findings.warnings.extend(warning);
        findings.warnings.extend(stray_weights(&source)?);
        findings.warnings.extend((architecture.parts.warning)(&config, options.part));
        Ok(Self { source, config, findings, plan, options, template })
    }

    /// The source.
    pub fn source(&self) -> &SourceCheckpoint {
        &self.source
    }

    /// The normalized configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The content of the `config.json` to write: the normalized configuration, or transformers' of a part.
    pub fn config_file(&self) -> Value {
        (self.source.architecture().parts.config_file)(&self.config, self.options.part, self.options.dtype)
    }

    /// Behaviours, defaults, fields without influence, warnings.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of the source's weights, and of those that are read a second time: what an observer of [`Conversion::write`] counts
    /// up to.
    pub fn source_bytes(&self) -> u64 {
        let files = self.source.weights().files().iter().map(WeightsFile::bytes);
        files.sum::<u64>() + self.plan.reread_bytes()
    }

    /// Writes the normalized checkpoint to the folder `out` and returns its ledger.
    ///
    /// # Errors
    /// [`Error::OutputExists`] and [`Error::OutputPlace`] before anything is done, [`Error::Changed`] where somebody writes to
    /// the source meanwhile, [`Error::Io`]; `out` is then as it was.
    pub fn write(&self, out: &Path, force: bool, observer: &dyn Observer) -> Result<Ledger, Error> {
        check_place(out, self.source.folder().path(), force)?;
        let staging = Staging::begin(out, self.source.folder().path(), force)?;
        let streamed = write_tensors(&staging.dir(), self.source.weights(), &self.plan, observer)?;

        let mut files: Vec<WrittenFile> = self
            .plan
            .shards
            .iter()
            .map(|shard| WrittenFile {
                name: shard.file.clone(),
                bytes: (shard.header.len() + shard.data_bytes) as u64,
                sha256: sha256(&shard.header),
                hashed_bytes: shard.header.len() as u64,
            })
            .collect();
        for (name, bytes) in self.small_files()? {
            staging.write(&name, &bytes)?;
            let (size, sha256) = (bytes.len() as u64, sha256(&bytes));
            files.push(WrittenFile { name, bytes: size, sha256, hashed_bytes: size });
        }
        let mut ledger = self.ledger(&streamed, files)?;
        let bytes =
            ledger.seal().map_err(|error| Error::io("write", Path::new(LEDGER_FILE))(error.into()))?;
        staging.write(LEDGER_FILE, &bytes)?;
        // The reader's own eye on it, before anybody else's; a part has transformers for a reader.
        if self.options.part.is_all() {
            drop(Checkpoint::open(&staging.dir())?);
        }
        if observer.is_stopped() {
            return Err(Error::Interrupted);
        }
        self.source.check_unchanged()?;
        staging.commit()?;
        Ok(ledger)
    }

    /// Everything but the weights and the ledger.
    fn small_files(&self) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut files = vec![(CONFIG_FILE.to_string(), pretty(&self.config_file(), CONFIG_FILE)?)];
        if !self.options.part.is_all() {
            let name = self.source.architecture().parts.whole_config_file;
            let config = part_config::to_json(&self.config, self.options.part);
            files.push((name.to_string(), pretty(&config, name)?));
        }
        if self.plan.shards.iter().filter(|shard| !shard.is_apart).count() > 1 {
            files.push((INDEX_FILE.to_string(), pretty(&self.index(), INDEX_FILE)?));
        }
        // The tower has no use for text.
        let copied = if self.options.part.has_text() { &COPIED[..] } else { &[] };
        for &name in copied {
            if let Some(file) = self.source.file(name) {
                files.push((name.to_string(), file.bytes.clone()));
            } else if name == CHAT_TEMPLATE_FILE
                && let Some(template) = &self.template
            {
                files.push((name.to_string(), template.clone().into_bytes()));
            }
        }
        Ok(files)
    }

    /// `model.safetensors.index.json`.
    fn index(&self) -> Value {
        let mut map = Map::new();
        let mut bytes = 0;
        for shard in self.plan.shards.iter().filter(|shard| !shard.is_apart) {
            bytes += shard.data_bytes;
            map.extend(shard.buffers.iter().map(|buffer| (buffer.name.into(), shard.file.clone().into())));
        }
        for output in &self.plan.outputs {
            let shard = &self.plan.shards[output.shard];
            if !shard.is_apart {
                map.insert(output.name.clone(), shard.file.clone().into());
            }
        }
        json!({ "metadata": { "total_size": bytes }, "weight_map": map })
    }

    fn ledger(&self, streamed: &Streamed, files: Vec<WrittenFile>) -> Result<Ledger, Error> {
        let (repository, revision) = self.source.location().repository();
        let small = self.source.files().iter().map(|file| ReadFile {
            name: file.name.clone(),
            bytes: file.bytes.len() as u64,
            sha256: file.sha256.clone(),
            text: match COPIED.contains(&file.name.as_str()) {
                true => None,
                false => String::from_utf8(file.bytes.clone()).ok(),
            },
            header: None,
        });
        let weights = streamed.files.iter().map(|file| ReadFile {
            name: file.name.clone(),
            bytes: file.bytes,
            sha256: file.sha256.clone(),
            text: None,
            header: self.header_of(&file.name),
        });
        let mut warnings = self.findings.warnings.clone();
        for (output, hash) in self.plan.outputs.iter().zip(&streamed.outputs) {
            if hash.overflows > 0 {
                warnings.push(format!(
                    "tensor `{}`: {} finite elements became infinite in {}",
                    output.name, hash.overflows, output.dtype
                ));
            }
        }
        Ok(Ledger {
            format: LEDGER_FORMAT.into(),
            format_version: LEDGER_VERSION,
            tool: Tool {
                name: "nvl-convert".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                commit: cli::COMMIT.map(Into::into),
            },
            options: LedgerOptions {
                part: self.options.part,
                dtype: self.options.dtype.map_or("keep", |dtype| dtype.as_str()).into(),
                max_shard_bytes: self.options.max_shard_size.bytes(),
            },
            source: LedgerSource {
                name: self.source.location().name(),
                repository: repository.map(str::to_string),
                revision: revision.map(str::to_string),
                files: small.chain(weights).collect(),
                code: self.findings.code.clone(),
            },
            files,
            tensors: ledger::tensor_rows(&self.plan, streamed),
            buffers: ledger::buffer_rows(&self.plan),
            behaviours: self.findings.behaviours.clone(),
            defaults: self.findings.defaults.clone(),
            ignored_fields: self.findings.ignored.clone(),
            warnings,
            ledger_sha256: String::new(),
        })
    }

    /// The header of a file of the source's weights; it was read as JSON, so it is Unicode.
    fn header_of(&self, name: &str) -> Option<String> {
        let file = self.source.weights().files().iter().find(|file| file.name() == name)?;
        String::from_utf8(file.front()[LENGTH_BYTES..].to_vec()).ok()
    }
}

/// Compares the tensors that the plan takes for equal; a warning where that can't be done without fetching them.
fn check_equal(source: &SourceCheckpoint, plan: &Plan) -> Result<Vec<String>, Error> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    for row in &plan.rows {
        let Some(duplicate) = row.same_as else { continue };
        let other = duplicate.of;
        let (tensor, same) = (source.weights().get(&row.source.name), source.weights().get(other));
        let equal = match tensor.zip(same) {
            Some((a, b)) if a.shape == b.shape && !(a.file.is_here() && b.file.is_here()) => {
                let (name, other) = (row.source.name.escape_debug(), other.escape_debug());
                warnings.push(format!(
                    "only headers were read: whether `{name}` equals `{other}` is seen when they are converted"
                ));
                true
            }
            Some((a, b)) => (a.dtype, a.shape) == (b.dtype, b.shape) && has_same_bytes(a, b)?,
            None => false,
        };
        if !equal {
            problems.push(TensorProblem::Differs {
                name: row.source.name.clone(),
                from: other.to_string(),
                reason: duplicate.must_equal,
            });
        }
    }
    if problems.is_empty() {
        Ok(warnings)
    } else {
        Err(Error::Tensors { path: source.folder().path().to_path_buf(), problems })
    }
}

/// Whether two tensors of one size have the same bytes.
fn has_same_bytes(a: Tensor<'_>, b: Tensor<'_>) -> Result<bool, Error> {
    let (mut at, mut equal) = (b.place().start as u64, true);
    let mut other = Vec::new();
    a.for_each_piece(|piece| {
        other.resize(piece.len(), 0);
        b.file.read_at(at, &mut other)?;
        at += piece.len() as u64;
        equal &= piece == other;
        Ok(())
    })?;
    Ok(equal)
}

/// What transformers loads beside a model's own weights, if PEFT is installed.
pub(crate) const ADAPTER_FILE: &str = "adapter_config.json";

/// Warns of weights that belong to the checkpoint by their place but not by its index.
fn stray_weights(source: &SourceCheckpoint) -> Result<Option<String>, Error> {
    let used: Vec<&str> = source.weights().files().iter().map(|file| file.name()).collect();
    let stray: Vec<String> = source
        .folder()
        .names()?
        .into_iter()
        .filter(|name| name.ends_with(".safetensors") || name == ADAPTER_FILE)
        .filter(|name| !used.contains(&name.as_str()))
        .map(|name| format!("`{}`", name.escape_debug()))
        .collect();
    Ok((!stray.is_empty()).then(|| format!("not part of the checkpoint, and not read: {}", stray.join(", "))))
}

fn pretty<T: serde::Serialize>(value: &T, name: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::io("write", Path::new(name))(error.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}
