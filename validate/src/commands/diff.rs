//! `nvl-validate diff`.

use std::io;

use golden::Dump;
use validate::arguments::DiffArguments;
use validate::{DiffOptions, Error, NameMap, Noise, Policy, Result, Tokens, diff, report};

use super::open_all;
use super::output::{print, progress_bar, write_report};

/// Runs the command: whether the candidate passes.
pub(crate) fn run(arguments: &DiffArguments) -> Result<bool> {
    if arguments.out.is_none() && arguments.format.len() > 1 {
        return Err(Error::SeveralFormats { found: arguments.format.len() });
    }
    let mut policy = arguments.policy.as_ref().map_or_else(|| Ok(Policy::default()), Policy::read)?;
    policy.preset = arguments.preset.or(policy.preset);
    let names = arguments.names.as_deref().map(NameMap::read).transpose()?;
    let tokens = arguments.tokenizer.as_ref().map(Tokens::read).transpose()?;
    let golden = Dump::open(&arguments.golden)?;
    let candidate = Dump::open(&arguments.candidate)?;
    let runs = open_all(&arguments.noise)?;
    let noise_bytes: u64 = runs.iter().map(Dump::size_bytes).sum();
    let bar = progress_bar(golden.size_bytes() + candidate.size_bytes() + noise_bytes);
    let (verify, progress) = (!arguments.no_verify, |bytes| bar.inc(bytes));
    let noise = if runs.is_empty() {
        None
    } else {
        Some(Noise::measure(&golden, &runs, arguments.noise_factor, verify, &progress)?)
    };
    let options = DiffOptions {
        policy: &policy,
        noise: noise.as_ref(),
        names: names.as_ref(),
        relation: arguments.relation,
        verify,
        progress: &progress,
    };
    let mut report = diff(&golden, &candidate, &options)?;
    bar.finish_and_clear();
    tokens.iter().for_each(|tokens| report.name_tokens(tokens));

    let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    if let Some(folder) = &arguments.out {
        let formats = if arguments.format.is_empty() { report::FORMATS } else { &arguments.format };
        let options = report::Options { all: arguments.all, colour: false };
        for format in formats {
            write_report(folder, format.extension, &format.render(&report, options))?;
        }
    }
    let on_stdout = match (&arguments.out, arguments.format.first()) {
        (None, Some(format)) => format,
        _ => &report::TABLE,
    };
    print(&on_stdout.render(&report, report::Options { all: arguments.all, colour }))?;
    Ok(report.passes())
}
