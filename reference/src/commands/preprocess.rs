//! `nvl-reference preprocess`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args as ClapArgs;
use converter::normalized::Checkpoint;
use golden::DumpWriter;
use reference::Error;
use reference::pictures::write_contact_sheet;
use reference::prompt::PromptBuilder;
use reference::settings::Settings;

use super::request::RequestArgs;
use super::{Outcome, spinner, warn};

/// Arguments of `preprocess`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Folder of a normalized checkpoint, made by `nvl-convert convert`
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    #[command(flatten)]
    request: RequestArgs,
    /// Folder to write an activation dump of pixels, grids and token ids to
    #[arg(long, value_name = "DUMP")]
    out: PathBuf,
    /// Replace DUMP where it exists
    #[arg(long)]
    force: bool,
    /// Also write the tiles as one picture, a row for each picture
    #[arg(long, value_name = "FILE")]
    tiles_png: Option<PathBuf>,
}

/// Runs the command; prints the prompt as it is tokenised.
pub fn run(args: Args) -> Result<Outcome> {
    Settings::default().apply();
    let request = args.request.request()?;
    let checkpoint = Checkpoint::open(&args.model).map_err(Error::from)?;
    let config = checkpoint.config();
    let prompts = PromptBuilder::load(&args.model, config).map_err(Error::from)?;
    let create = if args.force { DumpWriter::create_replacing } else { DumpWriter::create };
    let writer = create(&args.out)?;
    let progress = spinner("reading pictures".to_owned());
    let prepared = request.prepare(config, &prompts)?;
    progress.finish_and_clear();
    warn(&prepared);
    let name = args.model.file_name().map(|name| name.to_string_lossy().into_owned());
    prepared.record(name, writer)?;
    if let Some(file) = &args.tiles_png {
        write_contact_sheet(file, &prepared.preprocessed, &config.image_processor).map_err(Error::from)?;
    }
    println!("{}", prepared.prompt);
    Ok(Outcome::Yes)
}
