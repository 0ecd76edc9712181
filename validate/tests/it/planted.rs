//! Planted faults: each is found, and named first.

use golden::{Dtype, Dump};
use validate::DiffOptions;
use validate::tolerance::{Failure, Verdict};

use crate::dumps::{Candidate, Tensor, bundled, compare, failing, first_named};

const BUNDLED: [&str; 5] = [
    "shapes-describe-bfloat16",
    "shapes-describe-float32",
    "shapes-history-bfloat16",
    "shapes-text-float32",
    "shapes-wide-bfloat16",
];

fn failure_of(report: &validate::DiffReport, site: &str) -> Failure {
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    match &entry.verdict {
        Verdict::Fail(failure) => failure.clone(),
        other => panic!("{site}: {other:?}"),
    }
}

/// A candidate that has the bytes of one tensor in another shape.
fn reshaping(name: &str, site: &str, shape: Vec<usize>) -> Candidate {
    Candidate::of(name, |tensor| {
        if tensor.name == site {
            tensor.shape.clone_from(&shape);
        }
        true
    })
}

#[test]
fn every_bundled_dump_equals_itself_to_the_bit() {
    for name in BUNDLED {
        let report = compare(name, &Candidate::copied(name));
        assert!(report.passes(), "{name}");
        let summary = report.summary();
        assert_eq!(summary.bit_equal, summary.entries, "{name}");
        assert_eq!((summary.passed, summary.failed), (summary.entries, 0), "{name}");
        assert!(report.notes.is_empty(), "{name}: {:?}", report.notes);
    }
}

#[test]
fn one_wrong_value_at_any_site_of_a_float32_run_is_named() {
    let name = "shapes-text-float32";
    for entry in Dump::open(bundled(name)).unwrap().entries() {
        let candidate = Candidate::changing(name, &entry.name, |tensor| {
            // Somewhere in the middle, where neither end's handling can hide it.
            let index = tensor.len() / 2 + 1;
            tensor.set(index, tensor.get(index) + 1.0);
        });
        let report = compare(name, &candidate);
        assert_eq!(first_named(&report), entry.name);
        assert_eq!(failing(&report), [entry.name.as_str()]);
    }
}

#[test]
fn one_wrong_row_at_any_site_of_a_bfloat16_run_is_named() {
    let name = "shapes-describe-bfloat16";
    for entry in Dump::open(bundled(name)).unwrap().entries() {
        let candidate = Candidate::changing(name, &entry.name, |tensor| {
            let start = tensor.len() - tensor.row_len();
            for index in start..tensor.len() {
                tensor.set(index, 0.0);
            }
        });
        let report = compare(name, &candidate);
        assert_eq!(first_named(&report), entry.name);
        assert_eq!(failing(&report), [entry.name.as_str()]);
    }
}

#[test]
fn one_wrong_row_of_many_is_seen_though_the_whole_tensor_is_near() {
    // 1 wrong row among 216, in a tensor whose other rows are as they should be.
    let (name, site) = ("shapes-wide-bfloat16", "vision_model.radio_model.model.blocks.1.norm1");
    let candidate = Candidate::changing(name, site, |tensor| {
        let row_len = tensor.row_len();
        tensor.map(|index, value| if index / row_len == 7 { 0.8 * value } else { value });
    });
    let report = compare(name, &candidate);
    assert_eq!(first_named(&report), site);
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    let relative_l2 = entry.measurement.as_ref().unwrap().relative_l2.unwrap();
    assert!(relative_l2 < 2e-2, "{relative_l2}: the tensor as a whole is within the limit");
    assert!(matches!(
        failure_of(&report, site),
        Failure::Exceeded { metric: validate::tolerance::Metric::RowRelativeL2, .. }
    ));
}

#[test]
fn two_rows_changed_for_each_other_are_named() {
    let (name, site) = ("shapes-describe-bfloat16", "mlp1.3");
    let candidate = Candidate::changing(name, site, |tensor| {
        let row_bytes = tensor.row_len() * tensor.dtype.size_bytes();
        let (first, rest) = tensor.data.split_at_mut(row_bytes);
        first.swap_with_slice(&mut rest[..row_bytes]);
    });
    assert_eq!(failing(&compare(name, &candidate)), [site]);
}

#[test]
fn the_earliest_of_several_faults_is_named_with_the_last_agreement() {
    let name = "shapes-describe-float32";
    let sites = ["language_model.model.norm", "mlp1.1", "language_model.model.layers.2"];
    let candidate = Candidate::of(name, |tensor| {
        if sites.contains(&tensor.name.as_str()) {
            tensor.set(3, 100.0);
        }
        true
    });
    let report = compare(name, &candidate);
    assert_eq!(first_named(&report), "mlp1.1");
    let index = report.entries.iter().position(|entry| entry.entry.name == "mlp1.1").unwrap();
    assert_eq!(report.last_agreement_before(index).unwrap().entry.name, "mlp1.0");
    assert_eq!(report.summary().failed, 3);
}

#[test]
fn a_missing_entry_is_not_a_pass() {
    let (name, site) = ("shapes-text-float32", "language_model.model.layers.1.self_attn.k_proj");
    let report = compare(name, &Candidate::of(name, |tensor| tensor.name != site));
    assert_eq!(first_named(&report), site);
    assert_eq!(failure_of(&report, site), Failure::Missing);
    assert_eq!(report.summary().failed, 1);
}

#[test]
fn a_fault_is_named_before_a_missing_entry() {
    let name = "shapes-text-float32";
    let candidate = Candidate::of(name, |tensor| {
        if tensor.name == "language_model.model.layers.3.mlp" {
            tensor.set(0, 1e3);
        }
        tensor.name != "language_model.model.layers.0.mlp"
    });
    let report = compare(name, &candidate);
    assert_eq!(first_named(&report), "language_model.model.layers.3.mlp");
    assert_eq!(report.summary().failed, 2);
}

#[test]
fn an_entry_that_only_the_candidate_has_is_not_a_pass() {
    let name = "shapes-text-float32";
    let rename = |from: &'static str, to: &'static str| {
        Candidate::of(name, move |tensor| {
            if tensor.name == from {
                tensor.name = to.to_owned();
            }
            true
        })
    };
    let report = compare(name, &rename("language_model.lm_head", "lm_head"));
    assert_eq!(failing(&report), ["language_model.lm_head", "lm_head"]);
    assert_eq!(failure_of(&report, "lm_head"), Failure::Extra);
}

#[test]
fn another_shape_of_the_same_bytes_is_not_a_pass() {
    let (name, site) = ("shapes-text-float32", "inputs_embeds");
    let report = compare(name, &reshaping(name, site, vec![1, 128, 24]));
    assert_eq!(
        failure_of(&report, site),
        Failure::Shape { expected: vec![1, 24, 128], found: vec![1, 128, 24] }
    );
}

#[test]
fn another_dtype_is_not_a_pass_though_the_values_are_near() {
    let (name, site) = ("shapes-describe-bfloat16", "mlp1.3");
    let widen = |tensor: &mut Tensor| {
        let values: Vec<f64> = (0..tensor.len()).map(|index| tensor.get(index)).collect();
        tensor.dtype = Dtype::Float32;
        tensor.data = values.iter().flat_map(|&value| (value as f32).to_le_bytes()).collect();
    };
    let report = compare(
        name,
        &Candidate::of(name, |tensor| {
            if tensor.name == site {
                widen(tensor);
            }
            true
        }),
    );
    assert_eq!(
        failure_of(&report, site),
        Failure::Dtype { expected: Dtype::BFloat16, found: Dtype::Float32 }
    );
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    let measurement = entry.measurement.as_ref().unwrap();
    assert_eq!((measurement.relative_l2, measurement.max_ulps), (Some(0.0), None));
    assert!(!measurement.bit_equal);
}

#[test]
fn nan_and_infinity_are_not_a_pass_on_either_side() {
    let (name, site) = ("shapes-text-float32", "language_model.model.layers.2.mlp.act_fn");
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let report = compare(name, &Candidate::changing(name, site, |tensor| tensor.set(1000, value)));
        assert_eq!(first_named(&report), site, "{value}");
        assert_eq!(failure_of(&report, site), Failure::NonFinite { mismatches: Some(1) }, "{value}");
        // The other way round.
        let candidate = Candidate::changing(name, site, |tensor| tensor.set(1000, value));
        let golden = Dump::open(candidate.path()).unwrap();
        let clean = Dump::open(bundled(name)).unwrap();
        let report =
            validate::diff(&golden, &clean, &DiffOptions::new(&validate::Policy::default())).unwrap();
        assert_eq!(failing(&report), [site], "{value}");
    }
}

#[test]
fn one_wrong_token_id_is_named() {
    let name = "shapes-history-bfloat16";
    let candidate = Candidate::changing(name, "input_ids", |tensor| tensor.set(50, tensor.get(50) + 1.0));
    let report = compare(name, &candidate);
    assert_eq!(failing(&report), ["input_ids"]);
    assert_eq!(failure_of(&report, "input_ids"), Failure::Unequal { differing: Some(1), elements: 107 });
}

#[test]
fn logits_that_a_bfloat16_run_rounded_are_judged_as_such_and_pixels_are_not() {
    let name = "shapes-describe-bfloat16";
    // A relative error of 1e-3: much for float32, little for bfloat16.
    let scaled = |site: &str| {
        let candidate = Candidate::changing(name, site, |tensor| {
            tensor.map(|_, value| 1.001 * value);
        });
        compare(name, &candidate).passes()
    };
    assert!(scaled("step_logits"));
    assert!(!scaled("pixel_values"));
}

#[test]
fn zero_against_zero_passes_and_anything_else_does_not() {
    let (name, site) = ("shapes-text-float32", "language_model.model.layers.0.mlp.down_proj");
    let zero = |tensor: &mut Tensor| tensor.data.fill(0);
    let golden = Candidate::changing(name, site, zero);
    let other = Candidate::changing(name, site, |tensor| {
        zero(tensor);
        tensor.set(9, 1e-30);
    });
    let diff = |candidate: &Candidate| {
        let (golden, candidate) = (Dump::open(golden.path()).unwrap(), Dump::open(candidate.path()).unwrap());
        validate::diff(&golden, &candidate, &DiffOptions::new(&validate::Policy::default())).unwrap()
    };
    assert!(diff(&golden).passes());
    let report = diff(&other);
    assert_eq!(failing(&report), [site]);
    let entry = report.entries.iter().find(|entry| entry.entry.name == site).unwrap();
    assert_eq!(entry.measurement.as_ref().unwrap().relative_l2, Some(f64::INFINITY));
}

#[test]
fn the_numbers_do_not_depend_on_the_number_of_threads() {
    let name = "shapes-wide-bfloat16";
    let candidate = Candidate::of(name, |tensor| {
        if tensor.dtype.is_float() {
            tensor.map(|index, value| if index % 3 == 0 { 1.01 * value } else { value });
        }
        true
    });
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let report = pool.install(|| compare(name, &candidate));
        report.entries.into_iter().map(|entry| entry.measurement.unwrap()).collect::<Vec<_>>()
    };
    let one = on(1);
    assert!(one.iter().any(|measurement| measurement.elements > 1 << 17), "an entry of several chunks");
    for threads in [2, 3, 8] {
        assert_eq!(on(threads), one);
    }
}
