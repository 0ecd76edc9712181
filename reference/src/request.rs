//! From what a user asks to what the model is given.

use std::path::{Path, PathBuf};

use golden::manifest;
use tch::Tensor;

use crate::error::Result;
use crate::generate::{ModelInputs, Sampling};
use crate::model::observer::Observer as _;
use crate::pictures::{MediaFile, Picture, Preprocessed, Warning, preprocess_media};
use crate::prompt::{AnsweredTurn, Conversation, PromptBuilder, place_videos, placeholder_for};
use crate::record::Recorder;
use crate::settings::TORCH_VERSION;
use converter::normalized::Config;

/// Frames taken of a video where nothing else is said.
pub const DEFAULT_NUM_FRAMES: usize = 8;

/// A question, about pictures and videos or without any.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatRequest {
    /// System prompt.
    pub system: Option<String>,
    /// Earlier turns; with a history the caller places each `<image>` and `<video>`.
    pub history: Option<Vec<AnsweredTurn>>,
    /// The question.
    pub question: String,
    /// Files of the pictures, in the order of their placeholders.
    pub images: Vec<PathBuf>,
    /// Videos, in the order of theirs: folders of pictures, or files for ffmpeg.
    pub videos: Vec<PathBuf>,
    /// The most frames to take of a video.
    pub num_frames: usize,
}

/// A request made ready for the model.
#[derive(Debug)]
pub struct PreparedRequest {
    /// What the model is given.
    pub inputs: ModelInputs,
    /// The text that was tokenised.
    pub prompt: String,
    /// The pictures as they were read, frames of videos among them.
    pub pictures: Vec<Picture>,
    turns: Vec<manifest::Turn>,
    system: Option<String>,
}

impl ChatRequest {
    /// Reads the pictures, cuts them into tiles, builds the prompt and tokenises it.
    ///
    /// # Errors
    /// Where a picture cannot be read, or prompt and pictures do not fit each other.
    pub fn prepare(&self, config: &Config, prompts: &PromptBuilder) -> Result<PreparedRequest> {
        let (preprocessed, media) = preprocess_media(&self.media()?, &config.image_processor)?;
        let (history, question) = place_videos(self.history.as_deref(), &self.question, &media)?;
        let conversation =
            Conversation { system: self.system.as_deref(), history: history.as_deref(), question: &question };
        let prompt = prompts.build(conversation, &preprocessed.tiles_per_picture())?;
        let earlier = self
            .history
            .iter()
            .flatten()
            .map(|turn| manifest::Turn { user: turn.user.clone(), assistant: Some(turn.assistant.clone()) });
        // As it was asked: the placeholders that `chat` puts in front are part of the prompt, not of the request.
        let last = manifest::Turn { user: self.question.clone(), assistant: None };
        let Preprocessed { pixel_values, pictures } = preprocessed;
        let input_ids = Tensor::f_from_slice(&prompt.input_ids)?.f_view([1, -1])?;
        Ok(PreparedRequest {
            inputs: ModelInputs { input_ids, pixel_values },
            prompt: prompt.text,
            pictures,
            turns: earlier.chain([last]).collect(),
            system: self.system.clone(),
        })
    }

    /// Pictures and videos in the order of their placeholders; those that have none come last, pictures before videos.
    fn media(&self) -> Result<Vec<MediaFile>> {
        let (image, video) = (placeholder_for("image")?, placeholder_for("video")?);
        let mut images = self.images.iter().cloned().map(MediaFile::Image);
        let mut videos = self
            .videos
            .iter()
            .map(|path| MediaFile::Video { path: path.clone(), num_frames: self.num_frames });
        let mut media = Vec::new();
        let users =
            self.history.iter().flatten().map(|turn| turn.user.as_str()).chain([self.question.as_str()]);
        for text in users {
            let mut places: Vec<_> = text.match_indices(image).chain(text.match_indices(video)).collect();
            places.sort_unstable();
            media.extend(
                places
                    .into_iter()
                    .filter_map(|(_, found)| if found == image { images.next() } else { videos.next() }),
            );
        }
        media.extend(images.chain(videos));
        Ok(media)
    }
}

impl PreparedRequest {
    /// What a user may not expect of the pictures, with the name of each file.
    pub fn warnings(&self) -> impl Iterator<Item = (&str, &Warning)> {
        self.pictures
            .iter()
            .flat_map(|picture| picture.warnings.iter().map(|warning| (picture.file.as_str(), warning)))
    }

    /// Writes what the model would be given as a dump: `pixel_values`, `input_ids`, and for each picture `image_grids` (columns
    /// and rows of tiles) and `num_tiles` (its thumbnail included).
    ///
    /// # Errors
    /// Where the dump cannot be written.
    pub fn record(&self, checkpoint: Option<String>, writer: golden::DumpWriter) -> Result<()> {
        let mut recorder = Recorder::new(writer, &[])?;
        if let Some(pixel_values) = &self.inputs.pixel_values {
            recorder.input("pixel_values", pixel_values)?;
            let pictures = &self.pictures;
            let grids: Vec<i64> = pictures
                .iter()
                .flat_map(|picture| [picture.grid.columns as i64, picture.grid.rows as i64])
                .collect();
            recorder.input("image_grids", &Tensor::f_from_slice(&grids)?.f_view([-1, 2])?)?;
            let tiles: Vec<i64> = pictures.iter().map(|picture| picture.num_tiles as i64).collect();
            recorder.input("num_tiles", &Tensor::f_from_slice(&tiles)?)?;
        }
        recorder.input("input_ids", &self.inputs.input_ids)?;
        let mut producer = manifest::Producer::new("nvl-reference preprocess", "float32");
        producer.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        producer.commit = cli::COMMIT.map(str::to_owned);
        producer.torch = Some(TORCH_VERSION.to_owned());
        let mut head = golden::ManifestHead::new(producer);
        head.checkpoint = checkpoint.map(manifest::Checkpoint::new);
        // Nothing is generated, and the manifest says so.
        head.request = Some(self.manifest(0, &Sampling::GREEDY));
        head.prompt = Some(self.prompt.clone());
        match recorder.into_writer() {
            Some(writer) => Ok(writer.finish(head)?),
            None => Ok(()),
        }
    }

    /// The request as a dump's manifest describes it.
    pub fn manifest(&self, max_new_tokens: usize, sampling: &Sampling) -> manifest::Request {
        let images = self.pictures.iter().map(|picture| manifest::Image {
            file: picture.file.clone(),
            width: picture.width as u32,
            height: picture.height as u32,
            sha256: picture.sha256.clone(),
            tiles: Some(picture.num_tiles as u32),
            extra: serde_json::Map::new(),
        });
        let mut extra = serde_json::Map::new();
        if sampling.repetition_penalty != 1.0 {
            extra.insert("repetition_penalty".to_owned(), sampling.repetition_penalty.into());
        }
        if !sampling.is_greedy() {
            extra.insert("temperature".to_owned(), sampling.temperature.into());
            extra.extend(sampling.top_k.map(|top_k| ("top_k".to_owned(), top_k.into())));
            extra.insert("top_p".to_owned(), sampling.top_p.into());
            extra.insert("seed".to_owned(), sampling.seed.into());
        }
        manifest::Request {
            system: self.system.clone(),
            turns: self.turns.clone(),
            images: images.collect(),
            max_new_tokens: Some(max_new_tokens as u64),
            do_sample: Some(!sampling.is_greedy()),
            extra,
        }
    }
}

/// The largest history that is read.
const MAX_HISTORY_BYTES: u64 = 1 << 28;

/// Reads a history: a JSON list of turns, each with `user` and `assistant`.
///
/// # Errors
/// Where the file cannot be read, or is not such a list.
pub fn read_history(path: &Path) -> Result<Vec<AnsweredTurn>> {
    let fail = |problem: String| crate::Error::History { path: path.to_owned(), problem };
    let text = store::read_to_string(path, MAX_HISTORY_BYTES).map_err(|error| fail(error.to_string()))?;
    let turns = store::json::Text::new(text.as_bytes()).and_then(|text| text.parse());
    turns.map_err(|fault| fail(fault.to_string()))
}
