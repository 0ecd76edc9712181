//! Policy files, which `docs/tolerances.md` describes.

use std::collections::BTreeMap;
use std::path::Path;

use golden::{Dtype, Role};
use serde::Deserialize;
use store::Content;

use super::answer::AnswerPolicy;
use super::bounds::{Bounds, Metric};
use super::globs::Globs;
use super::policy::{Fresh, Policy, Rule, Unpaired};
use super::preset::Preset;
use crate::error::{Error, Result, toml_problem};

/// The version of policy files that this library reads.
const VERSION: u64 = 1;

/// The most bytes of a file: a policy that `nvl-validate calibrate` writes has about a hundred a rule.
const MAX_FILE_BYTES: u64 = 32 << 20;

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
                None => invalid(toml_problem(text, &error)),
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
    use golden::Entry;

    use super::*;
    use crate::model::tests;
    use crate::tolerance::Tolerance;

    fn entry(name: &str, role: Role, dtype: Dtype) -> Entry {
        Entry { role, dtype, ..tests::entry(name) }
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
