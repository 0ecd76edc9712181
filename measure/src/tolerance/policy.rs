//! Which tolerance an entry has: defaults by dtype, and rules by site.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use golden::{Dtype, Entry, Role};
use serde::Deserialize;

use super::answer::AnswerPolicy;
use super::bounds::{Bounds, Tolerance};
use super::globs::Matcher;
use super::preset::Preset;

/// Tolerances for every entry of a dump.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The file it came from; `None` for the built-in one.
    pub path: Option<PathBuf>,
    pub(super) defaults: BTreeMap<Dtype, Bounds>,
    pub(super) rules: Vec<Rule>,
    pub(super) matcher: Matcher,
    /// What all entries are held to before any rule.
    pub preset: Option<Preset>,
    /// What becomes of entries that only one side has.
    pub unpaired: Unpaired,
    /// What becomes of errors that a module made.
    pub fresh: Fresh,
    /// What is compared of prompt and answer.
    pub answer: AnswerPolicy,
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
    pub(super) role: Option<Role>,
    pub(super) dtype: Option<Dtype>,
    pub(super) bounds: Bounds,
    pub(super) exact: bool,
    pub(super) ignore: bool,
    pub(super) optional: bool,
    pub(super) reason: String,
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
            (Dtype::Float8E8M0Fnu, bounds(3e-1)),
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
    /// What an entry of the golden dump is held to, if the golden run's dtype is `run`.
    ///
    /// An input has the tolerance of its own dtype. Everything else carries the rounding of the run, even where it
    /// was recorded in a wider dtype (as `step_logits` is), and has the wider of both tolerances.
    pub fn tolerance(&self, entry: &Entry, run: Option<Dtype>) -> Tolerance {
        self.tolerance_with(entry, run, None)
    }

    /// The same where the noise at the site is known, whose limits take the place of the dtype's.
    pub fn tolerance_with(&self, entry: &Entry, run: Option<Dtype>, noise: Option<Bounds>) -> Tolerance {
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
