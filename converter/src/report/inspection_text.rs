//! `inspect` for people.

use std::fmt::{self, Display};

use cli::escape::terminal;

use super::{Inspection, counted, grouped};
use crate::normalized::{Config, ImageTagType, PsVersion, RopeScaling, TextConfig, VisionConfig};
use crate::plan::human_bytes;
use crate::source::Evidence;

impl Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.model(f)?;
        self.tensors(f)?;
        self.behaviours(f)?;
        self.rest(f)
    }
}

/// Width of the words at the left.
const LABEL: usize = 15;

fn line(f: &mut fmt::Formatter<'_>, label: &str, text: impl Display) -> fmt::Result {
    writeln!(f, "{label:LABEL$} {}", terminal(&text.to_string()))
}

impl Inspection {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "checkpoint", &self.name)?;
        if let Some(repository) = &self.repository {
            let revision = self.revision.as_deref().unwrap_or("an unknown revision");
            line(f, "repository", format_args!("{repository} at {revision}"))?;
        }
        line(f, "model", &self.config.model_type)?;
        let tensors = self.parts.iter().map(|part| part.tensors).sum();
        let (parameters, bytes) = (grouped(self.parameters), human_bytes(self.bytes));
        line(f, "weights", format_args!("{parameters} parameters, {}, {bytes}", counted(tensors, "tensor")))?;
        writeln!(f)
    }

    fn model(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tower(f, &self.config.vision_config)?;
        projector(f, &self.config)?;
        language_model(f, &self.config.text_config)?;
        pictures(f, &self.config)?;
        prompt(f, &self.config)?;
        writeln!(f)
    }

    fn tensors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:24} {:>8} {:>16} {:>10}  dtype", "tensors", "count", "parameters", "size")?;
        for part in &self.parts {
            let dtypes: Vec<String> = match part.dtypes.len() {
                1 => part.dtypes.keys().cloned().collect(),
                _ => part.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect(),
            };
            writeln!(
                f,
                "  {:22} {:>8} {:>16} {:>10}  {}",
                part.name,
                part.tensors,
                grouped(part.parameters),
                human_bytes(part.bytes),
                dtypes.join(", ")
            )?;
        }
        let actions: Vec<String> =
            self.actions.iter().map(|(action, count)| format!("{count} {action}")).collect();
        writeln!(f, "  of the source's tensors: {}", actions.join(", "))?;
        writeln!(f)?;
        writeln!(f, "{:40} {:>8} {:>10}", "files", "tensors", "size")?;
        for file in &self.files {
            writeln!(f, "  {:38} {:>8} {:>10}", terminal(&file.name), file.tensors, human_bytes(file.bytes))?;
        }
        if !self.buffers.is_empty() {
            writeln!(f)?;
            writeln!(f, "not weights")?;
            for buffer in &self.buffers {
                let use_of = match (&buffer.field, &buffer.value) {
                    (Some(field), Some(value)) => format!("{field} = {value}"),
                    _ => "not needed".to_string(),
                };
                let text = format!("{} {} {:?}: {use_of}", buffer.name, buffer.dtype, buffer.shape);
                writeln!(f, "  {}", terminal(&text))?;
            }
        }
        writeln!(f)
    }

    fn behaviours(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "behaviours that come from Python code")?;
        for behaviour in &self.behaviours {
            let evidence = match &behaviour.evidence {
                Evidence::SourceFile { file, detail, line, repository, .. } => {
                    let repository = repository.iter().map(|repository| format!("{repository}, "));
                    let line = line.iter().map(|line| format!("line {line}: "));
                    format!(
                        "{}`{file}`, {}{detail}",
                        repository.collect::<String>(),
                        line.collect::<String>()
                    )
                }
                Evidence::CommandLine { flag } => format!("given as `{flag}`"),
                Evidence::Assumed { reason, settled_by } => {
                    format!("assumed, since {reason}; {settled_by} settles it")
                }
            };
            let text = format!("{} = {}: {evidence}", behaviour.name, behaviour.value);
            writeln!(f, "  {}", terminal(&text))?;
        }
        Ok(())
    }

    fn rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.defaults.is_empty() {
            writeln!(f)?;
            writeln!(f, "defaults made explicit")?;
            for default in &self.defaults {
                let text = format!("{} = {} ({})", default.field, default.value, default.default_of);
                writeln!(f, "  {}", terminal(&text))?;
            }
        }
        let known = self.ignored_fields.iter().filter(|field| field.known).count();
        if known > 0 {
            writeln!(f)?;
            writeln!(f, "{} of the source without influence on inference", counted(known, "field"))?;
        }
        if !self.warnings.is_empty() {
            writeln!(f)?;
            writeln!(f, "warnings")?;
            for warning in &self.warnings {
                writeln!(f, "  {}", terminal(warning))?;
            }
        }
        Ok(())
    }
}

/// The tower's sizes, its table of positions and what its blocks end with: what an engine has to build.
fn tower(f: &mut fmt::Formatter<'_>, tower: &VisionConfig) -> fmt::Result {
    line(
        f,
        "tower",
        format_args!(
            "C-RADIO, {} blocks, width {}, {} heads, MLP {}, {}",
            tower.num_hidden_layers,
            tower.hidden_size,
            tower.num_attention_heads,
            tower.intermediate_size(),
            tower.dtype
        ),
    )?;
    let side = tower.max_img_size / tower.patch_size;
    line(
        f,
        "",
        format_args!(
            "patches of {} pixels, positions {side} x {side}, {} class tokens and {} registers",
            tower.patch_size, tower.num_cls_tokens, tower.num_registers
        ),
    )?;
    line(
        f,
        "",
        format_args!(
            "{}, {}",
            if tower.model_norm { "a final norm" } else { "no final norm" },
            if tower.layerscale_value.is_some() { "LayerScale" } else { "no LayerScale" }
        ),
    )
}

/// How features of the tower become those of the language model: the shuffle and the three widths.
fn projector(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    line(
        f,
        "projector",
        format_args!(
            "pixel shuffle {} by {}, then {} to {} to {}",
            match config.ps_version {
                PsVersion::V1 => "v1",
                PsVersion::V2 => "v2",
            },
            config.shuffle_factor(),
            config.projector_input_size(),
            config.projector_hidden_size,
            config.text_config.hidden_size
        ),
    )
}

/// The language model's sizes and its rotary embedding, which is scaled by one of several rules or by none.
fn language_model(f: &mut fmt::Formatter<'_>, text: &TextConfig) -> fmt::Result {
    line(
        f,
        "language model",
        format_args!(
            "Llama, {} layers, width {}, {} query and {} key-value heads of {}, MLP {}",
            text.num_hidden_layers,
            text.hidden_size,
            text.num_attention_heads,
            text.num_key_value_heads,
            text.head_dim,
            text.intermediate_size
        ),
    )?;
    let scaling = match &text.rope_scaling {
        None => "not scaled".to_string(),
        Some(RopeScaling::Linear { factor }) => format!("linear scaling by {factor}"),
        Some(RopeScaling::Dynamic { factor, .. }) => format!("dynamic scaling by {factor}"),
        Some(RopeScaling::Llama3 { factor, .. }) => format!("llama3 scaling by {factor}"),
        Some(RopeScaling::Yarn { factor, .. }) => format!("yarn scaling by {factor}"),
    };
    line(
        f,
        "",
        format_args!(
            "vocabulary {}, {} positions, rotary base {}, {scaling}, {} embeddings, {}",
            text.vocab_size,
            text.max_position_embeddings,
            text.rope_theta,
            if text.tie_word_embeddings { "tied" } else { "untied" },
            text.torch_dtype
        ),
    )
}

/// What is done to a picture before the tower, and how many tokens each tile of it costs.
fn pictures(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    let pictures = &config.image_processor;
    line(
        f,
        "pictures",
        format_args!(
            "enlarged by {}, up to {} tiles of {} x {} pixels{}, {} tokens a tile",
            pictures.upscale_factor,
            pictures.max_num_tiles,
            pictures.image_size,
            pictures.image_size,
            if pictures.use_thumbnail { " and a thumbnail" } else { "" },
            config.image_seq_length
        ),
    )
}

/// How a picture is written in a prompt, so that a prompt made by hand has the same tokens.
fn prompt(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    let tile_tags = match config.image_tag_type {
        ImageTagType::Internvl => "",
        ImageTagType::Nvlm => ", with a tag before each tile",
    };
    line(
        f,
        "prompt",
        format_args!(
            "{}{}…{} (token {}){tile_tags}",
            config.image_start_token, config.image_token, config.image_end_token, config.image_token_id
        ),
    )
}
