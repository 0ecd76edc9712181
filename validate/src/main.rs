//! `nvl-validate`: prints, and sets the exit status.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, RangedU64ValueParser};
use clap::{Parser, Subcommand};
use golden::{Dump, DumpWriter, WriteOptions, sketch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rayon::prelude::*;
use validate::tolerance::Preset;
use validate::{
    Error, NameMap, Noise, Policy, Result, Tokens, diff_with_names, metric, names, noise, report,
};

/// Compares activation dumps layer by layer and names the first divergence.
///
/// Exit status: 0 if everything is within its tolerance, 1 if something is not, 2 if that could not be told.
#[derive(Parser)]
#[command(name = "nvl-validate", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compares a candidate's dump with the golden one.
    Diff(DiffArguments),
    /// Writes a policy from right runs, to standard output.
    Calibrate(CalibrateArguments),
    /// Lists the ready-made maps of names and layouts, or prints one.
    Maps {
        /// The map to print.
        #[arg(value_parser = PossibleValuesParser::new(names::builtin::names()))]
        name: Option<String>,
    },
    /// Proposes a map from a candidate's names and layouts to those of a golden dump.
    Names {
        /// The folder of the dump that is right.
        golden: PathBuf,
        /// The folder of the dump with names of its own, of the same request.
        candidate: PathBuf,
        /// A file for the map; standard output if none is named.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Makes a dump of sketches from a dump in full: small enough for git, and compared by estimates.
    Sketch(SketchArguments),
    /// Shows what is in a dump.
    Show {
        /// The dump's folder.
        dump: PathBuf,
    },
}

#[derive(clap::Args)]
struct DiffArguments {
    /// The folder of the dump that is right.
    golden: PathBuf,
    /// The folder of the dump to be judged.
    candidate: PathBuf,
    /// A policy with a name: every bit, or the limits of one dtype for all entries.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(Preset::NAMES))]
    preset: Option<String>,
    /// A TOML file with tolerances of your own.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A map of the candidate's names and layouts: a TOML file, or a ready-made map (`nvl-validate maps`).
    #[arg(long, value_name = "FILE|NAME")]
    names: Option<String>,
    /// A right run of the same request, whose noise gives the limits; several times for the largest of several.
    #[arg(long, value_name = "DUMP")]
    noise: Vec<PathBuf>,
    /// How many times the noise an error may be.
    #[arg(long, value_name = "K", default_value_t = NOISE_FACTOR, value_parser = factor, requires = "noise")]
    noise_factor: f64,
    /// How to present the result; several times with `--out`.
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(report::NAMES))]
    format: Vec<String>,
    /// A folder for one `report.*` file of each format (all formats if none is named).
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// A checkpoint's folder or its `tokenizer.json`, for the texts of the ids where the answers part.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Give each entry a row of its own in the table.
    #[arg(long)]
    all: bool,
    /// Do not check the tensors against their recorded hashes.
    #[arg(long)]
    no_verify: bool,
}

#[derive(clap::Args)]
struct CalibrateArguments {
    /// The folder of the dump that is right.
    golden: PathBuf,
    /// The folders of other right runs of the same request.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// How many times the noise an error may be.
    #[arg(long, value_name = "K", default_value_t = NOISE_FACTOR, value_parser = factor)]
    factor: f64,
    /// Do not check the tensors against their recorded hashes.
    #[arg(long)]
    no_verify: bool,
}

#[derive(clap::Args)]
struct SketchArguments {
    /// The folder of the dump in full.
    dump: PathBuf,
    /// The folder to make, which must not exist or be empty.
    out: PathBuf,
    /// What signs and places are drawn from: only sketches of one seed can be compared.
    #[arg(long, value_name = "N", default_value_t = sketch::DEFAULT_SEED, value_parser = seed())]
    seed: u64,
    /// Take the place of a dump that is there.
    #[arg(long)]
    force: bool,
}

fn seed() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(..sketch::SEED_LIMIT)
}

/// How many times the noise of right runs an error may be, if nothing else is said.
const NOISE_FACTOR: f64 = 3.0;

fn factor(text: &str) -> Result<f64, String> {
    let expected = || format!("expected a number from 1 on, found `{text}`");
    text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor >= 1.0).ok_or_else(expected)
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Diff(arguments) => run_diff(&arguments),
        Command::Calibrate(arguments) => run_calibrate(&arguments),
        Command::Names { golden, candidate, out } => run_names(&golden, &candidate, out.as_deref()),
        Command::Maps { name } => run_maps(name.as_deref()),
        Command::Sketch(arguments) => run_sketch(&arguments),
        Command::Show { dump } => run_show(&dump),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Nothing can be said about a closed stderr; the status says it.
            let mut stderr = anstream::stderr();
            let _ = writeln!(stderr, "error: {}", report::escaped_lines(&error.to_string()));
            if let Some(hint) = error.hint() {
                let _ = writeln!(stderr, "hint: {hint}");
            }
            ExitCode::from(2)
        }
    }
}

/// Whether the candidate passes.
fn run_diff(arguments: &DiffArguments) -> Result<bool> {
    if arguments.out.is_none() && arguments.format.len() > 1 {
        return Err(Error::SeveralFormats { found: arguments.format.len() });
    }
    let mut policy = arguments.policy.as_ref().map_or_else(|| Ok(Policy::default()), Policy::read)?;
    if let Some(preset) = &arguments.preset {
        policy.preset = Preset::named(preset);
    }
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
    let (noise, names) = (noise.as_ref(), names.as_ref());
    let mut report = diff_with_names(&golden, &candidate, &policy, noise, names, verify, &progress)?;
    bar.finish_and_clear();
    tokens.iter().for_each(|tokens| report.name_tokens(tokens));

    let colour = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    let on_stdout = match (&arguments.out, arguments.format.first()) {
        (None, Some(format)) => format,
        _ => "table",
    };
    if let Some(folder) = &arguments.out {
        let names: Vec<&str> = if arguments.format.is_empty() {
            report::NAMES.to_vec()
        } else {
            arguments.format.iter().map(String::as_str).collect()
        };
        let options = report::Options { all: arguments.all, colour: false };
        for format in names.into_iter().filter_map(|name| report::format(name, options)) {
            write_file(folder, &format!("report.{}", format.extension()), &format.render(&report))?;
        }
    }
    let options = report::Options { all: arguments.all, colour };
    if let Some(format) = report::format(on_stdout, options) {
        print(&format.render(&report))?;
    }
    Ok(report.passes())
}

fn open_all(paths: &[PathBuf]) -> Result<Vec<Dump>> {
    paths.iter().map(|path| Ok(Dump::open(path)?)).collect()
}

fn run_calibrate(arguments: &CalibrateArguments) -> Result<bool> {
    let golden = Dump::open(&arguments.golden)?;
    let runs = open_all(&arguments.runs)?;
    let bar = progress_bar(runs.iter().map(Dump::size_bytes).sum());
    let noise =
        Noise::measure(&golden, &runs, arguments.factor, !arguments.no_verify, &|bytes| bar.inc(bytes))?;
    bar.finish_and_clear();
    print(&noise::calibrate(&golden, &runs, &noise))?;
    Ok(true)
}

/// Whether every golden entry has a counterpart.
fn run_names(golden: &Path, candidate: &Path, out: Option<&Path>) -> Result<bool> {
    let (golden, candidate) = (Dump::open(golden)?, Dump::open(candidate)?);
    let proposal = names::propose(&golden, &candidate)?;
    match out {
        None => print(&proposal.text)?,
        Some(path) => {
            let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            write_file(folder.unwrap_or(Path::new(".")), &name, &proposal.text)?;
        }
    }
    let mut stderr = anstream::stderr();
    // Nothing can be said about a closed stderr; the status says it.
    let _ = writeln!(
        stderr,
        "{} of {} golden entries have a counterpart",
        proposal.matched,
        golden.entries().len()
    );
    let lists = [
        ("golden entries without one", &proposal.unmatched),
        ("tensors of the candidate that are left", &proposal.left),
    ];
    for (what, names) in lists.into_iter().filter(|(_, names)| !names.is_empty()) {
        const SHOWN: usize = 12;
        let shown: Vec<String> = names.iter().take(SHOWN).map(|name| report::escaped(name)).collect();
        let more = names.len().saturating_sub(SHOWN);
        let rest = if more > 0 { format!(" and {more} more (the map lists all)") } else { String::new() };
        let _ = writeln!(stderr, "{} {what}: {}{rest}", names.len(), shown.join(", "));
    }
    Ok(proposal.unmatched.is_empty())
}

fn run_maps(name: Option<&str>) -> Result<bool> {
    let text: String = match name {
        Some(name) => names::builtin::text(name).unwrap_or_default().to_owned(),
        None => names::BUILTIN.iter().map(|map| format!("{:<22} {}\n", map.name, map.about)).collect(),
    };
    print(&text)?;
    Ok(true)
}

fn run_sketch(arguments: &SketchArguments) -> Result<bool> {
    let dump = Dump::open(&arguments.dump)?;
    let mut options = WriteOptions::default();
    options.replace = arguments.force;
    let mut writer = DumpWriter::create_with(&arguments.out, options)?;
    let bar = progress_bar(dump.size_bytes());
    for entry in dump.entries() {
        writer.push_sketch_of(&dump, &entry.name, arguments.seed)?;
        bar.inc(dump.tensor(entry)?.data().len() as u64);
    }
    writer.finish(dump.manifest().head())?;
    bar.finish_and_clear();
    Ok(true)
}

fn run_show(path: &Path) -> Result<bool> {
    let dump = Dump::open(path)?;
    let bar = progress_bar(dump.size_bytes());
    let statistics: Vec<_> = dump
        .entries()
        .par_iter()
        .map(|entry| {
            if let Some(sketch) = dump.sketch(&entry.name) {
                return Ok(metric::Statistics::from(sketch));
            }
            let tensor = dump.tensor(entry)?;
            let statistics = metric::statistics(&tensor);
            bar.inc(tensor.data().len() as u64);
            Ok(statistics)
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    print(&report::show(&dump, &statistics))?;
    Ok(true)
}

/// A progress bar on stderr, hidden where that is no terminal.
fn progress_bar(bytes: u64) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A reader that has seen enough, such as `head`, does not change the verdict.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Stdout),
    }
}

/// Writes a file under a temporary name first, so that a partial one never has the final name.
fn write_file(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let error = |source| Error::WriteReport { path: path.clone(), source };
    std::fs::create_dir_all(folder).map_err(error)?;
    let mut builder = tempfile::Builder::new();
    // As readable as any new file, unlike a temporary one.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(error)?;
    file.write_all(text.as_bytes()).map_err(error)?;
    file.persist(&path).map_err(|persist| error(persist.error))?;
    Ok(())
}
