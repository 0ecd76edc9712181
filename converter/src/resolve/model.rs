//! Fields of `config.json` that belong to neither the tower nor the language model.

use super::code::Defaults;
use super::fields::{Fields, show};
use super::findings::Findings;
use crate::Error;
use crate::normalized::{ImageTagType, PsVersion};
use crate::source::{CONFIG_FILE, Evidence, SourceCheckpoint};

/// Fields whose default the model's class keeps only where they are absent.
const NEVER_NULL: [(&str, &str); 5] = [
    ("downsample_ratio", "a number"),
    ("image_tag_type", "`internvl` or `nvlm`"),
    ("projector_hidden_size", "a whole number"),
    // Of anything but `v1` the public code makes `v2`.
    ("ps_version", "`v1` or `v2`"),
    ("vit_hidden_size", "a whole number"),
];

/// Refuses what the whole model can't have, and a `null` that the model's class would not take for an absent field.
pub(super) fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), Error> {
    // Checked when the source was opened; asked for here so that they are not listed as ignored.
    for name in ["model_type", "architectures"] {
        fields.value(name);
    }
    for (name, expected) in NEVER_NULL {
        fields.refuse_null(name, expected)?;
    }
    fields.refuse("quantization_config", &[], "quantized weights are not supported")?;
    fields.refuse("select_layer", &[(-1).into()], "features of another layer are not supported")
}

/// What leads from the tower's features to the language model's.
pub(super) struct Projector {
    /// By how much the pixel shuffle shrinks each side of the grid of features.
    pub(super) downsample_ratio: f64,
    /// Width of the projector's inner layer.
    pub(super) hidden_size: usize,
    /// Width of the tower's features.
    pub(super) vision_hidden_size: usize,
}

impl Projector {
    /// Resolves the projector's numbers: as written, or the defaults of the model's class.
    pub(super) fn resolve(
        fields: &Fields<'_>,
        defaults: &Defaults,
        findings: &mut Findings,
    ) -> Result<Self, Error> {
        let downsample_ratio = match fields.number("downsample_ratio")? {
            Some(ratio) => ratio,
            None => defaults.take("downsample_ratio", fields, "downsample_ratio", 0.5, findings),
        };
        let mut width = |name: &str, field: &str, assumed: usize| match fields.size(field)? {
            Some(width) => Ok::<_, Error>(width),
            None => Ok(defaults.take(name, fields, field, assumed, findings)),
        };
        let hidden_size = width("projector_hidden_size", "projector_hidden_size", 4096)?;
        let vision_hidden_size = width("vision_hidden_size", "vit_hidden_size", 1280)?;
        Ok(Self { downsample_ratio, hidden_size, vision_hidden_size })
    }
}

/// The version of the pixel shuffle, which no tensor shows: as written, or the default of the model's class.
pub(super) fn ps_version(
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

/// The version as the source writes it.
pub(super) fn show_version(version: PsVersion) -> &'static str {
    match version {
        PsVersion::V1 => "v1",
        PsVersion::V2 => "v2",
    }
}

/// How tiles are marked in a prompt: as written, or the default of the model's class.
pub(super) fn image_tag_type(
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

/// The texts that a picture stands between in a prompt.
pub(super) fn image_tags(kind: ImageTagType) -> (&'static str, &'static str) {
    match kind {
        ImageTagType::Internvl => ("<img>", "</img>"),
        ImageTagType::Nvlm => ("<Image>", "</Image>"),
    }
}

/// Warns of a `template`, which nothing here reads: whoever changed it expects another prompt.
pub(super) fn warn_of_template(fields: &Fields<'_>, findings: &mut Findings) {
    if fields.value("template").is_some() {
        findings.warnings.push(format!(
            "`{CONFIG_FILE}`: `template` was ignored: the prompt is made by the tokenizer's chat template"
        ));
        fields.unused("template");
    }
}
