//! Two runs of one engine that must agree in a known way.

mod batches;
mod pictures;
mod pieces;
mod prefixes;
mod programs;
mod runs;

use validate::{DiffOptions, DiffReport, Divergence, EntryReport, Fact, Note, Policy, Relation};

use runs::Run;

const NORM: &str = "language_model.model.layers.1.input_layernorm";

fn compare(plain: &Run, candidate: &Run, relation: Relation) -> validate::Result<DiffReport> {
    let (plain, candidate) = (plain.write(), candidate.write());
    let policy = Policy::default();
    let options = DiffOptions { relation: Some(relation), ..DiffOptions::new(&policy) };
    validate::diff(&plain.dump, &candidate.dump, &options)
}

fn facts(report: &DiffReport) -> Vec<&Fact> {
    let mut facts = Vec::new();
    for note in &report.notes {
        if let Note::Relation(fact) = note {
            facts.push(fact);
        }
    }
    facts
}

/// The names of what was not compared, with the reasons.
fn not_compared(report: &DiffReport) -> Vec<(String, String)> {
    let ignored = report.entries.iter().filter_map(|entry| match &entry.verdict {
        validate::tolerance::Verdict::Ignored { reason } => {
            Some((entry.entry.key().into_owned(), reason.clone()))
        }
        _ => None,
    });
    ignored.collect()
}

/// Whether every entry but some was compared and is bit-equal; of how many.
fn assert_equal_but(report: &DiffReport, left_out: impl Fn(&str) -> bool) -> usize {
    let mut compared = 0;
    for entry in &report.entries {
        let key = entry.entry.key();
        assert_eq!(entry.is_bit_equal(), !left_out(&key), "{key}: {:?}", entry.verdict);
        compared += usize::from(entry.is_bit_equal());
    }
    assert!(report.passes(), "{:?}", report.first_divergence());
    compared
}

fn first(report: &DiffReport) -> &EntryReport {
    let Some(Divergence::Entry(index)) = report.first_divergence() else {
        panic!("{:?}", report.first_divergence())
    };
    &report.entries[index]
}

/// Where the largest difference of the first divergence is.
fn largest(report: &DiffReport) -> Vec<usize> {
    first(report).measurement.as_ref().unwrap().largest.as_ref().unwrap().index.clone()
}

fn refusal(plain: &Run, candidate: &Run, relation: Relation) -> String {
    let message = compare(plain, candidate, relation).unwrap_err().to_string();
    message.split_once(": ").unwrap().1.to_owned()
}

#[test]
fn a_repeat_is_compared_by_names() {
    let plain = Run::bundled("shapes-text-float32");
    let report = compare(&plain, &plain, Relation::Same).unwrap();
    assert_eq!(assert_equal_but(&report, |_| false), 66);
    assert_eq!(report.relation.unwrap().tokens, 24);
    let mut other = Run::bundled("shapes-text-float32");
    other.change("input_ids", 0, |ids| ids.set(20, 3.0));
    assert_eq!(
        refusal(&plain, &other, Relation::Same),
        "relation `same`: expected the 24 tokens of the plain run, found 24 tokens, of which the first 20 agree"
    );
}
