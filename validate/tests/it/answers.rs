//! Prompt, generated ids and text.

use golden::manifest::ManifestHead;
use validate::logits::LogitsReport;
use validate::{Comparison, DiffOptions, DiffReport, Divergence, Skipped, Tokens, report};

use crate::dumps::{Candidate, Tensor, bundled, compare};

const NAME: &str = "shapes-describe-float32";

fn after(change: impl FnOnce(&mut ManifestHead)) -> DiffReport {
    compare(NAME, &Candidate::with(NAME, change, |_, _| true))
}

#[test]
fn another_id_is_a_failure_with_its_position_and_the_golden_margin() {
    let report = after(|head| head.generated_ids.as_mut().unwrap()[3] = 259);
    assert_eq!(report.first_divergence(), Some(Divergence::GeneratedIds));
    let Comparison::Differs(difference) = &report.answer.generated_ids else { panic!() };
    assert_eq!((difference.position, difference.expected(), difference.found()), (3, Some(334), Some(259)));
    // Greedy: the golden logits prefer what was generated.
    let gap = difference.gap.unwrap();
    assert!(gap.golden > 0.0 && gap.golden_rank > 1, "{difference:?}");
    // The candidate's logits are the golden ones, and contradict what it generated.
    assert_eq!(gap.candidate, Some(-gap.golden));
}

#[test]
fn an_answer_that_ends_early_or_late_is_a_failure_where_it_ends() {
    let report = after(|head| head.generated_ids.as_mut().unwrap().truncate(5));
    let Comparison::Differs(difference) = &report.answer.generated_ids else { panic!() };
    assert_eq!((difference.position, difference.expected(), difference.found()), (5, Some(326), None));
    assert_eq!(difference.gap, None);
    let report = after(|head| head.generated_ids.as_mut().unwrap().push(7));
    let Comparison::Differs(difference) = &report.answer.generated_ids else { panic!() };
    assert_eq!((difference.position, difference.expected(), difference.found()), (8, None, Some(7)));
}

#[test]
fn other_text_is_a_failure_though_the_ids_are_equal() {
    let report = after(|head| head.text = Some("a red circle above a green square".to_owned()));
    assert_eq!(report.first_divergence(), Some(Divergence::Text));
    let Comparison::Differs(difference) = &report.answer.text else { panic!() };
    assert_eq!(difference.position, "a red circle above a ".len());
}

#[test]
fn another_prompt_comes_before_everything() {
    let report = compare(
        NAME,
        &Candidate::with(
            NAME,
            |head| head.prompt.as_mut().unwrap().push('\n'),
            |_, tensor| {
                if tensor.name == "mlp1" {
                    tensor.set(0, 1e6);
                }
                true
            },
        ),
    );
    assert_eq!(report.first_divergence(), Some(Divergence::Prompt));
    assert_eq!(report.summary().failed, 1);
}

#[test]
fn an_answer_that_is_not_told_is_a_failure() {
    let report = after(|head| head.generated_ids = None);
    assert_eq!(report.answer.generated_ids, Comparison::Missing);
    assert_eq!(report.first_divergence(), Some(Divergence::GeneratedIds));
    assert!(!after(|head| head.text = None).passes());
    assert!(!after(|head| head.prompt = None).passes());
}

#[test]
fn a_candidate_that_says_it_generated_nothing_owes_no_answer() {
    let nothing = |head: &mut ManifestHead| {
        head.request.as_mut().unwrap().max_new_tokens = Some(0);
        head.generated_ids = None;
        head.text = None;
    };
    let report = compare(NAME, &Candidate::with(NAME, nothing, |entry, _| entry.name != "step_logits"));
    assert!(report.passes(), "{:?}", report.first_divergence());
    assert_eq!(report.answer.generated_ids, Comparison::Skipped(Skipped::NothingGenerated));
    assert_eq!(report.summary().ignored, 1);
    // Any other entry is still owed.
    let report = compare(NAME, &Candidate::with(NAME, nothing, |entry, _| entry.name != "language_model"));
    assert!(!report.passes());
}

#[test]
fn tokens_drawn_by_chance_are_not_compared() {
    let report = after(|head| {
        head.request.as_mut().unwrap().do_sample = Some(true);
        head.generated_ids.as_mut().unwrap()[0] = 9;
    });
    assert_eq!(report.answer.generated_ids, Comparison::Skipped(Skipped::Sampled));
    assert!(report.passes());
}

#[test]
fn what_the_golden_dump_does_not_tell_is_not_compared() {
    let golden = Candidate::with(NAME, |head| head.generated_ids = None, |_, _| true);
    let golden = golden::Dump::open(golden.path()).unwrap();
    let candidate = golden::Dump::open(bundled(NAME)).unwrap();
    let report =
        validate::diff(&golden, &candidate, &DiffOptions::new(&validate::Policy::default())).unwrap();
    assert_eq!(report.answer.generated_ids, Comparison::Skipped(Skipped::NotInGolden));
    assert!(report.passes());
}

/// The logits of a candidate whose `step_logits` are changed.
fn logits(change: impl Fn(&mut Tensor)) -> (LogitsReport, DiffReport) {
    let report = compare(NAME, &Candidate::changing(NAME, "step_logits", |tensor| change(tensor)));
    (report.answer.logits.clone().unwrap(), report)
}

/// The ids of a row from the largest logit on.
fn ranking(tensor: &Tensor, step: usize) -> Vec<usize> {
    let vocab = tensor.row_len();
    let mut ids: Vec<usize> = (0..vocab).collect();
    ids.sort_by(|&a, &b| {
        tensor.get(step * vocab + b).total_cmp(&tensor.get(step * vocab + a)).then(a.cmp(&b))
    });
    ids
}

#[test]
fn equal_logits_agree_in_everything() {
    let report = after(|_| ());
    let logits = report.answer.logits.unwrap();
    assert_eq!((logits.steps.len(), logits.left_out), (8, 0));
    assert!(logits.steps.iter().all(|step| step.common == [1, 5, 10] && step.kl_divergence == 0.0));
    assert_eq!([0, 1, 2].map(|place| logits.agreement(place)), [Some(1.0); 3]);
    assert_eq!(logits.mean_kl_divergence(), Some(0.0));
}

#[test]
fn logits_that_differ_are_told_step_by_step() {
    let (logits, report) = logits(|tensor| {
        // At step 2 the largest two change places, at step 5 the ninth becomes the least.
        let vocab = tensor.row_len();
        let (second, fifth) = (ranking(tensor, 2), ranking(tensor, 5));
        let (a, b) = (tensor.get(2 * vocab + second[0]), tensor.get(2 * vocab + second[1]));
        tensor.set(2 * vocab + second[0], b);
        tensor.set(2 * vocab + second[1], a);
        tensor.set(5 * vocab + fifth[8], -1e3);
    });
    let common: Vec<_> = logits.steps.iter().map(|step| step.common).collect();
    let all = [1, 5, 10];
    assert_eq!(common, [all, all, [0, 5, 10], all, all, [1, 5, 9], all, all]);
    assert_eq!(logits.agreement(0), Some(7.0 / 8.0));
    assert_eq!(logits.agreement(2), Some(79.0 / 80.0));
    let positive: Vec<bool> = logits.steps.iter().map(|step| step.kl_divergence > 0.0).collect();
    assert_eq!(positive, [false, false, true, false, false, true, false, false]);
    assert_eq!(logits.worst().unwrap().0, 2);
    assert!(!report.passes(), "the entry itself is held to its limits");
}

#[test]
fn a_divergence_is_that_of_softmaxes() {
    let (logits, _) = logits(|tensor| tensor.map(|_, value| 0.1 * value));
    let golden = golden::Dump::open(bundled(NAME)).unwrap();
    let values = golden.require("step_logits").unwrap().to_f64_vec();
    let row = &values[..values.len() / 8];
    let softmax = |row: &[f64]| {
        let sum: f64 = row.iter().map(|value| value.exp()).sum();
        row.iter().map(|value| value.exp() / sum).collect::<Vec<f64>>()
    };
    let scaled: Vec<f64> = row.iter().map(|value| f64::from((0.1 * value) as f32)).collect();
    let expected: f64 = softmax(row)
        .iter()
        .zip(softmax(&scaled))
        .map(|(p, q)| if *p > 0.0 { p * (p / q).ln() } else { 0.0 })
        .sum();
    approx::assert_relative_eq!(logits.steps[0].kl_divergence, expected, max_relative = 1e-9);
    assert!(expected > 0.0);
}

#[test]
fn logits_after_other_ids_are_left_out() {
    let logits = after(|head| head.generated_ids.as_mut().unwrap()[3] = 259).answer.logits.unwrap();
    assert_eq!((logits.steps.len(), logits.left_out), (4, 4));
}

#[test]
fn logits_of_another_vocabulary_or_none_are_not_compared() {
    let report = compare(NAME, &Candidate::of(NAME, |tensor| tensor.name != "step_logits"));
    assert_eq!(report.answer.logits, None);
    let report = compare(
        NAME,
        &Candidate::of(NAME, |tensor| {
            if tensor.name == "step_logits" {
                tensor.shape = vec![tensor.shape[0] * 2, tensor.shape[1] / 2];
            }
            true
        }),
    );
    assert_eq!(report.answer.logits, None);
}

#[test]
fn ids_have_texts_where_the_tokenizer_is_at_hand() {
    let mut report = after(|head| head.generated_ids.as_mut().unwrap()[3] = 259);
    let tokens = Tokens::read(bundled("../checkpoints/shapes")).unwrap();
    report.name_tokens(&tokens);
    let Comparison::Differs(difference) = &report.answer.generated_ids else { panic!() };
    let [Some(expected), Some(found)] = &difference.texts else { panic!("{:?}", difference.texts) };
    let golden = golden::Dump::open(bundled(NAME)).unwrap();
    assert!(golden.manifest().text.as_ref().unwrap().contains(expected.trim()), "{expected:?}");
    assert_ne!(expected, found);
    assert_eq!(tokens.text(-1), None);
    assert_eq!(tokens.text(i64::MAX), None);
    let error = Tokens::read(bundled(NAME)).unwrap_err();
    assert!(
        error.to_string().contains("tokenizer.json`: cannot be read") && error.hint().is_some(),
        "{error}"
    );
    let error = Tokens::read(bundled(NAME).join("manifest.json")).unwrap_err();
    assert!(error.to_string().contains("expected a tokenizer, found"), "{error}");
}

#[test]
fn every_format_tells_the_logits() {
    let (_, report) = logits(|tensor| tensor.map(|_, value| 0.1 * value));
    let render = |name| report::format(name).unwrap().render(&report, report::Options::default());
    for name in ["table", "junit", "markdown", "html"] {
        let text = render(name).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("step logits: 8 steps, agreement top 1 100 %"), "{name}: {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&render("json")).unwrap();
    let logits = &json["answer"]["logits"];
    assert_eq!(logits["agreement"]["top_1"], 1.0);
    assert_eq!((logits["steps"].as_array().unwrap().len(), &logits["left_out"]), (8, &0.into()));
    assert!(logits["steps"][0]["kl_divergence"].as_f64().unwrap() > 0.0);
    assert!(render("markdown").contains("| 0 | 1/1 | "), "{}", render("markdown"));
    assert!(render("html").contains("<tr><td>0</td><td>1/1</td><td>"));
}
