//! `nvl-reference preprocess`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::Result;
use converter::normalized::Checkpoint;
use golden::DumpWriter;
use reference::Error;
use reference::arguments::PreprocessArguments;
use reference::pictures::{PictureError, write_contact_sheet};
use reference::prompt::PromptBuilder;
use reference::request::ChatRequest;
use reference::settings::Settings;

use super::{Verdict, print, spinner, warn, warn_of_added};

/// Runs the command; prints the prompt as it is tokenised.
pub fn run(args: PreprocessArguments) -> Result<Verdict> {
    Settings::default().apply();
    let request = args.request.request()?;
    if let Some(file) = &args.tiles_png {
        check_place(file, &request, args.force).map_err(Error::from)?;
    }
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
    if let (Some(file), Some(pixel_values)) = (&args.tiles_png, &prepared.inputs.pixel_values) {
        write_contact_sheet(file, pixel_values, &prepared.pictures, &config.image_processor)
            .map_err(Error::from)?;
    }
    print(&format!("{}\n", prepared.prompt))?;
    Ok(Verdict::Yes)
}

/// Refuses to write the tiles over a picture or video that they are made of, and without `force` over anything.
fn check_place(file: &Path, request: &ChatRequest, force: bool) -> std::result::Result<(), PictureError> {
    let Ok(there) = fs::metadata(file) else { return Ok(()) };
    let is_there =
        |input: &PathBuf| fs::metadata(input).is_ok_and(|input| store::is_same_file(&input, &there));
    let found = if request.images.iter().chain(&request.videos).any(is_there) {
        "what they are made of"
    } else if force {
        return Ok(());
    } else {
        "something that `--force` replaces"
    };
    let message = format!("expected nothing in the place of the tiles, found {found}");
    let source = io::Error::new(io::ErrorKind::AlreadyExists, message);
    Err(PictureError::Write { path: file.to_owned(), source })
}
