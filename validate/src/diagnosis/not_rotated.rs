//! Queries or keys are not rotated, or the other way.

use super::attention;
use super::attention_core::{Variant, pattern};
use super::kind::Diagnosis;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "not_rotated",
    asks: attention::asks,
    test: |probe| attention::won(probe, "not_rotated"),
    last: true,
    supersedes: &[],
    variants: &[
        Variant {
            pattern: pattern!("queries are not rotated"),
            applies: |core| core.is_causal(),
            change: |_, how| how.rotate_queries = false,
        },
        Variant {
            pattern: pattern!("keys are not rotated"),
            applies: |core| core.is_causal(),
            change: |_, how| how.rotate_keys = false,
        },
        Variant {
            pattern: pattern!("neither queries nor keys are rotated"),
            applies: |core| core.is_causal(),
            change: |_, how| (how.rotate_queries, how.rotate_keys) = (false, false),
        },
        Variant {
            pattern: pattern!("queries are rotated the other way than keys"),
            applies: |core| core.is_causal(),
            change: |_, how| how.backwards = true,
        },
    ],
    example: "keys not rotated",
};
