//! A bar on stderr where stderr is a terminal, and Ctrl-C as a wish to stop.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::Context;
use cli::escape::terminal;
use converter::plan::human_bytes;
use converter::source::Watch;
use converter::write::Observer;
use indicatif::{ProgressBar, ProgressStyle};

/// Watches one operation.
pub(crate) struct Progress {
    bar: ProgressBar,
    begun: Instant,
    stopped: Arc<AtomicBool>,
}

impl Progress {
    /// Begins to watch; from here on Ctrl-C lets the operation clean up.
    pub(crate) fn watching() -> anyhow::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("cannot catch Ctrl-C")?;
        // indicatif draws on stderr, and nothing where it is no terminal.
        let bar = ProgressBar::no_length();
        let template = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Ok(Self { bar, begun: Instant::now(), stopped })
    }

    /// Tells how many bytes there will be.
    pub(crate) fn expect(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    /// Takes the bar away; what was done, and how fast.
    pub(crate) fn finish(&self) -> String {
        let (bytes, secs) = (self.bar.position(), self.begun.elapsed().as_secs_f64());
        self.bar.finish_and_clear();
        let rate = human_bytes((bytes as f64 / secs.max(1e-3)) as u64);
        format!("{} read in {secs:.1} s, {rate}/s", human_bytes(bytes))
    }
}

impl Observer for Progress {
    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// Watches files on their way from the hub; Ctrl-C ends the program, and the next run goes on where it stopped.
#[derive(Default)]
pub(crate) struct Fetching {
    bar: RefCell<Option<ProgressBar>>,
}

impl Watch for Fetching {
    fn begin(&self, file: &str, bytes: u64) {
        let bar = ProgressBar::new(bytes);
        if let Ok(style) = ProgressStyle::with_template(
            "{msg} {bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
        ) {
            bar.set_style(style);
        }
        bar.set_message(terminal(file));
        if let Some(before) = self.bar.replace(Some(bar)) {
            before.finish_and_clear();
        }
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bar.borrow().as_ref() {
            bar.inc(bytes);
        }
    }

    fn note(&self, text: &str) {
        eprintln!("warning: {}", terminal(text));
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
