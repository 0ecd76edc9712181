//! What is in one dump.

use std::collections::BTreeSet;

use cli::counted;
use cli::escape::terminal;
use golden::manifest::{Producer, Request};
use golden::{Dump, Entry};

use super::numbers::list;
use super::sentences::squeeze;
use measure::metric::Statistics;

/// The widest that a column gets; what is longer stands out of it, and moves its own line only.
const WIDEST: usize = 120;

/// Renders a dump: who made it from what, and a line for each of some of its entries.
///
/// `statistics` has one element for each entry, in the same order.
pub fn show(dump: &Dump, entries: &[&Entry], statistics: &[Statistics]) -> String {
    let mut out = String::new();
    for (label, text) in head(dump) {
        out.push_str(&format!("{label:<12} {}\n", terminal(&text)));
    }
    out.push('\n');
    table(&mut out, entries, statistics);
    out
}

/// The lines before the table: what each tells, and the text as the manifest has it.
fn head(dump: &Dump) -> Vec<(&'static str, String)> {
    let manifest = dump.manifest();
    let mut lines = vec![("dump", dump.path().display().to_string())];
    lines.extend(producer(&manifest.producer));
    if let Some(checkpoint) = &manifest.checkpoint {
        let revision =
            checkpoint.revision.as_ref().map_or_else(String::new, |revision| format!(" at {revision}"));
        lines.push(("checkpoint", format!("{}{revision}", checkpoint.name)));
    }
    for (file, hash) in &manifest.remote_code {
        lines.push(("remote code", format!("{} {file}", hash.get(..16).unwrap_or(hash))));
    }
    lines.extend(manifest.request.iter().flat_map(request));
    lines.extend(manifest.prompt.iter().map(|prompt| ("prompt", format!("{:?}", squeeze(prompt)))));
    lines.extend(manifest.generated_ids.iter().map(|ids| ("generated", format!("{ids:?}"))));
    lines.extend(manifest.text.iter().map(|text| ("text", format!("{text:?}"))));
    lines.push(("entries", format!("{}, {:.1} MB", dump.entries().len(), dump.size_bytes() as f64 / 1e6)));
    let sketches: Vec<_> = dump.entries().iter().filter_map(|entry| entry.sketch.as_deref()).collect();
    let steps: BTreeSet<u64> = dump.entries().iter().map(|entry| entry.step).collect();
    if let (Some(first), Some(last)) = (steps.first(), steps.last().filter(|&&last| last > 0)) {
        let numbers = if steps.len() as u64 == last - first + 1 {
            format!("{first} to {last}")
        } else {
            steps.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
        };
        lines.push(("steps", format!("{numbers}; NAME@3 is of step 3")));
    }
    if dump.entries().iter().any(|entry| entry.inputs.is_some()) {
        lines.push(("data flow", "recorded; --graph prints it".to_owned()));
    }
    if !sketches.is_empty() {
        let seeds: BTreeSet<u64> = sketches.iter().map(|sketch| sketch.seed).collect();
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        lines.push(("sketches", format!("{}, seed {}", sketches.len(), seeds.join(", "))));
    }
    lines
}

fn producer(producer: &Producer) -> Vec<(&'static str, String)> {
    let version = producer.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let commit = producer.commit.as_ref().map(|commit| format!(" ({commit})")).unwrap_or_default();
    let mut lines = vec![("producer", format!("{}{version}{commit}", producer.name))];
    let libraries =
        [("torch", &producer.torch), ("transformers", &producer.transformers), ("timm", &producer.timm)];
    lines.extend(libraries.into_iter().filter_map(|(name, version)| Some((name, version.clone()?))));
    lines.push(("dtype", producer.dtype.clone()));
    // Of interest where a part ran in another.
    if producer.dtypes.values().any(|dtype| *dtype != producer.dtype) {
        let parts = producer.dtypes.iter().map(|(part, dtype)| format!("{dtype} ({part})"));
        lines.push(("dtypes", parts.collect::<Vec<_>>().join(", ")));
    }
    let pixels = producer.pixel_values_dtype.iter();
    lines.extend(pixels.map(|dtype| ("pixel_values", format!("{dtype}, as they reached the tower"))));
    lines.extend(producer.device.iter().map(|device| ("device", device.clone())));
    if let Some(attention) = &producer.attention {
        let [vision, text] = [&attention.vision, &attention.text].map(|name| name.as_deref().unwrap_or("-"));
        lines.push(("attention", format!("{vision} (vision), {text} (text)")));
    }
    lines.extend(producer.threads.iter().map(|threads| ("threads", threads.to_string())));
    lines.extend(producer.cpu_capability.iter().map(|capability| ("cpu", capability.clone())));
    lines.extend(producer.deviations.iter().map(|deviation| ("deviation", deviation.clone())));
    lines
}

fn request(request: &Request) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    lines.extend(request.system.iter().map(|system| ("system", format!("{system:?}"))));
    for turn in &request.turns {
        lines.push(("user", format!("{:?}", turn.user)));
        lines.extend(turn.assistant.iter().map(|answer| ("assistant", format!("{answer:?}"))));
    }
    for image in &request.images {
        let tiles = image.tiles.map_or_else(String::new, |tiles| format!(", tiles: {tiles}"));
        lines.push(("image", format!("{}, {}×{}{tiles}", image.file, image.width, image.height)));
    }
    let limit =
        request.max_new_tokens.map(|limit| format!("at most {}", counted(limit as usize, "new token")));
    let how = request.do_sample.map(|sampled| if sampled { "sampled" } else { "greedy" }.to_owned());
    let settings: Vec<String> = [limit, how].into_iter().flatten().collect();
    if !settings.is_empty() {
        lines.push(("generation", settings.join(", ")));
    }
    lines
}

fn table(out: &mut String, entries: &[&Entry], statistics: &[Statistics]) {
    let titles =
        ["order", "name", "role", "module", "dtype", "shape", "min", "max", "mean", "l2", "nan", "inf"];
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4e}"));
    let rows = entries.iter().zip(statistics).map(|(entry, statistics)| {
        [
            entry.order.to_string(),
            terminal(&entry.key()),
            entry.role.name().to_owned(),
            if entry.module.is_empty() { "-".to_owned() } else { terminal(&entry.module) },
            entry.dtype.to_string(),
            list(&entry.shape),
            number(statistics.min),
            number(statistics.max),
            number(statistics.mean()),
            number(Some(statistics.l2())),
            statistics.non_finite.nan.to_string(),
            statistics.non_finite.inf.to_string(),
        ]
    });
    let rows: Vec<[String; 12]> = std::iter::once(titles.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; 12] = std::array::from_fn(|column| {
        let widest =
            rows.iter().map(|row| row[column].chars().count()).filter(|&width| width <= WIDEST).max();
        widest.unwrap_or(0)
    });
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            // Words stand to the left and numbers to the right.
            let [left, right] = if (1..=5).contains(&column) { ["", &padding] } else { [&padding, ""] };
            line.extend([left, cell, right, "  "]);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}
