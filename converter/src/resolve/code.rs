//! What the Python that goes with a checkpoint says, and what is done where it says nothing.

use std::fmt::Display;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::fields::Fields;
use super::findings::Findings;
use crate::Error;
use crate::nemotron_vl::recognise;
use crate::python::{self, ClassDefaults, Judgement};
use crate::source::{CodeCaches, CodeFile, Evidence, How, SourceCheckpoint};

/// The file of RADIO that resizes the position table.
const PATCH_GENERATOR_FILE: &str = "vit_patch_generator.py";
const CONDITIONER_FILE: &str = "input_conditioner.py";
const MODELING_FILE: &str = "modeling.py";
pub(super) const CONFIGURATION_FILE: &str = "configuration.py";
pub(super) const IMAGE_PROCESSING_FILE: &str = "image_processing.py";

/// Where code is looked for.
pub(super) struct Code<'a> {
    pub(super) source: &'a SourceCheckpoint,
    pub(super) caches: &'a CodeCaches,
    /// The only revision of other repositories that is read, where one is named.
    pub(super) revision: Option<&'a str>,
}

/// A behaviour that code decides, or the user.
pub(super) struct Question<T> {
    /// Its name.
    pub(super) name: &'static str,
    /// What the user said.
    pub(super) said: Option<T>,
    /// The user's flag.
    pub(super) flag: &'static str,
    /// What holds where nothing says it.
    pub(super) assumed: T,
    /// Why that.
    pub(super) reason: &'static str,
}

impl Code<'_> {
    /// The file `name`: in the checkpoint's folder, or in the cache of a repository that `auto_map` of `fields` names.
    pub(super) fn find(&self, fields: &Fields<'_>, name: &str, findings: &mut Findings) -> Option<CodeFile> {
        if let Some(file) = CodeFile::in_folder(self.source.files(), name) {
            return Some(file);
        }
        for repository in repositories(fields) {
            let found = match self.revision {
                Some(revision) => self.caches.find_at(&repository, revision, name),
                None => self.caches.find(&repository, name),
            };
            match found {
                Ok(None) => {}
                Ok(Some(file)) => {
                    findings.read_code(&file);
                    return Some(file);
                }
                Err(reason) => {
                    findings.warnings.push(format!("`{name}` of `{repository}` was not read: {reason}"));
                }
            }
        }
        None
    }

    /// The path to name in messages.
    fn path(&self, file: &CodeFile) -> std::path::PathBuf {
        match &file.origin {
            None => self.source.folder().file_path(&file.name),
            Some((repository, revision)) => Path::new(&format!("{repository}@{revision}")).join(&file.name),
        }
    }

    /// How the position table is resized: by the code that does it, recognised or parsed; else the command line; else by
    /// the date of release.
    pub(super) fn align_corners(
        &self,
        vision: &Fields<'_>,
        said: Option<bool>,
        findings: &mut Findings,
    ) -> Result<bool, Error> {
        let file = self.find(vision, PATCH_GENERATOR_FILE, findings);
        let question = Question {
            name: "position_interpolation_align_corners",
            said,
            flag: "--align-corners",
            assumed: true,
            reason: "the 8B was released before 2025-06-28, when RADIO's code changed from true to false \
                     (NVlabs/RADIO cb07f55)",
        };
        if let Some(file) = &file
            && let Some((value, detail)) = recognise(file)
        {
            let evidence = Evidence::of_code(file, How::Recognised, None, detail);
            return self.settled(&question, file, value, evidence, findings);
        }
        self.ask(question, file.as_ref(), |file| python::align_corners(&file.bytes), findings)
    }

    /// By how much a picture is enlarged first.
    pub(super) fn upscale_factor(
        &self,
        preprocessor: &Fields<'_>,
        said: Option<usize>,
        findings: &mut Findings,
    ) -> Result<usize, Error> {
        let file = self.find(preprocessor, IMAGE_PROCESSING_FILE, findings);
        let question = Question {
            name: "upscale_factor",
            said,
            flag: "--upscale-factor",
            assumed: 2,
            reason: "the released `image_processing.py` doubles a picture before it chooses tiles",
        };
        self.ask(question, file.as_ref(), |file| python::upscale_factor(&file.bytes), findings)
    }

    fn ask<T: Clone + PartialEq + Display + Into<Value>>(
        &self,
        question: Question<T>,
        file: Option<&CodeFile>,
        judge: impl FnOnce(&CodeFile) -> Judgement<T>,
        findings: &mut Findings,
    ) -> Result<T, Error> {
        let mut reason = question.reason.to_string();
        if let Some(file) = file
            && let Some((value, evidence)) = self.judged(question.name, file, judge(file), findings)?
        {
            return self.settled(&question, file, value, evidence, findings);
        }
        if let Some(file) = file {
            reason.push_str(&format!("; `{}` could not be followed", file.name));
        }
        let (value, evidence) = match question.said {
            Some(value) => {
                let flag = format!("{} {value}", question.flag);
                (value, Evidence::CommandLine { flag })
            }
            None => {
                let settled_by = format!("`{}`", question.flag);
                (question.assumed, Evidence::Assumed { reason, settled_by })
            }
        };
        findings.behaviour(question.name, value.clone(), evidence);
        Ok(value)
    }

    /// Records what code says, unless the user said something else.
    fn settled<T: Clone + PartialEq + Display + Into<Value>>(
        &self,
        question: &Question<T>,
        file: &CodeFile,
        value: T,
        evidence: Evidence,
        findings: &mut Findings,
    ) -> Result<T, Error> {
        if let Some(said) = &question.said
            && *said != value
        {
            let Evidence::SourceFile { line, detail, .. } = &evidence else { return Ok(value) };
            let place = line.map_or(String::new(), |line| format!("line {line}, "));
            return Err(Error::Contradicted {
                path: self.path(file),
                behaviour: question.name,
                expected: format!("`{said}`, as `{} {said}` says", question.flag),
                found: format!("`{value}`: {place}{detail}"),
            });
        }
        findings.behaviour(question.name, value.clone(), evidence);
        Ok(value)
    }

    /// What code says of a behaviour, as evidence; a warning where it can't be followed.
    fn judged<T>(
        &self,
        name: &str,
        file: &CodeFile,
        judgement: Judgement<T>,
        findings: &mut Findings,
    ) -> Result<Option<(T, Evidence)>, Error> {
        match judgement {
            Judgement::Found { value, line, detail } => {
                Ok(Some((value, Evidence::of_code(file, How::Parsed, Some(line), detail))))
            }
            Judgement::Unsupported { line, expected, found } => {
                let reason = format!("`{name}` would be another");
                Err(Error::unsupported(&self.path(file), format!("line {line}"), expected, found, reason))
            }
            Judgement::Unknown { line, reason } => {
                let place = line.map_or(String::new(), |line| format!("line {line}: "));
                findings
                    .warnings
                    .push(format!("`{}`: {place}`{name}` cannot be determined: {reason}", file.name));
                Ok(None)
            }
        }
    }

    /// Steps that this program computes in one way only: where their code is there, it must say the same.
    ///
    /// Gives the epsilon of the projector's LayerNorm, if code says it.
    pub(super) fn check_steps(
        &self,
        fields: &Fields<'_>,
        vision: &Fields<'_>,
        ps_version: &str,
        image_token: &str,
        findings: &mut Findings,
    ) -> Result<Option<f64>, Error> {
        if let Some(file) = self.find(vision, CONDITIONER_FILE, findings) {
            let judgement = python::conditioner(&file.bytes);
            if let Some(((), evidence)) = self.judged("input_conditioner", &file, judgement, findings)? {
                findings.behaviour("input_conditioner", "(pixels - norm_mean) / norm_std", evidence);
            }
        }
        let Some(file) = self.find(fields, MODELING_FILE, findings) else { return Ok(None) };
        let modeling = python::modeling(&file.bytes, ps_version);
        if let Some((swaps, evidence)) = self.judged("pixel_shuffle", &file, modeling.swaps, findings)? {
            let expected = if ps_version == "v1" { 1 } else { 2 };
            self.must_be("pixel_shuffle", &file, &expected, &swaps)?;
            let order = if swaps == 1 {
                "rows and columns stay swapped"
            } else {
                "rows and columns are swapped back"
            };
            findings.behaviour("pixel_shuffle", order, evidence);
        }
        if let Some((dtype, evidence)) =
            self.judged("features_dtype", &file, modeling.features_dtype, findings)?
        {
            findings.behaviour("features_dtype", dtype, evidence);
        }
        if let Some((token, _)) = self.judged("image_token", &file, modeling.image_token, findings)? {
            self.must_be("image_token", &file, &image_token.to_string(), &token)?;
        }
        let eps = self.judged("projector_layer_norm_eps", &file, modeling.layer_norm_eps, findings)?;
        Ok(eps.map(|(value, evidence)| {
            findings.behaviour("projector_layer_norm_eps", value, evidence);
            value
        }))
    }

    fn must_be<T: PartialEq + Display>(
        &self,
        behaviour: &'static str,
        file: &CodeFile,
        expected: &T,
        found: &T,
    ) -> Result<(), Error> {
        if expected == found {
            return Ok(());
        }
        Err(Error::Contradicted {
            path: self.path(file),
            behaviour,
            expected: format!("`{expected}`, as in the released model"),
            found: format!("`{found}`"),
        })
    }

    /// The defaults of the class `class` in the file `name`.
    pub(super) fn defaults(
        &self,
        fields: &Fields<'_>,
        name: &str,
        class: &'static str,
        findings: &mut Findings,
    ) -> Defaults {
        let code = self.find(fields, name, findings).and_then(|file| {
            match python::class_defaults(&file.bytes, class) {
                Ok(defaults) => Some((file, defaults)),
                Err(reason) => {
                    findings.warnings.push(format!("`{name}`: its defaults cannot be determined: {reason}"));
                    None
                }
            }
        });
        Defaults { class, code }
    }
}

/// What the model's own Python class gives where the source's field is absent.
pub(super) struct Defaults {
    class: &'static str,
    code: Option<(CodeFile, ClassDefaults)>,
}

impl Defaults {
    /// The default of `field`, recorded as the behaviour `name`: as the code has it, or else `assumed`.
    pub(super) fn take<T: Clone + Into<Value> + DeserializeOwned>(
        &self,
        name: &str,
        fields: &Fields<'_>,
        field: &str,
        assumed: T,
        findings: &mut Findings,
    ) -> T {
        if let Some((file, defaults)) = &self.code
            && let Some((constant, line)) = defaults.get(field)
            && let Ok(value) = serde_json::from_value::<T>(constant.to_json())
        {
            let detail = format!("default of `{field}` in `{}`", self.class);
            let evidence = Evidence::of_code(file, How::Parsed, Some(line), detail);
            findings.behaviour(name, value.clone(), evidence);
            return value;
        }
        findings.assumed_default(name, &fields.name(field), assumed.clone(), self.class);
        assumed
    }
}

/// The repositories of `auto_map`, in `owner/name--module.Class`.
fn repositories(fields: &Fields<'_>) -> Vec<String> {
    let classes = fields.value("auto_map").and_then(Value::as_object);
    let mut repositories: Vec<String> = classes
        .into_iter()
        .flat_map(|classes| classes.values())
        .flat_map(|class| match class {
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().into_iter().collect::<Vec<_>>(),
        })
        .filter_map(|class| class.split_once("--").map(|(repository, _)| repository.to_string()))
        .filter(|repository| is_repository(repository))
        .collect();
    repositories.sort();
    repositories.dedup();
    if repositories.is_empty() {
        fields.unused("auto_map");
    }
    repositories
}

/// `owner/name`, and nothing that could lead out of a cache.
fn is_repository(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    text.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name))
}
