//! Scores are scaled otherwise.

use super::attention;
use super::attention_core::{Variant, pattern};
use super::kind::Diagnosis;

pub(super) const DIAGNOSIS: Diagnosis = Diagnosis {
    name: "attention_scale",
    asks: attention::asks,
    test: |probe| attention::won(probe, "attention_scale"),
    last: true,
    supersedes: &[],
    variants: &[
        Variant {
            pattern: pattern!("scores are not divided by the root of `head_dim`"),
            applies: |_| true,
            change: |_, how| how.scale = 1.0,
        },
        Variant {
            pattern: pattern!("scores are divided twice by the root of `head_dim`"),
            applies: |_| true,
            change: |_, how| how.scale = how.scale.powi(2),
        },
        Variant {
            pattern: pattern!("scores are divided by the root of the width, and not of `head_dim`"),
            applies: |_| true,
            change: |core, how| how.scale = ((core.heads * core.head_dim) as f32).powf(-0.5),
        },
    ],
    example: "scores divided by the root of the width, and not of `head_dim`",
};
