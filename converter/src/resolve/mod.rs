//! From the source's configuration files to the one that describes the whole model.

mod code;
mod dtype;
mod fields;
mod findings;
mod image_processor;
mod rope;
mod text;
mod timm_options;
mod tower;
mod tower_models;

pub use findings::{DefaultedField, Findings, IgnoredField, ReadCode};

use std::path::Path;

use code::{CONFIGURATION_FILE, Code, Defaults, IMAGE_PROCESSING_FILE};
use fields::{Fields, show};
use findings::BOOKKEEPING;

use crate::Error;
use crate::normalized::{Config, FORMAT, FORMAT_VERSION, ImageTagType, Part, PsVersion, TorchDtype};
use crate::source::{
    Behaviour, Buffers, CONFIG_FILE, CodeCaches, Evidence, GENERATION_CONFIG_FILE, MODEL, PREPROCESSOR_FILE,
    SourceCheckpoint, image_token_id,
};

/// The source's configuration class.
const CLASS: &str = "Llama_Nemotron_Nano_VL_Config";
/// The text of the token that features replace.
const IMAGE_TOKEN: &str = "<image>";

/// Fields whose default the model's class keeps only where they are absent.
const NEVER_NULL: [(&str, &str); 5] = [
    ("downsample_ratio", "a number"),
    ("image_tag_type", "`internvl` or `nvlm`"),
    ("projector_hidden_size", "a whole number"),
    // Of anything but `v1` the public code makes `v2`.
    ("ps_version", "`v1` or `v2`"),
    ("vit_hidden_size", "a whole number"),
];

/// What the user said about behaviours that come from Python code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `--align-corners`.
    pub align_corners: Option<bool>,
    /// `--upscale-factor`.
    pub upscale_factor: Option<usize>,
    /// `--part`.
    pub part: Part,
    /// Where code of the repositories that the source refers to may lie.
    pub caches: CodeCaches,
    /// `--code-revision`: the only revision of these repositories that is read, where one is named.
    pub code_revision: Option<String>,
}

/// Resolves the configuration of `source`.
///
/// # Errors
/// [`Error::Unsupported`] for what this program can't compute, [`Error::Field`] for what contradicts itself.
pub fn resolve(
    source: &SourceCheckpoint,
    buffers: &Buffers,
    settings: Settings,
) -> Result<(Config, Findings), Error> {
    let path = source.folder().file_path(CONFIG_FILE);
    let json = source.json(CONFIG_FILE)?;
    let fields = Fields::root(&path, &json)?;
    let mut findings = Findings::default();
    for name in ["model_type", "architectures"] {
        fields.value(name);
    }
    for (name, expected) in NEVER_NULL {
        fields.refuse_null(name, expected)?;
    }
    fields.refuse("quantization_config", &[], "quantized weights are not supported")?;
    fields.refuse("select_layer", &[(-1).into()], "features of another layer are not supported")?;

    let torch_dtype = dtype::dtype(&fields, &["dtype", "torch_dtype"])?;
    let image_size = fields.size("force_image_size")?;
    let image_size = fields.required("force_image_size", "a size in pixels", image_size)?;
    let code = Code { source, caches: &settings.caches, revision: settings.code_revision.as_deref() };
    let defaults = code.defaults(&fields, CONFIGURATION_FILE, CLASS, &mut findings);
    let ps_version = ps_version(&fields, &defaults, source, &mut findings)?;
    let image_tag_type = image_tag_type(&fields, &defaults, &mut findings)?;
    let vision = fields.child("vision_config")?;
    let vision = fields.required("vision_config", "an object", vision)?;
    let preprocessor_path = source.folder().file_path(PREPROCESSOR_FILE);
    let preprocessor = source.json(PREPROCESSOR_FILE)?;
    let preprocessor = Fields::root(&preprocessor_path, &preprocessor)?;
    let align_corners = code.align_corners(&vision, settings.align_corners, &mut findings)?;
    let upscale_factor = code.upscale_factor(&preprocessor, settings.upscale_factor, &mut findings)?;
    let downsample_ratio = match fields.number("downsample_ratio")? {
        Some(ratio) => ratio,
        None => defaults.take("downsample_ratio", &fields, "downsample_ratio", 0.5, &mut findings),
    };
    let mut width = |name: &str, field: &str, assumed: usize| match fields.size(field)? {
        Some(width) => Ok::<_, Error>(width),
        None => Ok(defaults.take(name, &fields, field, assumed, &mut findings)),
    };
    let projector_hidden_size = width("projector_hidden_size", "projector_hidden_size", 4096)?;
    let vision_hidden_size = width("vision_hidden_size", "vit_hidden_size", 1280)?;

    let text = fields.child("llm_config")?;
    let text = fields.required("llm_config", "an object", text)?;
    let text_config = text::text_config(&text, torch_dtype, &mut findings)?;

    let config_sha256 = &source.needed(CONFIG_FILE)?.sha256;
    let context = tower::Context { image_size, config_sha256, buffers, align_corners };
    let vision_config = tower::vision_config(&vision, &context, &mut findings)?;
    if let Some(patch_size) = fields.size("patch_size")?
        && patch_size != vision_config.patch_size
    {
        let expected = format!("`{}`, the tower's", vision_config.patch_size);
        return Err(fields.wrong("patch_size", expected, format!("`{patch_size}`")));
    }

    let class = image_processor::CLASS;
    let of_class = code.defaults(&preprocessor, IMAGE_PROCESSING_FILE, class, &mut findings);
    let image_processor = image_processor::image_processor(
        &preprocessor,
        &of_class,
        image_size,
        upscale_factor,
        &mut findings,
    )?;
    let version = show_version(ps_version);
    let code_eps = code.check_steps(&fields, &vision, version, IMAGE_TOKEN, &mut findings)?;

    if fields.value("template").is_some() {
        findings.warnings.push(format!(
            "`{CONFIG_FILE}`: `template` was ignored: the prompt is made by the tokenizer's chat template"
        ));
        fields.unused("template");
    }
    generation_config(source, settings.part, &mut findings)?;
    findings.ignore_rest(CONFIG_FILE, &fields, BOOKKEEPING);

    let (image_start_token, image_end_token) = match image_tag_type {
        ImageTagType::Internvl => ("<img>", "</img>"),
        ImageTagType::Nvlm => ("<Image>", "</Image>"),
    };
    let mut config = Config {
        format: FORMAT.into(),
        format_version: FORMAT_VERSION,
        architectures: vec![MODEL.into()],
        model_type: MODEL.into(),
        text_config,
        vision_config,
        downsample_ratio,
        ps_version,
        projector_hidden_size,
        vision_hidden_size,
        // The default of torch's LayerNorm, which the projector is built with.
        projector_layer_norm_eps: code_eps.unwrap_or(1e-5),
        image_seq_length: 0,
        image_tag_type,
        image_token: IMAGE_TOKEN.into(),
        image_token_id: image_token_id(source, IMAGE_TOKEN)?,
        image_start_token: image_start_token.into(),
        image_end_token: image_end_token.into(),
        torch_dtype: torch_dtype.unwrap_or(TorchDtype::Float32),
        image_processor,
        part: settings.part,
    };
    config.image_seq_length = config.tokens_per_tile();
    config.validate(&path).map_err(|error| in_source_terms(error, &path, &preprocessor_path))?;
    named_by_architecture(&config, config_sha256, code_eps.is_some(), &mut findings);
    Ok((config, findings))
}

/// Lists the fields of `generation_config.json`: the public `chat` generates with what its caller says, and not by this file.
fn generation_config(source: &SourceCheckpoint, part: Part, findings: &mut Findings) -> Result<(), Error> {
    // A language model of its own is transformers' to run, and that reads the file.
    if source.file(GENERATION_CONFIG_FILE).is_none() || part == Part::Text {
        return Ok(());
    }
    let path = source.folder().file_path(GENERATION_CONFIG_FILE);
    let json = source.json(GENERATION_CONFIG_FILE)?;
    findings.ignore_all(GENERATION_CONFIG_FILE, &Fields::root(&path, &json)?);
    Ok(())
}

/// The names that the source has for fields of the normalized configuration.
const SOURCE_FIELDS: &[(&str, &str)] = &[
    ("text_config", "llm_config"),
    ("vision_hidden_size", "vit_hidden_size"),
    ("image_seq_length", "downsample_ratio"),
    ("vision_config.hidden_size", "vision_config.args.model_kwargs.embed_dim"),
    ("vision_config.num_hidden_layers", "vision_config.args.model_kwargs.depth"),
    ("vision_config.num_attention_heads", "vision_config.args.model_kwargs.num_heads"),
    ("vision_config.mlp_ratio", "vision_config.args.model_kwargs.mlp_ratio"),
    ("vision_config.patch_size", "vision_config.args.model_kwargs.patch_size"),
    ("vision_config.image_size", "force_image_size"),
    ("vision_config.max_img_size", "vision_config.args.cpe_max_size"),
    ("vision_config.num_cls_tokens", "vision_config.args.teachers"),
    ("vision_config.num_registers", "vision_config.args.register_multiple and cpe_num_registers"),
    ("vision_config.summary_idxs", "vision_config.args.teachers"),
];

/// A failure of the normalized rules, under the names that the source's author knows.
fn in_source_terms(error: Error, config: &Path, preprocessor: &Path) -> Error {
    match error {
        Error::Field { field, expected, found, .. } => match field.strip_prefix("image_processor.") {
            Some(field) => Error::field(preprocessor, field, expected, found),
            None => {
                let name = SOURCE_FIELDS.iter().find_map(|(normalized, source)| {
                    field.strip_prefix(normalized).map(|rest| format!("{source}{rest}"))
                });
                Error::field(config, name.unwrap_or(field), expected, found)
            }
        },
        other => other,
    }
}

fn ps_version(
    fields: &Fields<'_>,
    defaults: &Defaults,
    source: &SourceCheckpoint,
    findings: &mut Findings,
) -> Result<PsVersion, Error> {
    let version = match fields.text("ps_version")? {
        None => {
            let version = defaults.take("ps_version", fields, "ps_version", "v1".to_string(), findings);
            return Ok(if version == "v2" { PsVersion::V2 } else { PsVersion::V1 });
        }
        Some("v1") => PsVersion::V1,
        Some("v2") => PsVersion::V2,
        Some(_) => {
            return Err(fields.unsupported(
                "ps_version",
                "`v1` or `v2`",
                "another pixel shuffle is not supported",
            ));
        }
    };
    let sha256 = &source.needed(CONFIG_FILE)?.sha256;
    let evidence = Evidence::read(CONFIG_FILE, sha256, "field `ps_version`".into());
    findings.behaviour("ps_version", show_version(version), evidence);
    Ok(version)
}

fn show_version(version: PsVersion) -> &'static str {
    match version {
        PsVersion::V1 => "v1",
        PsVersion::V2 => "v2",
    }
}

fn image_tag_type(
    fields: &Fields<'_>,
    defaults: &Defaults,
    findings: &mut Findings,
) -> Result<ImageTagType, Error> {
    match fields.text("image_tag_type")? {
        None => {
            let assumed = "internvl".to_string();
            let kind = defaults.take("image_tag_type", fields, "image_tag_type", assumed, findings);
            Ok(if kind == "nvlm" { ImageTagType::Nvlm } else { ImageTagType::Internvl })
        }
        Some("internvl") => Ok(ImageTagType::Internvl),
        Some("nvlm") => Ok(ImageTagType::Nvlm),
        Some(other) => {
            let found = show(&other.into());
            Err(fields.wrong("image_tag_type", "`internvl` or `nvlm`", found))
        }
    }
}

/// Constants of the modeling code that `architectures` names.
fn named_by_architecture(config: &Config, config_sha256: &str, has_eps: bool, findings: &mut Findings) {
    let evidence = || Evidence::read(CONFIG_FILE, config_sha256, format!("`model_type` names `{MODEL}`"));
    if !has_eps {
        findings.behaviour("projector_layer_norm_eps", config.projector_layer_norm_eps, evidence());
    }
    findings.behaviour("image_token", config.image_token.as_str(), evidence());
    findings.behaviour("image_start_token", config.image_start_token.as_str(), evidence());
    findings.behaviour("image_end_token", config.image_end_token.as_str(), evidence());
}

impl Findings {
    /// Refuses what was only assumed.
    ///
    /// # Errors
    /// [`Error::Assumed`] with every behaviour that nothing settles.
    pub fn refuse_assumptions(&self) -> Result<(), Error> {
        let assumed: Vec<_> = self
            .behaviours
            .iter()
            .filter_map(|Behaviour { name, value, evidence }| match evidence {
                Evidence::Assumed { settled_by, .. } => {
                    Some((name.clone(), value.to_string(), settled_by.clone()))
                }
                _ => None,
            })
            .collect();
        if assumed.is_empty() { Ok(()) } else { Err(Error::Assumed { behaviours: assumed }) }
    }
}
