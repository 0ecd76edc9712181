//! Policy files, applied.

use std::fs;

use validate::tolerance::{Failure, Verdict};
use validate::{Comparison, Note, Policy, Skipped};

use crate::dumps::{Candidate, compare_by, failing};

pub fn policy(text: &str) -> Policy {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    Policy::read(file.path()).unwrap()
}

const NAME: &str = "shapes-text-float32";

/// A candidate whose every float32 value is 0.1 % too large.
fn scaled() -> Candidate {
    Candidate::of(NAME, |tensor| {
        if tensor.dtype.is_float() {
            tensor.map(|_, value| 1.001 * value);
        }
        true
    })
}

#[test]
fn a_wider_default_and_a_narrower_rule() {
    let wider = policy("version = 1\n[defaults.float32]\nrelative_l2 = 2e-3\n");
    assert!(compare_by(NAME, &scaled(), &wider).passes());
    let narrower = policy(
        "version = 1\n[defaults.float32]\nrelative_l2 = 2e-3\n\
         [[rules]]\nsites = [\"*.layers.1.*_proj\"]\nrelative_l2 = 1e-4\n",
    );
    let report = compare_by(NAME, &scaled(), &narrower);
    // Four in the attention, three in the MLP.
    assert_eq!(failing(&report).len(), 7, "{:?}", failing(&report));
}

#[test]
fn chosen_sites_only() {
    let chosen = Candidate::of(NAME, |tensor| tensor.name.ends_with(".mlp"));
    let all = policy("version = 1\nunpaired = \"ignore\"\n");
    let report = compare_by(NAME, &chosen, &all);
    assert!(report.passes());
    assert_eq!((report.summary().passed, report.summary().ignored), (4, 62));
    let some = policy(
        "version = 1\n[[rules]]\nsites = [\"language_model*\"]\noptional = true\nreason = \"only the MLPs are kept\"\n",
    );
    let report = compare_by(NAME, &chosen, &some);
    assert_eq!(failing(&report), ["input_ids", "inputs_embeds", "step_logits"]);
}

#[test]
fn an_ignored_site_may_be_anything() {
    let ignoring = policy(
        "version = 1\n[[rules]]\nsites = [\"inputs_embeds\"]\nignore = true\nreason = \"a fused kernel\"\n",
    );
    let candidate = Candidate::of(NAME, |tensor| {
        if tensor.name == "inputs_embeds" {
            tensor.shape = vec![24, 128];
        }
        true
    });
    assert!(compare_by(NAME, &candidate, &ignoring).passes());
}

#[test]
fn answers_that_the_policy_leaves_out() {
    let candidate = Candidate::with(NAME, |head| head.text = None, |_, _| true);
    let report = compare_by(NAME, &candidate, &policy("version = 1\n[answer]\ntext = false\n"));
    assert!(report.passes());
    assert_eq!(report.answer.text, Comparison::Skipped(Skipped::Policy));
}

#[test]
fn a_rule_for_nothing_is_noted() {
    let idle = policy("version = 1\n[[rules]]\nsites = [\"langauge_model.*\"]\nmax_ulps = 4\n");
    let report = compare_by(NAME, &Candidate::copied(NAME), &idle);
    assert!(report.passes());
    assert_eq!(report.notes, [Note::IdleRule { sites: vec!["langauge_model.*".to_owned()] }]);
}

#[test]
fn errors_of_a_modules_own_fail_or_are_only_reported() {
    // An error of 5e-3, which the limit of 2e-2 allows, in all channels of one site.
    let (name, site) = ("shapes-describe-bfloat16", "mlp1.1");
    let candidate = Candidate::changing(name, site, |tensor| tensor.map(|_, value| 1.008 * value));
    let report = compare_by(name, &candidate, &Policy::default());
    assert_eq!(failing(&report), [site]);
    assert!(matches!(report.entries[40].verdict, Verdict::Fail(Failure::Fresh(_))));

    let reported = compare_by(name, &candidate, &policy("version = 1\nfresh = \"report\"\n"));
    assert!(reported.passes());
    assert_eq!(reported.fresh().map(|entry| entry.entry.name.as_str()).collect::<Vec<_>>(), [site]);

    let wider =
        policy("version = 1\n[[rules]]\nsites = [\"mlp1.1\"]\ndtype = \"bfloat16\"\nrelative_l2 = 6e-2\n");
    let report = compare_by(name, &candidate, &wider);
    assert!(report.passes(), "a wider limit widens what a module may add");
    assert_eq!(report.summary().fresh, 0);
}
