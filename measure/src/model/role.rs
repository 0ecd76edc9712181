//! What a site is for, whatever the model calls it.

use serde::Deserialize;

/// What a diagnosis or a report may ask a site to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SiteRole {
    /// The pixels as they are given, [tiles, 3, height, width].
    Pixels,
    /// The pixels as the tower normalises them.
    Conditioner,
    /// The parts of each tile, [tiles, patches, 3 · side · side].
    Patches,
    /// The embedded patches with their positions, behind the prefix tokens.
    Positioned,
    /// Queries, keys and values of one projection, in this order.
    FusedQkv,
    /// The projector of the tower's features, and what is in it.
    Projector,
    /// Queries of all heads, one head after the other.
    Queries,
    /// Keys likewise.
    Keys,
    /// Values likewise.
    Values,
    /// A norm that divides by the root of the mean square.
    RmsNorm,
    /// A norm that subtracts the mean and divides by the deviation.
    LayerNorm,
    /// The cosines of the rotary angles.
    Cos,
    /// The sines.
    Sin,
    /// The logits that chose each generated token, [steps, vocab].
    StepLogits,
}
