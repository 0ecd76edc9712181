//! Query heads belong to other key-value heads.

use super::attention;
use super::attention_core::{Variant, pattern};
use super::kind::Diagnosis;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "kv_heads",
    asks: attention::asks,
    test: |probe| attention::won(probe, "kv_heads"),
    last: true,
    supersedes: &[],
    variants: &[Variant {
        pattern: pattern!("query heads take turns with the key-value heads, and are not grouped"),
        applies: |core| core.kv_heads > 1 && core.kv_heads < core.heads,
        change: |_, how| how.heads_in_turn = true,
    }],
    example: "key-value heads repeated as a whole, and not one by one",
};
