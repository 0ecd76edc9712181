//! The halves of each head are interleaved, or the other way round.

use super::attention;
use super::attention_core::{Variant, pattern};
use super::explanation::{Explanation, best};
use super::kind::Diagnosis;
use super::probe::Probe;
use super::roles::{head_dim, is_rotated};

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "interleaved",
    asks,
    test,
    last: false,
    supersedes: &[],
    variants: &[],
    example: "rows of `q_proj` for pairs, and not for halves",
};

/// The same mistake where the rotated numbers are not recorded: it shows behind the attention.
pub(super) const IN_ATTENTION: Diagnosis = Diagnosis {
    name: "interleaved",
    asks: attention::asks,
    test: |probe| attention::won(probe, "interleaved"),
    last: true,
    supersedes: &[],
    variants: &[Variant {
        pattern: pattern!("pairs of neighbours are rotated, and not the halves of each head"),
        applies: |core| core.is_causal(),
        change: |_, how| how.pairs = true,
    }],
    example: "pairs of neighbours rotated, and not halves",
};

fn asks(probe: &Probe<'_>) -> bool {
    probe.has_case() && is_rotated(probe.entry)
}

fn test(probe: &Probe<'_>) -> Option<Explanation> {
    let case = probe.case.as_ref()?;
    let fits = |&head: &usize| case.columns.is_multiple_of(head) && head.is_multiple_of(2);
    let head = head_dim(probe.golden).filter(fits)?;
    let half = head / 2;
    let split = |column: usize| column - column % head + (column % head % 2) * half + column % head / 2;
    let interleaved =
        |column: usize| column - column % head + (column % head % half) * 2 + column % head / half;
    let pattern = "the numbers of each head are interleaved for another rotary embedding: halves and pairs are exchanged";
    let from = [&split as &dyn Fn(usize) -> usize, &interleaved];
    best(
        from.into_iter().filter_map(|from| {
            probe.explain(pattern, Vec::new(), case.moved(|row, column| (row, from(column))))
        }),
    )
}
