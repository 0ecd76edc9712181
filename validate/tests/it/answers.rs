//! Prompt, generated ids and text.

use golden::manifest::ManifestHead;
use validate::{Comparison, DiffReport, Divergence, Skipped};

use crate::dumps::{Candidate, compare};

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
    assert!(difference.margin.unwrap() > 0.0, "{difference:?}");
}

#[test]
fn an_answer_that_ends_early_or_late_is_a_failure_where_it_ends() {
    let report = after(|head| head.generated_ids.as_mut().unwrap().truncate(5));
    let Comparison::Differs(difference) = &report.answer.generated_ids else { panic!() };
    assert_eq!((difference.position, difference.expected(), difference.found()), (5, Some(326), None));
    assert_eq!(difference.margin, None);
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
    let candidate = golden::Dump::open(crate::dumps::bundled(NAME)).unwrap();
    let report = validate::diff(&golden, &candidate, &validate::Policy::default(), true, &|_| ()).unwrap();
    assert_eq!(report.answer.generated_ids, Comparison::Skipped(Skipped::NotInGolden));
    assert!(report.passes());
}
