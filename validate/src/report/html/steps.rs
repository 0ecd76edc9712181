//! The sites of all steps of decoding: a table of errors that is its own heat map.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use cli::escape::html as text;
use indexmap::IndexMap;

use super::level::level;
use crate::entry::EntryReport;
use crate::report::numbers::relative_l2;
use crate::report::sentences;
use crate::report::steps::has_steps;
use crate::result::DiffReport;

/// The shades, from none to the strongest.
const SHADES: usize = 10;

const STYLE: &str = "\
#steps-map th:first-child{position:sticky;left:0;background:Canvas;text-align:left}\
#steps-map td{text-align:right;white-space:nowrap}\
#steps-map td.fresh{outline:2px solid;outline-offset:-2px;font-weight:bold}";

/// A section with a row for each site and a column for each step; nothing where there is only the prefill.
pub(super) fn map(report: &DiffReport) -> String {
    if !has_steps(report) {
        return String::new();
    }
    let steps: BTreeSet<u64> = report.entries.iter().map(|entry| entry.entry.step).collect();
    let mut sites: IndexMap<&str, HashMap<u64, &EntryReport>> = IndexMap::new();
    for entry in &report.entries {
        sites.entry(&entry.entry.name).or_default().entry(entry.entry.step).or_insert(entry);
    }
    let mut out = String::from(
        "<section aria-labelledby=\"steps-map-title\"><h2 id=\"steps-map-title\">Sites and steps</h2>\
         <p class=\"keys\">The relative L2 of each site at each step: the darker, the larger. Framed: an introduced error.</p><style>",
    );
    out.push_str(STYLE);
    for shade in 1..SHADES {
        let percent = 8 * shade;
        let _ =
            write!(out, "#steps-map .s{shade}{{background:color-mix(in srgb,#d8432f {percent}%,Canvas)}}");
    }
    out.push_str("</style><div class=\"scroll\"><table id=\"steps-map\"><thead><tr><th>site</th>");
    for step in &steps {
        let _ = write!(out, "<th>{step}</th>");
    }
    out.push_str("</tr></thead><tbody>\n");
    for (name, of) in &sites {
        let _ = write!(out, "<tr><th scope=\"row\"><code>{}</code></th>", text(name));
        for step in &steps {
            out.push_str(&of.get(step).map_or_else(|| "<td></td>".to_owned(), |entry| cell(entry)));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div></section>");
    out
}

fn cell(entry: &EntryReport) -> String {
    let error = entry.measurement.as_ref().and_then(|measurement| measurement.relative_l2);
    let shade = error.map_or(0, |error| usize::from(level(error as f32)) * (SHADES - 1) / 255);
    let verdict = sentences::verdict(entry).to_lowercase();
    let fresh = if entry.origin.is_fresh() { " fresh" } else { "" };
    let number = match error {
        Some(_) => text(&relative_l2(entry.measurement.as_ref())),
        None => text(&verdict),
    };
    format!("<td class=\"s{shade}{fresh}\" title=\"{}\">{number}</td>", text(&verdict))
}
