//! What the roles of sites tell the diagnoses.

use std::borrow::Cow;

use golden::Dump;
use measure::model::model_of;

pub(super) use measure::model::SiteRole;

use crate::entry::EntryReport;

/// The parts of a fused projection, in their order.
pub(super) const QKV_PARTS: [&str; 3] = ["queries", "keys", "values"];

/// How many channels a fused projection has for each of [`QKV_PARTS`]; none of another site.
pub(super) fn qkv_width(entry: &EntryReport, columns: usize) -> Option<usize> {
    (entry.site_role == Some(SiteRole::FusedQkv) && columns.is_multiple_of(3)).then_some(columns / 3)
}

/// Whether the channels of a site are those of heads, one after the other.
pub(super) fn is_by_heads(entry: &EntryReport) -> bool {
    matches!(entry.site_role, Some(SiteRole::Queries | SiteRole::Keys | SiteRole::Values))
}

/// Whether the numbers of a site are rotated in pairs or halves of a head, or are the angles of that.
pub(super) fn is_rotated(entry: &EntryReport) -> bool {
    matches!(entry.site_role, Some(SiteRole::Queries | SiteRole::Keys | SiteRole::Cos | SiteRole::Sin))
}

/// Whether a site is a norm; `Some(true)` for one that divides by the root of the mean square and subtracts no mean.
pub(super) fn norm(entry: &EntryReport) -> Option<bool> {
    let class = &entry.entry.module;
    match entry.site_role {
        Some(SiteRole::RmsNorm) => Some(true),
        Some(SiteRole::LayerNorm) => Some(false),
        _ => class.contains("Norm").then(|| class.contains("RMS")),
    }
}

/// The size of a head of the language model, as its rotary embedding has it.
pub(super) fn head_dim(golden: &Dump) -> Option<usize> {
    model_of(golden.entries()).head_size(golden)
}

/// The key of another output of the same module in the same step, by its role.
pub(super) fn beside<'a>(
    entries: &'a [EntryReport],
    of: &EntryReport,
    wanted: SiteRole,
) -> Option<Cow<'a, str>> {
    let (module, _) = of.entry.name.rsplit_once('.')?;
    let is_in_module = |name: &str| name.rsplit_once('.').is_some_and(|(of, _)| of == module);
    let mut others = entries.iter().filter(|other| other.site_role == Some(wanted));
    let other = others.find(|other| other.entry.step == of.entry.step && is_in_module(&other.entry.name));
    other.map(|other| other.entry.key())
}
