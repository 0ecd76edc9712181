//! The report for a reader: one page that needs no network.
//!
//! What a reader must know is in the page's own text; the drawings are made of the data that the page carries.

mod level;
mod steps;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cli::escape::{html as text, terminal as plain};
use serde::Serialize;

use super::format::Format;
use super::numbers::{count, relative_l2, short, short_or_dash};
use super::sentences::{self, Before};
use crate::entry::EntryReport;
use crate::result::{DiffReport, Divergence};
use crate::tiles::Tiles;
use level::level;
use measure::metric::RowError;
use measure::model::SiteRole;
use measure::tolerance::{Metric, Tolerance};

/// Rows are told singly up to this number, and else by the worst of some neighbours.
const SINGLE_ROWS: usize = 1024;

/// The same of the outputs of layers and of the first divergence, which are looked at most.
const SINGLE_ROWS_OF_LAYERS: usize = 1 << 14;

/// A page.
pub(in crate::report) const FORMAT: Format = Format {
    name: "html",
    extension: "html",
    is_report: |head| head.contains("<title>nvl-validate: "),
    render: |report, _| render(report),
};

fn render(report: &DiffReport) -> String {
    let verdict = if report.passes() { "pass" } else { "fail" };
    // In a script element nothing but its end and a comment has a meaning, and both begin with this sign.
    let data = serde_json::to_string(&Data::of(report)).unwrap_or_default().replace('<', "\\u003c");
    PAGE.replace("{style}", include_str!("style.css"))
        .replace("{verdict}", verdict)
        .replace("{sides}", &sides(report))
        .replace("{divergence}", &divergence(report))
        .replace("{summary}", &summary(report))
        .replace("{steps}", &(steps::map(report) + &logits(report)))
        .replace("{rows}", &table(report))
        .replace("{script}", include_str!("page.js"))
        // The last one, since it may hold anything.
        .replace("{data}", &data)
}

const PAGE: &str = include_str!("page.html");

#[derive(Serialize)]
struct Data<'a> {
    first: Option<usize>,
    entries: Vec<EntryData<'a>>,
    tiles: Option<TilesData>,
    /// The patches of a tile.
    patches: Option<usize>,
}

#[derive(Serialize)]
struct EntryData<'a> {
    /// None of what only the candidate has.
    order: Option<u64>,
    name: String,
    class: String,
    dtype: &'static str,
    shape: &'a [usize],
    verdict: &'static str,
    origin: &'static str,
    /// Whether the numbers are estimates.
    estimated: bool,
    /// Nothing of these that is not a finite number.
    l2: Option<f64>,
    row: Option<f64>,
    abs: Option<f64>,
    ulps: Option<u64>,
    limit: Option<f64>,
    rounding: Option<f64>,
    noise: Option<f64>,
    lines: Vec<String>,
    inputs: &'a [usize],
    rows: Option<RowsData>,
}

/// The relative error of each row, or the largest of `per` neighbours: one byte on a logarithmic scale, in base 64.
#[derive(Serialize)]
struct RowsData {
    count: usize,
    per: usize,
    bytes: String,
}

#[derive(Serialize)]
struct TilesData {
    width: usize,
    height: usize,
    images: Vec<String>,
}

impl<'a> Data<'a> {
    fn of(report: &'a DiffReport) -> Self {
        let first = match report.first_divergence() {
            Some(Divergence::Entry(index)) => Some(index),
            _ => None,
        };
        let before = Before::of(report);
        let patches = report.entries.iter().find(|entry| entry.site_role == Some(SiteRole::Patches));
        Data {
            first,
            entries: report
                .entries
                .iter()
                .enumerate()
                .map(|(index, entry)| EntryData::of(report, &before, index, entry, first))
                .collect(),
            tiles: report.tiles.as_ref().and_then(TilesData::of),
            patches: patches.and_then(|entry| entry.entry.shape.get(1).copied()),
        }
    }
}

impl<'a> EntryData<'a> {
    fn of(
        report: &DiffReport,
        before: &Before,
        index: usize,
        entry: &'a EntryReport,
        first: Option<usize>,
    ) -> Self {
        let measurement = entry.measurement.as_ref();
        let of = |metric: Metric| measurement.and_then(|m| metric.of(m)).filter(|value| value.is_finite());
        let limit = match &entry.tolerance {
            Tolerance::Bounds(bounds) => bounds.relative_l2,
            Tolerance::Exact | Tolerance::Ignored { .. } => None,
        };
        EntryData {
            order: (!entry.only_candidate).then_some(entry.entry.order),
            name: plain(&entry.entry.key()),
            class: plain(sentences::class(entry)),
            dtype: entry.entry.dtype.name(),
            shape: &entry.entry.shape,
            verdict: sentences::verdict(entry),
            origin: entry.origin.kind.name(),
            estimated: measurement.is_some_and(|m| m.estimated),
            l2: of(Metric::RelativeL2),
            row: of(Metric::RowRelativeL2),
            abs: of(Metric::MaxAbs),
            ulps: measurement.and_then(|m| m.max_ulps),
            limit,
            rounding: entry.origin.rounding,
            noise: entry.noise.as_ref().map(|level| level.relative_l2),
            lines: sentences::entry_lines(report, before, index, entry)
                .iter()
                .map(|line| plain(line))
                .collect(),
            inputs: &entry.origin.inputs,
            rows: measurement.and_then(|m| {
                let single = if first == Some(index) || is_layer(&entry.entry.name) {
                    SINGLE_ROWS_OF_LAYERS
                } else {
                    SINGLE_ROWS
                };
                RowsData::of(&m.rows, single)
            }),
        }
    }
}

/// Whether a name is that of a numbered module of a list: the output of a whole layer.
fn is_layer(name: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
}

impl RowsData {
    fn of(rows: &[RowError], single: usize) -> Option<Self> {
        if rows.is_empty() {
            return None;
        }
        let per = rows.len().div_ceil(single);
        let bytes: Vec<u8> = rows
            .chunks(per)
            .map(|rows| level(rows.iter().map(|row| row.relative).fold(0.0, f32::max)))
            .collect();
        Some(RowsData { count: rows.len(), per, bytes: STANDARD.encode(bytes) })
    }
}

impl TilesData {
    fn of(tiles: &Tiles) -> Option<Self> {
        let images = tiles.rgb.chunks_exact(tiles.height * tiles.width * 3).map(|rgb| {
            let mut file = Vec::new();
            let mut encoder = png::Encoder::new(
                &mut file,
                u32::try_from(tiles.width).ok()?,
                u32::try_from(tiles.height).ok()?,
            );
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            let mut writer = encoder.write_header().ok()?;
            writer.write_image_data(rgb).ok()?;
            writer.finish().ok()?;
            Some(format!("data:image/png;base64,{}", STANDARD.encode(file)))
        });
        let images = images.collect::<Option<Vec<String>>>()?;
        Some(TilesData { width: tiles.width, height: tiles.height, images })
    }
}

fn sides(report: &DiffReport) -> String {
    let mut out = String::new();
    for (name, side) in [("Golden", &report.golden), ("Candidate", &report.candidate)] {
        let path = text(&side.path.display().to_string());
        let _ = write!(
            out,
            "<dt>{name}</dt><dd><code>{path}</code><br>{}</dd>",
            text(&sentences::producer(side))
        );
    }
    for (name, limits) in sentences::limits(report) {
        let _ = write!(out, "<dt>{name}</dt><dd><code>{}</code></dd>", text(&limits));
    }
    out
}

fn divergence(report: &DiffReport) -> String {
    let Some((headline, lines)) = sentences::divergence(report) else {
        return "<p>No divergence.</p>".to_owned();
    };
    let mut out = format!("<p class=\"headline\">{}</p><ul>", text(&headline));
    for line in lines {
        let _ = write!(out, "<li>{}</li>", text(&line));
    }
    out.push_str("</ul>");
    if let Some(fresh) = sentences::all_fresh(report) {
        let _ = write!(out, "<p>{}</p>", text(&fresh));
    }
    out
}

fn summary(report: &DiffReport) -> String {
    let mut sentences = vec![sentences::counts(report)];
    sentences.extend(sentences::not_recorded(report));
    sentences.extend(sentences::answer(report));
    sentences.extend(report.notes.iter().map(|note| format!("note: {}", sentences::note(report, note))));
    if !report.verified {
        sentences.push("the recorded hashes were not checked".to_owned());
    }
    sentences.iter().map(|sentence| format!("<li>{}</li>", text(sentence))).collect()
}

fn table(report: &DiffReport) -> String {
    let mut out = String::new();
    for (index, entry) in report.entries.iter().enumerate() {
        let measurement = entry.measurement.as_ref();
        let of = |metric: Metric| short_or_dash(measurement.and_then(|m| metric.of(m)));
        let verdict = sentences::verdict(entry);
        let _ = writeln!(
            out,
            "<tr data-index=\"{index}\" class=\"{}\"><td>{}</td><td><code>{}</code>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            verdict.to_lowercase().replace('/', "-"),
            sentences::order(entry),
            text(&entry.entry.key()),
            sentences::counterpart(entry)
                .map_or_else(String::new, |of| format!("<br><small>{}</small>", text(&of))),
            text(sentences::class(entry)),
            relative_l2(measurement),
            of(Metric::RowRelativeL2),
            of(Metric::MaxAbs),
            measurement.and_then(|m| m.max_ulps).map_or_else(|| "-".to_owned(), count),
            verdict.to_lowercase(),
        );
    }
    out
}

/// The logits of each generated token; nothing if they were not compared.
fn logits(report: &DiffReport) -> String {
    let Some(logits) = report.answer.logits.as_ref().filter(|logits| !logits.steps.is_empty()) else {
        return String::new();
    };
    let mut out = String::from(
        "<section aria-labelledby=\"steps-title\"><h2 id=\"steps-title\">Generated tokens</h2><div class=\"scroll\"><table>\
         <thead><tr><th>position</th><th>top 1</th><th>top 5</th><th>top 10</th><th>KL divergence</th></tr></thead><tbody>\n",
    );
    for (position, step) in logits.steps.iter().enumerate() {
        let common = sentences::common(step).join("</td><td>");
        let _ = writeln!(
            out,
            "<tr><td>{position}</td><td>{common}</td><td>{}</td></tr>",
            short(step.kl_divergence)
        );
    }
    out.push_str("</tbody></table></div></section>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outputs_of_layers_are_known() {
        assert!(is_layer("model.layers.12"));
        assert!(!is_layer("model.layers.12.mlp"));
    }
}
