//! An attention sees tokens that are to be hidden, or does not see all others.

use super::attention;
use super::attention_core::{Variant, pattern};
use super::kind::Diagnosis;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "mask",
    asks: attention::asks,
    test: |probe| attention::won(probe, "mask"),
    last: true,
    supersedes: &[],
    variants: &[
        Variant {
            pattern: pattern!("every token sees those behind it, too"),
            applies: |core| core.is_causal(),
            change: |_, how| how.ahead = None,
        },
        Variant {
            pattern: pattern!("every token sees the one behind it, too"),
            applies: |core| core.is_causal(),
            change: |_, how| how.ahead = Some(1),
        },
        Variant {
            pattern: pattern!("no token sees those behind it"),
            applies: |core| core.sees_all(),
            change: |_, how| how.ahead = Some(0),
        },
    ],
    example: "later tokens visible",
};
