//! What is in one dump.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use golden::{Dump, Entry};

use super::numbers::list;
use super::{escaped, escaped_lines};
use crate::metric::Statistics;

/// Renders a dump: who made it from what, and a line for each entry.
///
/// `statistics` has one element for each entry, in the same order.
pub fn show(dump: &Dump, statistics: &[Statistics]) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = head(&mut out, dump);
    out = escaped_lines(&out);
    out.push('\n');
    table(&mut out, dump.entries(), statistics);
    out
}

fn head(out: &mut String, dump: &Dump) -> std::fmt::Result {
    let manifest = dump.manifest();
    let producer = &manifest.producer;
    let version = producer.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let commit = producer.commit.as_ref().map(|commit| format!(" ({commit})")).unwrap_or_default();
    writeln!(out, "dump         {}", dump.path().display())?;
    writeln!(out, "producer     {}{version}{commit}", producer.name)?;
    let libraries =
        [("torch", &producer.torch), ("transformers", &producer.transformers), ("timm", &producer.timm)];
    for (name, version) in libraries {
        if let Some(version) = version {
            writeln!(out, "{name:<12} {version}")?;
        }
    }
    writeln!(out, "dtype        {}", producer.dtype)?;
    // Of interest where a part ran in another.
    if producer.dtypes.values().any(|dtype| *dtype != producer.dtype) {
        let parts: Vec<String> =
            producer.dtypes.iter().map(|(part, dtype)| format!("{dtype} ({part})")).collect();
        writeln!(out, "dtypes       {}", parts.join(", "))?;
    }
    if let Some(dtype) = &producer.pixel_values_dtype {
        writeln!(out, "pixel_values {dtype}, as they reached the tower")?;
    }
    if let Some(device) = &producer.device {
        writeln!(out, "device       {device}")?;
    }
    if let Some(attention) = &producer.attention {
        let [vision, text] = [&attention.vision, &attention.text].map(|name| name.as_deref().unwrap_or("-"));
        writeln!(out, "attention    {vision} (vision), {text} (text)")?;
    }
    if let Some(threads) = producer.threads {
        writeln!(out, "threads      {threads}")?;
    }
    if let Some(capability) = &producer.cpu_capability {
        writeln!(out, "cpu          {capability}")?;
    }
    for deviation in &producer.deviations {
        writeln!(out, "deviation    {deviation}")?;
    }
    if let Some(checkpoint) = &manifest.checkpoint {
        let revision =
            checkpoint.revision.as_ref().map_or_else(String::new, |revision| format!(" at {revision}"));
        writeln!(out, "checkpoint   {}{revision}", checkpoint.name)?;
    }
    for (file, hash) in &manifest.remote_code {
        writeln!(out, "remote code  {} {file}", hash.get(..16).unwrap_or(hash))?;
    }
    if let Some(request) = &manifest.request {
        if let Some(system) = &request.system {
            writeln!(out, "system       {system:?}")?;
        }
        for turn in &request.turns {
            writeln!(out, "user         {:?}", turn.user)?;
            if let Some(answer) = &turn.assistant {
                writeln!(out, "assistant    {answer:?}")?;
            }
        }
        for image in &request.images {
            let tiles = image.tiles.map_or_else(String::new, |tiles| format!(", tiles: {tiles}"));
            writeln!(out, "image        {}, {}×{}{tiles}", image.file, image.width, image.height)?;
        }
        let limit = request.max_new_tokens.map(|limit| format!("at most {limit} new tokens"));
        let how = request.do_sample.map(|sampled| if sampled { "sampled" } else { "greedy" }.to_owned());
        let settings: Vec<String> = [limit, how].into_iter().flatten().collect();
        if !settings.is_empty() {
            writeln!(out, "generation   {}", settings.join(", "))?;
        }
    }
    if let Some(prompt) = &manifest.prompt {
        writeln!(out, "prompt       {:?}", squeeze(prompt))?;
    }
    if let Some(ids) = &manifest.generated_ids {
        writeln!(out, "generated    {ids:?}")?;
    }
    if let Some(text) = &manifest.text {
        writeln!(out, "text         {text:?}")?;
    }
    let entries = dump.entries().len();
    writeln!(out, "entries      {entries}, {:.1} MB", dump.size_bytes() as f64 / 1e6)?;
    let sketches: Vec<_> = dump.entries().iter().filter_map(|entry| entry.sketch.as_deref()).collect();
    if !sketches.is_empty() {
        let seeds: BTreeSet<u64> = sketches.iter().map(|sketch| sketch.seed).collect();
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        writeln!(out, "sketches     {}, seed {}", sketches.len(), seeds.join(", "))?;
    }
    Ok(())
}

/// A prompt whose hundreds of image tokens in a row are counted rather than shown.
fn squeeze(prompt: &str) -> String {
    const TOKEN: &str = "<image>";
    let mut out = String::new();
    let mut rest = prompt;
    while let Some(start) = rest.find(TOKEN) {
        out.push_str(&rest[..start]);
        let run = &rest[start..];
        let count = run.as_bytes().chunks(TOKEN.len()).take_while(|chunk| *chunk == TOKEN.as_bytes()).count();
        out.push_str(TOKEN);
        if count > 1 {
            out.push_str(&format!("×{count}"));
        }
        rest = &run[count * TOKEN.len()..];
    }
    out.push_str(rest);
    out
}

fn table(out: &mut String, entries: &[Entry], statistics: &[Statistics]) {
    let titles =
        ["order", "name", "role", "module", "dtype", "shape", "min", "max", "mean", "l2", "nan", "inf"];
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4e}"));
    let rows = entries.iter().zip(statistics).map(|(entry, statistics)| {
        [
            entry.order.to_string(),
            escaped(&entry.name),
            entry.role.name().to_owned(),
            if entry.module.is_empty() { "-".to_owned() } else { escaped(&entry.module) },
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
    let widths: [usize; 12] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    for row in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Words stand to the left and numbers to the right.
            if (1..=5).contains(&column) {
                line.push_str(&format!("{cell:<width$}  "));
            } else {
                line.push_str(&format!("{cell:>width$}  "));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn image_tokens_in_a_row_are_counted() {
        let prompt = "a<img><image><image><image></img>b <image> c";
        assert_eq!(super::squeeze(prompt), "a<img><image>×3</img>b <image> c");
    }
}
