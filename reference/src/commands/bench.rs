//! `nvl-reference bench`.

use std::fmt::{self, Write as _};
use std::time::Instant;

use anyhow::Result;
use reference::Math;
use reference::arguments::BenchArguments;
use reference::benchmark::{Benchmark, BenchmarkConfig, benchmark};
use reference::device::device_name;
use reference::memory::peak_resident_bytes;
use reference::settings::{Settings, TORCH_VERSION};
use serde::Serialize;

use super::{Verdict, load_model, print, print_json, spinner};

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    torch: &'static str,
    device: String,
    dtype: &'static str,
    math: &'static str,
    threads: i32,
    load_secs: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_resident_bytes: Option<u64>,
    #[serde(flatten)]
    benchmark: Benchmark,
}

/// Runs the command.
pub fn run(args: BenchArguments) -> Result<Verdict> {
    Settings { threads: args.model.threads, ..Settings::default() }.apply();
    let start = Instant::now();
    let model = load_model(&args.model, args.model.dtype, Math::Fast)?;
    let load_secs = start.elapsed().as_secs_f64();
    let config = BenchmarkConfig {
        tiles: args.tiles,
        prompt_tokens: args.prompt_tokens,
        new_tokens: args.new_tokens,
        runs: args.runs,
    };
    let progress = spinner(format!("measuring {} runs", args.runs));
    let benchmark = benchmark(&model, config)?;
    progress.finish_and_clear();
    let report = Report {
        version: env!("CARGO_PKG_VERSION"),
        torch: TORCH_VERSION,
        device: device_name(model.device()),
        dtype: model.dtype().as_str(),
        math: model.math().as_str(),
        threads: tch::get_num_threads(),
        load_secs,
        peak_resident_bytes: peak_resident_bytes(),
        benchmark,
    };
    if args.json {
        print_json(&report)?;
    } else {
        print(&text(&report)?)?;
    }
    Ok(Verdict::Yes)
}

fn text(report: &Report) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let Report { benchmark, .. } = report;
    writeln!(
        text,
        "{}, {}, math {}, {} threads, libtorch {}",
        report.device, report.dtype, report.math, report.threads, report.torch
    )?;
    writeln!(text, "load     {:>10.3} s", report.load_secs)?;
    if let Some(secs) = benchmark.vision_secs {
        writeln!(text, "vision   {secs:>10.3} s for {} tiles", benchmark.tiles)?;
    }
    writeln!(
        text,
        "prefill  {:>10.3} s for {} tokens, {:.1} tokens/s",
        benchmark.prefill_secs, benchmark.prompt_tokens, benchmark.prefill_tokens_per_sec
    )?;
    writeln!(
        text,
        "decode   {:>10.3} ms a token, {:.2} GB/s of weights",
        benchmark.decode_secs_per_token * 1e3,
        benchmark.decode_gb_per_sec
    )?;
    if let Some(speed) = benchmark.memory_gb_per_sec {
        let share = benchmark.decode_gb_per_sec / speed * 100.0;
        writeln!(text, "memory   {speed:>10.2} GB/s read by a sum: decoding uses {share:.0} %")?;
    }
    if let Some(bytes) = report.peak_resident_bytes {
        writeln!(text, "resident {:>10.2} GB at most, mapped weights included", bytes as f64 / 1e9)?;
    }
    Ok(text)
}
