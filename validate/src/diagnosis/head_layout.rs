//! The channels of a fused projection belong to other heads.

use super::attention;
use super::attention_core::{HeadLayout, Variant, pattern};
use super::kind::Diagnosis;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "head_layout",
    asks: attention::asks,
    test: |probe| attention::won(probe, "head_layout"),
    last: true,
    supersedes: &[],
    variants: &[
        Variant {
            pattern: pattern!(
                "the fused projection is read head by head, and not as queries, keys and values"
            ),
            applies: |core| core.sees_all(),
            change: |_, how| how.layout = HeadLayout::Heads,
        },
        Variant {
            pattern: pattern!("the numbers of all heads alternate, and heads are not contiguous"),
            applies: |core| core.sees_all(),
            change: |_, how| how.layout = HeadLayout::HeadsInnermost,
        },
    ],
    example: "the fused `qkv` read head by head",
};
