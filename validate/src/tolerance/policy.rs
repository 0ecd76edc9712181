//! Which tolerance an entry has: defaults by dtype, and rules by site from a policy file.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use golden::{Dtype, Entry, Role};
use serde::Deserialize;
use store::Content;

use super::globs::{Globs, Matcher};
use super::{Bounds, Metric, Tolerance};
use crate::error::of_toml;
use crate::{Error, Result};

/// The version of policy files that this library reads.
const VERSION: u64 = 1;

/// The most bytes of a file: a policy that `nvl-validate calibrate` writes has about a hundred a rule.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Tolerances for every entry of a dump.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The file it came from; `None` for the built-in one.
    pub path: Option<PathBuf>,
    defaults: BTreeMap<Dtype, Bounds>,
    rules: Vec<Rule>,
    matcher: Matcher,
    /// What all entries are held to before any rule.
    pub preset: Option<Preset>,
    /// What becomes of entries that only one side has.
    pub unpaired: Unpaired,
    /// What becomes of errors that a module made.
    pub fresh: Fresh,
    /// What is compared of prompt and answer.
    pub answer: AnswerPolicy,
}

/// A policy with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// Every bit.
    Exact,
    /// The limits of float32, whatever the dtype.
    Float32,
    /// The limits of bfloat16, whatever the dtype: for an engine that records more than it computes with.
    Bfloat16,
}

impl Preset {
    /// The names of all presets.
    pub const NAMES: [&'static str; 3] = ["exact", "float32", "bfloat16"];

    /// The preset of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Preset::Exact, Preset::Float32, Preset::Bfloat16].into_iter().find(|preset| preset.name() == name)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Exact => "exact",
            Preset::Float32 => "float32",
            Preset::Bfloat16 => "bfloat16",
        }
    }

    /// The dtype whose limits all entries have.
    pub(crate) fn dtype(self) -> Option<Dtype> {
        match self {
            Preset::Exact => None,
            Preset::Float32 => Some(Dtype::Float32),
            Preset::Bfloat16 => Some(Dtype::BFloat16),
        }
    }
}

/// What becomes of an entry within its limits whose error neither rounding nor its inputs explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fresh {
    /// It is not a pass.
    #[default]
    Fail,
    /// It is a pass, and listed.
    Report,
}

/// A rule for the sites that its globs match; later rules override earlier ones, limit by limit.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The globs, as they were written.
    pub sites: Vec<String>,
    role: Option<Role>,
    dtype: Option<Dtype>,
    bounds: Bounds,
    exact: bool,
    ignore: bool,
    optional: bool,
    reason: String,
}

/// What becomes of an entry that only one side has, if no rule says that it is optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unpaired {
    /// It is not a pass.
    #[default]
    Fail,
    /// It is listed and not judged: the candidate recorded chosen sites only.
    Ignore,
}

/// Which of prompt and answer are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnswerPolicy {
    /// The prompt's text.
    pub prompt: bool,
    /// The generated token ids.
    pub generated_ids: bool,
    /// The answer's text.
    pub text: bool,
}

impl Default for AnswerPolicy {
    fn default() -> Self {
        AnswerPolicy { prompt: true, generated_ids: true, text: true }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    version: u64,
    preset: Option<Preset>,
    #[serde(default)]
    unpaired: Unpaired,
    #[serde(default)]
    fresh: Fresh,
    #[serde(default)]
    answer: AnswerPolicy,
    #[serde(default)]
    defaults: BTreeMap<Dtype, BoundsFile>,
    #[serde(default)]
    rules: Vec<RuleFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BoundsFile {
    relative_l2: Option<f64>,
    row_relative_l2: Option<f64>,
    max_abs: Option<f64>,
    max_ulps: Option<u64>,
    cosine: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    sites: Vec<String>,
    role: Option<Role>,
    dtype: Option<Dtype>,
    relative_l2: Option<f64>,
    row_relative_l2: Option<f64>,
    max_abs: Option<f64>,
    max_ulps: Option<u64>,
    cosine: Option<f64>,
    #[serde(default)]
    exact: bool,
    #[serde(default)]
    ignore: bool,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    reason: String,
}

impl Default for Policy {
    /// The built-in tolerances; `docs/tolerances.md` says where they come from.
    fn default() -> Self {
        let bounds = |relative_l2: f64| {
            Bounds::default().overridden_by(Bounds { relative_l2: Some(relative_l2), ..Bounds::default() })
        };
        let defaults = [
            (Dtype::Float64, bounds(1e-10)),
            (Dtype::Float32, bounds(1e-5)),
            (Dtype::Float16, bounds(4e-3)),
            (Dtype::BFloat16, bounds(2e-2)),
            (Dtype::Float8E4M3Fn, bounds(1.5e-1)),
            (Dtype::Float8E5M2, bounds(3e-1)),
        ];
        Policy {
            path: None,
            defaults: defaults.into(),
            rules: Vec::new(),
            matcher: Matcher::default(),
            preset: None,
            unpaired: Unpaired::default(),
            fresh: Fresh::default(),
            answer: AnswerPolicy::default(),
        }
    }
}

impl Policy {
    /// Reads a policy file, whose defaults and rules come on top of the built-in ones.
    ///
    /// # Errors
    ///
    /// [`Error::ReadPolicy`], [`Error::Content`], [`Error::Policy`] or [`Error::PolicyGlob`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = store::read_to_string(path, MAX_FILE_BYTES)
            .map_err(|source| Error::ReadPolicy { path: path.to_owned(), source })?;
        let mut policy = Policy::parse(path, &text)?;
        policy.path = Some(path.to_owned());
        Ok(policy)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let invalid = |message: String| Error::Policy { path: path.to_owned(), message };
        let file: PolicyFile =
            toml::from_str(text).map_err(|error| match Content::stand_in(text.as_bytes()) {
                Some(content) => {
                    Error::Content { path: path.to_owned(), expected: "a policy in TOML", content }
                }
                None => invalid(of_toml(text, &error)),
            })?;
        if file.version != VERSION {
            return Err(invalid(format!("field `version`: expected {VERSION}, found {}", file.version)));
        }
        let PolicyFile { preset, unpaired, fresh, answer, .. } = file;
        let mut policy = Policy { preset, unpaired, fresh, answer, ..Policy::default() };
        for (dtype, bounds) in file.defaults {
            let place = format!("defaults.{dtype}");
            let bounds = bounds.check().map_err(|problem| invalid(format!("field `{place}.{problem}")))?;
            if !dtype.is_float() {
                return Err(invalid(format!(
                    "field `{place}`: expected a floating-point dtype, because others are compared exactly, found `{dtype}`"
                )));
            }
            let built_in = policy.defaults.get(&dtype).copied().unwrap_or_default();
            policy.defaults.insert(dtype, built_in.overridden_by(bounds));
        }
        let mut globs = Globs::new();
        for (index, rule) in file.rules.into_iter().enumerate() {
            let bounds =
                rule.bounds().map_err(|problem| invalid(format!("field `rules[{index}].{problem}")))?;
            globs.add(index, &rule.sites).map_err(|(glob, source)| Error::PolicyGlob {
                path: path.to_owned(),
                rule: index,
                glob,
                source: Box::new(source),
            })?;
            policy.rules.push(Rule {
                sites: rule.sites,
                role: rule.role,
                dtype: rule.dtype,
                bounds,
                exact: rule.exact,
                ignore: rule.ignore,
                optional: rule.optional,
                reason: rule.reason,
            });
        }
        policy.matcher = globs.build().map_err(|error| invalid(format!("field `rules`: {error}")))?;
        Ok(policy)
    }

    /// What an entry of the golden dump is held to, if the golden run's dtype is `run`.
    ///
    /// An input has the tolerance of its own dtype. Everything else carries the rounding of the run, even where it
    /// was recorded in a wider dtype (as `step_logits` is), and has the wider of both tolerances.
    pub fn tolerance(&self, entry: &Entry, run: Option<Dtype>) -> Tolerance {
        self.tolerance_with(entry, run, None)
    }

    /// The same where the noise at the site is known, whose limits take the place of the dtype's.
    pub(crate) fn tolerance_with(
        &self,
        entry: &Entry,
        run: Option<Dtype>,
        noise: Option<Bounds>,
    ) -> Tolerance {
        let mut bounds = self.defaults.get(&entry.dtype).copied();
        if let (Some(own), Some(run), false) = (&mut bounds, run, entry.role == Role::Input)
            && let Some(run) = self.defaults.get(&run)
            && run.relative_l2 > own.relative_l2
        {
            *own = *run;
        }
        let preset = self.preset.filter(|_| entry.role != Role::Input).and_then(Preset::dtype);
        if let (Some(bounds), Some(preset)) = (&mut bounds, preset) {
            *bounds = self.defaults.get(&preset).copied().unwrap_or_default();
        }
        let mut exact = bounds.is_none() || self.preset == Some(Preset::Exact);
        let mut bounds = bounds.unwrap_or_default();
        if let Some(noise) = noise.filter(|_| entry.role != Role::Input) {
            bounds = bounds.overridden_by(noise);
        }
        let mut ignored = None;
        for rule in self.matching(entry) {
            // The last rule that says anything about a limit decides whether limits apply at all.
            if rule.exact {
                exact = true;
            } else if rule.bounds != Bounds::default() && entry.dtype.is_float() {
                exact = false;
                bounds = bounds.overridden_by(rule.bounds);
            }
            if rule.ignore {
                ignored = Some(rule.reason.clone());
            }
        }
        match (ignored, exact) {
            (Some(reason), _) => Tolerance::Ignored { reason },
            (None, true) => Tolerance::Exact,
            (None, false) => Tolerance::Bounds(bounds),
        }
    }

    /// Why an entry may be on one side only, if it may.
    pub fn excuse(&self, entry: &Entry) -> Option<String> {
        let by_rule = self.matching(entry).filter(|rule| rule.optional || rule.ignore).last();
        match (by_rule, self.unpaired) {
            (Some(rule), _) => Some(rule.reason.clone()),
            (None, Unpaired::Ignore) => Some("the policy ignores unpaired entries".to_owned()),
            (None, Unpaired::Fail) => None,
        }
    }

    /// The rules that match none of the entries: they are spelled wrongly, or no longer needed.
    pub fn idle_rules<'a>(&'a self, entries: &'a [Entry]) -> impl Iterator<Item = &'a Rule> {
        let used: HashSet<usize> = entries.iter().flat_map(|entry| self.matching_indices(entry)).collect();
        self.rules.iter().enumerate().filter(move |(index, _)| !used.contains(index)).map(|(_, rule)| rule)
    }

    fn matching(&self, entry: &Entry) -> impl Iterator<Item = &Rule> {
        self.matching_indices(entry).map(|index| &self.rules[index])
    }

    /// The places of the rules that match an entry, in their order.
    fn matching_indices(&self, entry: &Entry) -> impl Iterator<Item = usize> {
        let matching = self.matcher.matching(&entry.name).into_iter();
        matching.filter(|&index| {
            let rule = &self.rules[index];
            rule.role.is_none_or(|role| role == entry.role)
                && rule.dtype.is_none_or(|dtype| dtype == entry.dtype)
        })
    }
}

impl RuleFile {
    /// The bounds of a rule that makes sense, or the name of a field, a backtick, and what is wrong with it.
    fn bounds(&self) -> Result<Bounds, String> {
        let &RuleFile { relative_l2, row_relative_l2, max_abs, max_ulps, cosine, .. } = self;
        let bounds = BoundsFile { relative_l2, row_relative_l2, max_abs, max_ulps, cosine }.check()?;
        if self.sites.is_empty() {
            return Err("sites`: expected at least one glob, found none".to_owned());
        }
        if (self.ignore || self.optional) && self.reason.trim().is_empty() {
            return Err("reason`: expected a reason beside `ignore` or `optional`, found none".to_owned());
        }
        if self.exact && bounds != Bounds::default() {
            return Err("exact`: expected either `exact` or limits, found both".to_owned());
        }
        Ok(bounds)
    }
}

impl BoundsFile {
    /// The bounds, or the name of the field, a backtick, and what is wrong with it.
    fn check(self) -> Result<Bounds, String> {
        let BoundsFile { relative_l2, row_relative_l2, max_abs, max_ulps, cosine } = self;
        let bounds = Bounds { relative_l2, row_relative_l2, max_abs, max_ulps, cosine };
        for (metric, limit) in bounds.limits() {
            let (valid, expected) = match metric {
                Metric::Cosine => ((-1.0..=1.0).contains(&limit), "a number from -1 to 1"),
                _ => (limit >= 0.0, "a number not below zero"),
            };
            if !valid {
                return Err(format!("{}`: expected {expected}, found {limit}", metric.name()));
            }
        }
        Ok(bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, role: Role, dtype: Dtype) -> Entry {
        Entry {
            order: 0,
            name: name.to_owned(),
            role,
            module: String::new(),
            dtype,
            shape: vec![1],
            sha256: String::new(),
            file: None,
            sketch: None,
            extra: serde_json::Map::new(),
        }
    }

    fn parse(text: &str) -> Result<Policy> {
        Policy::parse(Path::new("policy.toml"), text)
    }

    fn relative_l2(tolerance: Tolerance) -> Option<f64> {
        match tolerance {
            Tolerance::Bounds(bounds) => bounds.relative_l2,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_run_widens_what_it_rounded_and_leaves_its_inputs() {
        let policy = Policy::default();
        let of = |role, dtype, run| relative_l2(policy.tolerance(&entry("x", role, dtype), Some(run)));
        let (f32, bf16) = (Dtype::Float32, Dtype::BFloat16);
        assert_eq!(of(Role::Output, f32, bf16), Some(2e-2), "step_logits of a bfloat16 run");
        assert_eq!(of(Role::Input, f32, bf16), Some(1e-5), "pixel_values of a bfloat16 run");
        assert_eq!(of(Role::Activation, bf16, f32), Some(2e-2), "bfloat16 features of a float32 run");
        assert_eq!(of(Role::Activation, f32, f32), Some(1e-5));
    }

    #[test]
    fn whatever_is_not_floating_point_is_exact() {
        for dtype in Dtype::ALL.into_iter().filter(|dtype| !dtype.is_float()) {
            let tolerance =
                Policy::default().tolerance(&entry("x", Role::Activation, dtype), Some(Dtype::BFloat16));
            assert_eq!(tolerance, Tolerance::Exact, "{dtype}");
        }
    }

    #[test]
    fn every_floating_point_dtype_has_a_default() {
        let policy = Policy::default();
        for dtype in Dtype::ALL.into_iter().filter(|dtype| dtype.is_float()) {
            assert!(policy.defaults.contains_key(&dtype), "{dtype}");
        }
    }

    #[test]
    fn later_rules_override_earlier_ones_limit_by_limit() {
        let policy = parse(
            r#"
            version = 1
            [defaults.float32]
            relative_l2 = 1e-4
            [[rules]]
            sites = ["vision_model.*"]
            relative_l2 = 1e-3
            cosine = 0.99
            [[rules]]
            sites = ["*.norm1"]
            relative_l2 = 1e-2
            "#,
        )
        .unwrap();
        let of = |name| policy.tolerance(&entry(name, Role::Activation, Dtype::Float32), None);
        assert_eq!(relative_l2(of("mlp1.0")), Some(1e-4));
        assert_eq!(relative_l2(of("vision_model.blocks.0")), Some(1e-3));
        let Tolerance::Bounds(both) = of("vision_model.blocks.0.norm1") else { panic!() };
        assert_eq!((both.relative_l2, both.cosine), (Some(1e-2), Some(0.99)));
        assert_eq!(both.row_relative_l2, Some(5e-2), "it follows the limit of the whole tensor");
    }

    #[test]
    fn a_rule_can_ask_for_every_bit_for_less_or_for_nothing() {
        let policy = parse(
            r#"
            version = 1
            [[rules]]
            sites = ["*"]
            exact = true
            [[rules]]
            sites = ["mlp1*"]
            max_ulps = 3
            [[rules]]
            sites = ["mlp1.2"]
            ignore = true
            reason = "fused"
            [[rules]]
            sites = ["mlp1.3"]
            role = "output"
            optional = true
            reason = "not kept"
            "#,
        )
        .unwrap();
        let of = |name| policy.tolerance(&entry(name, Role::Activation, Dtype::Float32), None);
        assert_eq!(of("lm_head"), Tolerance::Exact);
        assert!(matches!(of("mlp1.1"), Tolerance::Bounds(Bounds { max_ulps: Some(3), .. })));
        assert_eq!(of("mlp1.2"), Tolerance::Ignored { reason: "fused".to_owned() });
        let excuse = |name, role| policy.excuse(&entry(name, role, Dtype::Float32));
        assert_eq!(excuse("mlp1.3", Role::Output).as_deref(), Some("not kept"));
        assert_eq!(excuse("mlp1.3", Role::Activation), None, "the rule is for another role");
        let idle = [entry("mlp1.2", Role::Activation, Dtype::Float32)];
        assert_eq!(policy.idle_rules(&idle).map(|rule| &rule.sites[0][..]).collect::<Vec<_>>(), ["mlp1.3"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_field() {
        let refused = |text: &str, expected: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused("version = 2", "field `version`: expected 1, found 2");
        refused("version = 1\nunpaird = \"fail\"", "unknown field `unpaird`, expected one of");
        refused(
            "version = 1\n[defaults.float32]\nrelative_l2 = -1.0",
            "field `defaults.float32.relative_l2`: expected a number not below zero, found -1",
        );
        refused("version = 1\n[defaults.float32]\nrelative_l2 = nan", "found NaN");
        refused(
            "version = 1\n[defaults.int64]\nmax_abs = 1",
            "field `defaults.int64`: expected a floating-point dtype",
        );
        refused("version = 1\n[[rules]]\nsites = []", "field `rules[0].sites`: expected at least one glob");
        refused(
            "version = 1\n[[rules]]\nsites = [\"*\"]\nignore = true",
            "field `rules[0].reason`: expected a reason",
        );
        refused(
            "version = 1\n[[rules]]\nsites = [\"*\"]\ncosine = 2",
            "field `rules[0].cosine`: expected a number from -1 to 1, found 2",
        );
        refused("version = 1\n[[rules]]\nsites = [\"*\"]\nexact = true\nmax_abs = 1", "found both");
        let error = parse("version = 1\n[[rules]]\nsites = [\"a[\"]").unwrap_err();
        assert!(matches!(error, Error::PolicyGlob { .. }), "{error}");
    }
}
