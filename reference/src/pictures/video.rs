//! A video as pictures: the public `chat` has no path for videos, and is given their frames as pictures.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::PictureError;
use super::grid::Grid;

/// The frames of a video that the model sees: files, in order.
#[derive(Debug)]
pub struct Frames {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// Where ffmpeg put them; removed with this value.
    extracted: Option<TempDir>,
}

impl Frames {
    /// At most `num_frames` frames of a video, evenly spaced. A folder is a video whose frames are its files, in the
    /// order of their names; of a file, the frames are read by `ffmpeg`, where it is installed.
    ///
    /// # Errors
    /// There are no frames, or `ffmpeg` is missing or fails.
    pub fn open(video: &Path, num_frames: usize) -> Result<Self, PictureError> {
        let metadata = std::fs::metadata(video).map_err(|source| read_error(video, source))?;
        if metadata.is_dir() {
            return Self { paths: frames_of_folder(video, num_frames)?, extracted: None }.checked(video);
        }
        // ffmpeg would wait for a pipe.
        store::open(video).map_err(|source| read_error(video, source))?;
        let count = count_frames(video)?;
        let indices = frame_indices(count, num_frames);
        let dir = tempfile::tempdir().map_err(|source| read_error(video, source))?;
        extract_frames(video, &indices, dir.path())?;
        let paths = files_in_order(dir.path())?;
        if paths.len() != indices.len() {
            let reason = format!("expected {} frames, found {}", indices.len(), paths.len());
            return Err(PictureError::Video { path: video.to_owned(), reason });
        }
        Self { paths, extracted: Some(dir) }.checked(video)
    }

    /// Whether the files are temporary ones, which `ffmpeg` made.
    pub fn are_extracted(&self) -> bool {
        self.extracted.is_some()
    }

    fn checked(self, video: &Path) -> Result<Self, PictureError> {
        if self.paths.is_empty() {
            return Err(PictureError::Video {
                path: video.to_owned(),
                reason: "it has no frames".to_owned(),
            });
        }
        Ok(self)
    }
}

/// The grids of a frame: one tile.
///
/// # Source
/// InternVL's recipe for videos (`load_video`, `max_num=1`)
pub const FRAME_CANDIDATES: [Grid; 1] = [Grid { columns: 1, rows: 1 }];

/// The frames that are taken of `count`: all where they are few, else the middles of `num_frames` equal parts.
///
/// # Source
/// InternVL's recipe for videos (`get_index`): the distance of the first and last frame is divided; the start of each
/// part is rounded, half to even, and half a part added
pub fn frame_indices(count: usize, num_frames: usize) -> Vec<usize> {
    if count <= num_frames {
        return (0..count).collect();
    }
    let part = (count - 1) as f64 / num_frames as f64;
    (0..num_frames).map(|frame| (part / 2.0 + (part * frame as f64).round_ties_even()) as usize).collect()
}

/// The frames that are taken of a folder.
pub(crate) fn frames_of_folder(dir: &Path, num_frames: usize) -> Result<Vec<PathBuf>, PictureError> {
    let files = files_in_order(dir)?;
    Ok(frame_indices(files.len(), num_frames).into_iter().map(|index| files[index].clone()).collect())
}

/// The files of a folder in the order of their names; hidden ones are none of the video's.
fn files_in_order(dir: &Path) -> Result<Vec<PathBuf>, PictureError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|source| read_error(dir, source))? {
        let path = entry.map_err(|source| read_error(dir, source))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn count_frames(video: &Path) -> Result<usize, PictureError> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-select_streams", "v:0", "-count_frames"]);
    command.args(["-show_entries", "stream=nb_read_frames", "-of", "default=nokey=1:noprint_wrappers=1"]);
    command.arg(input(video));
    let output = run(command, video)?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .next()
        .and_then(|line| line.trim().parse().ok())
        .ok_or_else(|| PictureError::Video { path: video.to_owned(), reason: "it has no frames".to_owned() })
}

fn extract_frames(video: &Path, indices: &[usize], dir: &Path) -> Result<(), PictureError> {
    let chosen: Vec<String> = indices.iter().map(|index| format!("eq(n\\,{index})")).collect();
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(input(video));
    command.args([
        "-map",
        "0:v:0",
        "-vf",
        &format!("select='{}'", chosen.join("+")),
        "-vsync",
        "passthrough",
    ]);
    command.args(["-pix_fmt", "rgb24"]).arg(dir.join("frame-%06d.png"));
    run(command, video).map(|_| ())
}

/// The video as an argument that cannot be taken for an option or for an address on a network.
fn input(video: &Path) -> std::ffi::OsString {
    let mut input = std::ffi::OsString::from("file:");
    input.push(video);
    input
}

fn run(mut command: Command, video: &Path) -> Result<Output, PictureError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let refuse = |reason| PictureError::Video { path: video.to_owned(), reason };
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            refuse(format!("expected the program `{program}` to read it, found none"))
        }
        _ => refuse(format!("`{program}`: {error}")),
    })?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it failed");
    Err(refuse(format!("`{program}`: {}", last.trim())))
}

fn read_error(path: &Path, source: std::io::Error) -> PictureError {
    PictureError::Read { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_the_middles_of_equal_parts() {
        // numpy: [int(99 / 8 / 2 + numpy.round(99 / 8 * i)) for i in range(8)]
        assert_eq!(frame_indices(100, 8), [6, 18, 31, 43, 56, 68, 80, 93]);
        assert_eq!(frame_indices(1000, 1), [499]);
        // Halves go to the even neighbour: 0, 2.5, 5, 7.5.
        assert_eq!(frame_indices(11, 4), [1, 3, 6, 9]);
    }

    #[test]
    fn of_a_short_video_all_frames_are_taken_once() {
        assert_eq!(frame_indices(3, 8), [0, 1, 2]);
        assert_eq!(frame_indices(8, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(frame_indices(0, 8), [0; 0]);
        assert_eq!(frame_indices(5, 0), [0; 0]);
    }
}
