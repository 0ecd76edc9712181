//! What the roles of sites tell the diagnoses.

use golden::Dump;
use measure::model::model;

pub(super) use measure::model::SiteRole;

use crate::entry::EntryReport;

/// The parts of a fused projection, in their order.
pub(super) const QKV_PARTS: [&str; 3] = ["queries", "keys", "values"];

/// What a site is for.
pub(super) fn role(name: &str) -> Option<SiteRole> {
    model().role(name)
}

/// How many channels a fused projection has for each of [`QKV_PARTS`]; none of another site.
pub(super) fn qkv_width(name: &str, columns: usize) -> Option<usize> {
    (role(name) == Some(SiteRole::FusedQkv) && columns.is_multiple_of(3)).then_some(columns / 3)
}

/// Whether the channels of a site are those of heads, one after the other.
pub(super) fn is_by_heads(name: &str) -> bool {
    matches!(role(name), Some(SiteRole::Queries | SiteRole::Keys | SiteRole::Values))
}

/// Whether the numbers of a site are rotated in pairs or halves of a head, or are the angles of that.
pub(super) fn is_rotated(name: &str) -> bool {
    matches!(role(name), Some(SiteRole::Queries | SiteRole::Keys | SiteRole::Cos | SiteRole::Sin))
}

/// The size of a head of the language model, as its rotary embedding has it.
pub(super) fn head_dim(golden: &Dump) -> Option<usize> {
    golden.entry(&model().head_angles).and_then(|entry| entry.shape.last().copied())
}

/// The site of another output of the same module, by its role.
pub(super) fn beside<'a>(entries: &'a [EntryReport], name: &str, wanted: SiteRole) -> Option<&'a str> {
    let (module, _) = name.rsplit_once('.')?;
    let is_in_module = |other: &str| other.rsplit_once('.').is_some_and(|(of, _)| of == module);
    let mut names = entries.iter().map(|entry| entry.entry.name.as_str());
    names.find(|other| role(other) == Some(wanted) && is_in_module(other))
}
