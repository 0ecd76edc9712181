//! From the source's configuration files to the one that describes the whole model.

mod code;
mod dtype;
mod fields;
mod findings;
mod image_processor;
mod model;
mod rope;
mod source_terms;
mod text;
mod timm_options;
mod tower;
mod tower_models;

pub use findings::{DefaultedField, Findings, IgnoredField, ReadCode};

use code::{CONFIGURATION_FILE, Code};
use fields::Fields;
use findings::BOOKKEEPING;
use model::Projector;

use crate::Error;
use crate::architecture::Part;
use crate::nemotron_vl::{Buffers, Config, FORMAT, FORMAT_VERSION, MODEL};
use crate::normalized::TorchDtype;
use crate::source::{
    Behaviour, CONFIG_FILE, CodeCaches, Evidence, GENERATION_CONFIG_FILE, PREPROCESSOR_FILE,
    SourceCheckpoint, image_token_id,
};

/// The source's configuration class.
const CLASS: &str = "Llama_Nemotron_Nano_VL_Config";
/// The text of the token that features replace.
const IMAGE_TOKEN: &str = "<image>";

/// What the user said about behaviours that come from Python code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `--align-corners`.
    pub align_corners: Option<bool>,
    /// `--upscale-factor`.
    pub upscale_factor: Option<usize>,
    /// Where code of the repositories that the source refers to may lie.
    pub caches: CodeCaches,
    /// `--code-revision`: the only revision of these repositories that is read, where one is named.
    pub code_revision: Option<String>,
}

/// Resolves the configuration of `source`, of which `part` is asked for.
///
/// # Errors
/// [`Error::Unsupported`] for what this program can't compute, [`Error::Field`] for what contradicts itself.
pub fn resolve(
    source: &SourceCheckpoint,
    buffers: &Buffers,
    settings: Settings,
    part: Part,
) -> Result<(Config, Findings), Error> {
    let path = source.folder().file_path(CONFIG_FILE);
    let json = source.json(CONFIG_FILE)?;
    let fields = Fields::root(&path, &json)?;
    let mut findings = Findings::default();
    model::refuse_unsupported(&fields)?;

    let torch_dtype = dtype::dtype(&fields, &["dtype", "torch_dtype"])?;
    let image_size = fields.size("force_image_size")?;
    let image_size = fields.required("force_image_size", "a size in pixels", image_size)?;
    let code = Code { source, caches: &settings.caches, revision: settings.code_revision.as_deref() };
    let defaults = code.defaults(&fields, CONFIGURATION_FILE, CLASS, &mut findings);
    let ps_version = model::ps_version(&fields, &defaults, source, &mut findings)?;
    let image_tag_type = model::image_tag_type(&fields, &defaults, &mut findings)?;
    let vision = fields.required_child("vision_config", "an object")?;
    let preprocessor_path = source.folder().file_path(PREPROCESSOR_FILE);
    let preprocessor = source.json(PREPROCESSOR_FILE)?;
    let preprocessor = Fields::root(&preprocessor_path, &preprocessor)?;
    let align_corners = code.align_corners(&vision, settings.align_corners, &mut findings)?;
    let upscale_factor = code.upscale_factor(&preprocessor, settings.upscale_factor, &mut findings)?;
    let projector = Projector::resolve(&fields, &defaults, &mut findings)?;

    let text = fields.required_child("llm_config", "an object")?;
    let text_config = text::text_config(&text, torch_dtype, &mut findings)?;

    let config_sha256 = &source.needed(CONFIG_FILE)?.sha256;
    let context = tower::Context { image_size, config_sha256, buffers, align_corners };
    let vision_config = tower::vision_config(&vision, &context, &mut findings)?;
    fields.refuse_other_size("patch_size", vision_config.patch_size, "the tower's")?;

    let image_processor =
        image_processor::image_processor(&preprocessor, &code, image_size, upscale_factor, &mut findings)?;
    let version = model::show_version(ps_version);
    let code_eps = code.check_steps(&fields, &vision, version, IMAGE_TOKEN, &mut findings)?;

    model::warn_of_template(&fields, &mut findings);
    generation_config(source, part, &mut findings)?;
    findings.ignore_rest(CONFIG_FILE, &fields, BOOKKEEPING);

    let (image_start_token, image_end_token) = model::image_tags(image_tag_type);
    let mut config = Config {
        format: FORMAT.into(),
        format_version: FORMAT_VERSION,
        architectures: vec![MODEL.into()],
        model_type: MODEL.into(),
        text_config,
        vision_config,
        downsample_ratio: projector.downsample_ratio,
        ps_version,
        projector_hidden_size: projector.hidden_size,
        vision_hidden_size: projector.vision_hidden_size,
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
    };
    config.image_seq_length = config.tokens_per_tile();
    config
        .validate(&path)
        .map_err(|error| source_terms::in_source_terms(error, &path, &preprocessor_path))?;
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
