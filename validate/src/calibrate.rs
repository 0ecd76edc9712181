//! Writes a policy from right runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use cli::counted;
use cli::escape::{comment, toml};
use golden::{Dtype, Dump};

use measure::Noise;
use measure::model::any_model;
use measure::origin::rounds_more;
use measure::tolerance::Bounds;

/// A policy file whose limits are those that the noise of right runs gives.
///
/// Sites that differ in the numbers of layers only share a rule, with the widest of their limits.
pub fn calibrate(golden: &Dump, runs: &[Dump], noise: &Noise) -> String {
    let mut run: Option<Dtype> = golden.manifest().producer.dtype.parse().ok();
    if let Some(dtype) = noise.run()
        && run.is_none_or(|run| rounds_more(dtype, run))
    {
        run = Some(dtype);
    }
    let mut rules: BTreeMap<(String, &'static str), Bounds> = BTreeMap::new();
    for entry in golden.entries().iter().filter(|entry| entry.role != golden::Role::Input) {
        let Some(level) = noise.level(&entry.key()) else { continue };
        let bounds = noise.bounds(entry, &level, run);
        let rule = rules.entry((glob(&entry.name), entry.dtype.name())).or_default();
        let wider = |a: Option<f64>, b: Option<f64>| a.zip(b).map_or(a.or(b), |(a, b)| Some(a.max(b)));
        rule.relative_l2 = wider(rule.relative_l2, bounds.relative_l2);
        rule.row_relative_l2 = wider(rule.row_relative_l2, bounds.row_relative_l2);
    }
    // A layer's own glob matches all that is inside too, and is overridden by what follows.
    let mut rules: Vec<_> = rules.into_iter().collect();
    rules.sort_by_key(|((glob, _), _)| glob.matches('.').count());

    let mut out = String::new();
    let mut line = |text: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{text}");
    };
    line(&format!(
        "# {} times the noise of {}, and no less than rounding.",
        noise.factor(),
        counted(runs.len(), "right run")
    ));
    line(&format!("# golden: {}", comment(&golden.path().display().to_string())));
    for run in runs {
        line(&format!("# run: {}", comment(&run.path().display().to_string())));
    }
    line("version = 1");
    let answers = |run: &Dump| (run.manifest().generated_ids.clone(), run.manifest().text.clone());
    if runs.iter().any(|run| answers(run) != answers(golden)) {
        line("");
        line("# The right runs do not all answer alike.");
        line("[answer]");
        line("generated_ids = false");
        line("text = false");
    }
    for ((glob, dtype), bounds) in &rules {
        line("");
        line("[[rules]]");
        line(&format!("sites = [{}]", toml(glob)));
        line(&format!("dtype = \"{dtype}\""));
        line(&format!("relative_l2 = {}", rounded_up(bounds.relative_l2)));
        // Without one, the limit of the whole tensor brings one with it.
        if bounds.row_relative_l2.is_some() {
            line(&format!("row_relative_l2 = {}", rounded_up(bounds.row_relative_l2)));
        }
    }
    out
}

/// A name in which every number of a layer is a wildcard.
fn glob(name: &str) -> String {
    // The numbers of `mlp1.0` tell layers of different kinds.
    let is_list = |before: Option<&str>| before.is_some_and(|before| any_model().is_layer_list(before));
    let parts: Vec<&str> = name.split('.').collect();
    let parts = parts.iter().enumerate().map(|(place, part)| {
        let before = place.checked_sub(1).map(|before| parts[before]);
        let number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if number && is_list(before) { "*".to_owned() } else { literal(part) }
    });
    parts.collect::<Vec<_>>().join(".")
}

/// A glob that matches a text only. A backslash would escape what follows it, which `globset::escape` leaves so.
fn literal(text: &str) -> String {
    globset::escape(text).replace('\\', "[\\]")
}

/// A limit of two digits, not below the number.
fn rounded_up(limit: Option<f64>) -> String {
    let limit = limit.unwrap_or(0.0);
    // Below the smallest of these a power of ten is no number any more.
    if limit < 1e-300 {
        return if limit > 0.0 { "1.0e-300" } else { "0.0" }.to_owned();
    }
    let unit = 10_f64.powi(limit.log10().floor() as i32 - 1);
    let rounded = (limit / unit).ceil() * unit;
    if rounded.is_finite() { format!("{rounded:.1e}") } else { "inf".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_layers_are_wildcards_and_others_are_not() {
        assert_eq!(glob("language_model.model.layers.13.mlp"), "language_model.model.layers.*.mlp");
        assert_eq!(glob("mlp1.3"), "mlp1.3");
        assert_eq!(glob("a[0].b{\\"), "a[[]0[]].b[{][\\]");
    }

    #[test]
    fn limits_are_rounded_up() {
        let limits = [0.0, 1.0, 0.012_01, 9.91e-6, 5e-324, f64::MAX, f64::INFINITY];
        let expected = ["0.0", "1.0e0", "1.3e-2", "1.0e-5", "1.0e-300", "inf", "inf"];
        assert_eq!(limits.map(|limit| rounded_up(Some(limit))), expected);
    }
}
