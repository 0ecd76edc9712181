//! `nvl-reference preprocess`.

use anyhow::Result;
use converter::normalized::Checkpoint;
use golden::DumpWriter;
use reference::Error;
use reference::arguments::PreprocessArguments;
use reference::pictures::write_contact_sheet;
use reference::prompt::PromptBuilder;
use reference::settings::Settings;

use super::{Outcome, print, spinner, warn, warn_of_added};

/// Runs the command; prints the prompt as it is tokenised.
pub fn run(args: PreprocessArguments) -> Result<Outcome> {
    Settings::default().apply();
    let request = args.request.request()?;
    warn_of_added(&args.model);
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
    print(&format!("{}\n", prepared.prompt))?;
    Ok(Outcome::Yes)
}
