//! Errors that a module made, told from those that it passed on.

use approx::assert_relative_eq;
use golden::{Dtype, Dump};
use half::bf16;
use validate::origin::OriginKind;
use validate::tolerance::{Failure, Metric, Verdict};
use validate::{DiffReport, EntryReport};

use crate::dumps::{Candidate, bundled, compare, failing, first_named};

const NAME: &str = "shapes-describe-bfloat16";
const TOWER: &str = "vision_model.radio_model.model";

fn entry<'a>(report: &'a DiffReport, site: &str) -> &'a EntryReport {
    report.entries.iter().find(|entry| entry.entry.name == site).unwrap()
}

/// The float32 run of the same request, rounded to the dtypes of the bfloat16 run: an engine that rounds elsewhere.
fn float32_run_rounded(change: impl Fn(&str, &mut [f64])) -> Candidate {
    let other = Dump::open(bundled("shapes-describe-float32")).unwrap();
    Candidate::of(NAME, |tensor| {
        if tensor.dtype == Dtype::BFloat16 {
            let mut values = other.get(&tensor.name).unwrap().to_f64_vec();
            change(&tensor.name, &mut values);
            tensor.data = values.into_iter().flat_map(|value| bf16::from_f64(value).to_le_bytes()).collect();
        }
        true
    })
}

#[test]
fn another_place_of_rounding_makes_no_error() {
    let report = compare(NAME, &float32_run_rounded(|_, _| ()));
    assert_eq!(failing(&report), [""; 0]);
    assert_eq!(report.summary().fresh, 0);
    let kind = |site: &str| entry(&report, site).origin.kind;
    assert_eq!(kind("pixel_values"), OriginKind::Equal);
    assert_eq!(kind("vision_model.radio_model.input_conditioner"), OriginKind::Rounding);
    assert_eq!(kind("language_model.model.layers.3.mlp"), OriginKind::Inherited);
}

#[test]
fn a_module_is_found_in_the_noise_of_all_others() {
    // Every site differs, and one of them is off by a hundredth more than the noise before it explains.
    let sites = [format!("{TOWER}.blocks.0.mlp.fc1"), "language_model.lm_head".to_owned()];
    for site in sites {
        let candidate = float32_run_rounded(|name, values| {
            if name == site {
                values.iter_mut().for_each(|value| *value *= 1.06);
            }
        });
        let report = compare(NAME, &candidate);
        assert_eq!(first_named(&report), site);
        assert_eq!(entry(&report, &site).origin.kind, OriginKind::Fresh);
    }
}

#[test]
fn a_wrong_prefix_token_does_not_hide_behind_long_patch_tokens() {
    let site = format!("{TOWER}.patch_generator.cls_token");
    let candidate = Candidate::changing(NAME, &site, |tensor| {
        let row_len = tensor.row_len();
        tensor.map(|index, value| if index / row_len == 3 { 1.5 * value } else { value });
    });
    let report = compare(NAME, &candidate);
    assert_eq!(failing(&report), [site.as_str()]);
    let entry = entry(&report, &site);
    let measurement = entry.measurement.as_ref().unwrap();
    assert!(measurement.relative_l2.unwrap() < 1e-3, "{measurement:?}");
    assert!(measurement.row_relative_l2.unwrap() < 5e-3, "{measurement:?}");
    let Verdict::Fail(Failure::Fresh(excess)) = entry.verdict else { panic!("{:?}", entry.verdict) };
    assert_eq!((excess.metric, excess.row), (Metric::RowRelativeL2, Some(3)));
    assert_relative_eq!(excess.found, 0.5, max_relative = 0.05);
}

#[test]
fn what_follows_an_error_is_not_named() {
    // The golden run's numbers, with everything from one site on 1.5 times as large: only that site made it.
    let first = format!("{TOWER}.blocks.1.attn.qkv");
    let start = Dump::open(bundled(NAME)).unwrap().entry(&first).unwrap().order;
    let candidate = Candidate::with(
        NAME,
        |_| (),
        |entry, tensor| {
            let inherits = entry.order >= start && entry.order < 44;
            if inherits {
                tensor.map(|_, value| 1.5 * value);
            }
            true
        },
    );
    let report = compare(NAME, &candidate);
    assert_eq!(first_named(&report), first);
    assert_eq!(report.fresh().map(|entry| entry.entry.name.as_str()).collect::<Vec<_>>(), [first]);
}

#[test]
fn a_wrong_token_explains_its_own_embedding() {
    let candidate = Candidate::of(NAME, |tensor| {
        if tensor.name == "input_ids" {
            tensor.set(3, 300.0);
        } else if tensor.name.ends_with("embed_tokens") {
            let row_len = tensor.row_len();
            tensor.map(|index, value| if index / row_len == 3 { -value } else { value });
        }
        true
    });
    let report = compare(NAME, &candidate);
    assert_eq!(first_named(&report), "input_ids");
    assert_eq!(entry(&report, "language_model.model.embed_tokens").origin.kind, OriginKind::Inherited);
}

#[test]
fn a_module_whose_inputs_were_not_recorded_is_held_to_its_limits_alone() {
    // An error of 6e-3, which one operation does not explain and several may.
    let site = "mlp1.3";
    let scaled = |keep: fn(&str) -> bool| {
        Candidate::of(NAME, move |tensor| {
            if tensor.name == site {
                tensor.map(|_, value| 1.006 * value);
            }
            keep(&tensor.name)
        })
    };
    assert_eq!(failing(&compare(NAME, &scaled(|_| true))), [site]);
    let report = compare(NAME, &scaled(|name| name != "mlp1.2"));
    assert_eq!(failing(&report), ["mlp1.2"], "only that one is missing");
}
