//! Pixels as rows, colour by colour.

use golden::{Dump, TensorView};
use measure::model::model_of;

use super::case::Case;
use super::layout::Layout;
use super::roles::SiteRole;

/// How many rows each colour of a tile has, if the rows are pixels.
pub(super) fn rows_per_channel(case: &Case<'_>, layout: &Layout) -> Option<usize> {
    let &Layout::Pixels { tiles } = layout else { return None };
    Some(case.rows / (3 * tiles.max(1))).filter(|&rows| rows > 0)
}

/// The pixels that the golden run was given, if there are as many as in the case.
pub(super) fn given_pixels<'a>(golden: &'a Dump, case: &Case<'_>) -> Option<TensorView<'a>> {
    let pixels = model_of(golden.entries()).entry(golden, SiteRole::Pixels)?;
    golden.get(&pixels.key()).filter(|given| given.len_elems() == case.rows * case.columns)
}
