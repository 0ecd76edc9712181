//! What is asked, on the command line.

use std::path::PathBuf;

use clap::Args;

use crate::Result;
use crate::request::{ChatRequest, DEFAULT_NUM_FRAMES, read_history};

/// What is asked.
#[derive(Debug, Args)]
pub struct RequestArguments {
    /// A picture; repeat it for several, in the order of their `<image>` in the prompt
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// A video, for a `<video>` in the prompt: a folder of pictures, or a file if ffmpeg is installed
    #[arg(long = "video", value_name = "FILE")]
    videos: Vec<PathBuf>,
    /// The most frames to take from a video, evenly spaced; each is one tile
    #[arg(long, value_name = "N", default_value_t = DEFAULT_NUM_FRAMES, requires = "videos")]
    num_frames: usize,
    /// The question; without a history and without placeholders, one for each picture and video is put before it
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// System prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Earlier turns, as JSON: [{"user": "…", "assistant": "…"}, …]
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

impl RequestArguments {
    /// The request.
    pub fn request(&self) -> Result<ChatRequest> {
        Ok(ChatRequest {
            system: self.system.clone(),
            history: self.history.as_deref().map(read_history).transpose()?,
            question: self.prompt.clone(),
            images: self.images.clone(),
            videos: self.videos.clone(),
            num_frames: self.num_frames,
        })
    }
}
