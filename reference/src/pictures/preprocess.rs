//! Files to `pixel_values`.

use std::path::{Path, PathBuf};

use converter::normalized::ImageProcessorConfig;
use tch::Tensor;

use super::decode::{MAX_FILE_BYTES, decode_if};
use super::grid::{self, Grid};
use super::upscale::upscale_to_rgb;
use super::video::{FRAME_CANDIDATES, Frames};
use super::{PictureError, Warning, room, tiles};
use crate::memory;
use crate::prompt::Medium;

/// The pictures of one request.
#[derive(Debug)]
pub struct Preprocessed {
    /// All tiles of all pictures, in order; `None` without pictures.
    ///
    /// # Shapes
    /// `[tiles, 3, image_size, image_size]`
    ///
    /// # Dtype
    /// float32
    pub pixel_values: Option<Tensor>,
    /// One for each file, in order.
    pub pictures: Vec<Picture>,
}

impl Preprocessed {
    /// Tiles of each picture, its thumbnail included.
    pub fn tiles_per_picture(&self) -> Vec<usize> {
        self.pictures.iter().map(|picture| picture.num_tiles).collect()
    }
}

/// What is known of one picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The file's name, without its folder.
    pub file: String,
    /// Pixels in a row, as stored in the file.
    pub width: usize,
    /// Rows, as stored in the file.
    pub height: usize,
    /// SHA-256 of the file, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Tiles, the thumbnail included.
    pub num_tiles: usize,
    /// Columns and rows of tiles.
    pub grid: Grid,
    /// What a user may not expect, although the public code does the same.
    pub warnings: Vec<Warning>,
}

/// A file that the model is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaFile {
    /// A picture.
    Image(PathBuf),
    /// A video: a folder of pictures, or a file for ffmpeg.
    Video {
        /// Its path.
        path: PathBuf,
        /// The most frames that are taken of it.
        num_frames: usize,
    },
}

/// Reads pictures and cuts them into tiles.
///
/// # Errors
/// The configuration asks for something impossible, a file cannot be read, or is not a picture that decodes as in the
/// public code.
pub fn preprocess(
    paths: &[impl AsRef<Path>],
    config: &ImageProcessorConfig,
) -> Result<Preprocessed, PictureError> {
    check(config)?;
    let candidates = grid::candidates(config.max_num_tiles)?;
    let mut tiler = Tiler::new(config);
    for path in paths {
        tiler.add(path.as_ref(), &candidates)?;
    }
    tiler.finish()
}

/// Reads pictures and videos, and cuts them into tiles: a frame of a video is a picture of one tile.
///
/// Returns beside the tiles what each file is, for [`place_videos`](crate::prompt::place_videos).
///
/// # Errors
/// As [`preprocess`]; or a video gives no frames.
pub fn preprocess_media(
    files: &[MediaFile],
    config: &ImageProcessorConfig,
) -> Result<(Preprocessed, Vec<Medium>), PictureError> {
    check(config)?;
    let candidates = grid::candidates(config.max_num_tiles)?;
    let media = files.iter().map(OpenMedium::open).collect::<Result<Vec<_>, _>>()?;
    check_tiles(media.iter().map(OpenMedium::tiles_at_least).sum(), config)?;
    let mut tiler = Tiler::new(config);
    for medium in &media {
        match medium {
            OpenMedium::Image(path) => tiler.add(path, &candidates)?,
            OpenMedium::Video(frames) => {
                for frame in &frames.paths {
                    tiler.add(frame, &FRAME_CANDIDATES)?;
                }
            }
        }
    }
    let preprocessed = tiler.finish()?;
    Ok((preprocessed, media.iter().map(OpenMedium::medium).collect()))
}

/// A file whose frames are counted, if it is a video.
enum OpenMedium<'a> {
    Image(&'a Path),
    Video(Frames),
}

impl<'a> OpenMedium<'a> {
    fn open(file: &'a MediaFile) -> Result<Self, PictureError> {
        Ok(match file {
            MediaFile::Image(path) => Self::Image(path),
            MediaFile::Video { path, num_frames } => Self::Video(Frames::open(path, *num_frames)?),
        })
    }

    fn tiles_at_least(&self) -> usize {
        match self {
            Self::Image(_) => 1,
            Self::Video(frames) => frames.paths.len(),
        }
    }

    fn medium(&self) -> Medium {
        match self {
            Self::Image(_) => Medium::Image,
            Self::Video(frames) => Medium::Video { frames: frames.paths.len() },
        }
    }
}

/// Refuses so many tiles that there is no memory for them: as they are cut, put together, and in float32.
fn check_tiles(tiles: usize, config: &ImageProcessorConfig) -> Result<(), PictureError> {
    let needed = tiles as u64 * 3 * (config.image_size as u64).pow(2) * (1 + 1 + size_of::<f32>() as u64);
    match memory::too_few_bytes(needed) {
        Some(available) => Err(PictureError::NoMemory { tiles, needed, available }),
        None => Ok(()),
    }
}

/// Collects the tiles of pictures.
struct Tiler<'a> {
    config: &'a ImageProcessorConfig,
    pictures: Vec<Picture>,
    tiles: Vec<Tensor>,
}

impl<'a> Tiler<'a> {
    fn new(config: &'a ImageProcessorConfig) -> Self {
        Self { config, pictures: Vec::new(), tiles: Vec::new() }
    }

    fn add(&mut self, path: &Path, candidates: &[Grid]) -> Result<(), PictureError> {
        let (picture, tiles) = preprocess_one(path, candidates, self.config)?;
        self.pictures.push(picture);
        self.tiles.push(tiles);
        Ok(())
    }

    fn finish(self) -> Result<Preprocessed, PictureError> {
        let tiles = match self.tiles.as_slice() {
            [] => None,
            [only] => Some(only.shallow_clone()),
            several => Some(Tensor::f_cat(several, 0)?),
        };
        let pixel_values = tiles.map(|tiles| tiles::to_pixel_values(&tiles, self.config)).transpose()?;
        Ok(Preprocessed { pixel_values, pictures: self.pictures })
    }
}

fn preprocess_one(
    path: &Path,
    candidates: &[Grid],
    config: &ImageProcessorConfig,
) -> Result<(Picture, Tensor), PictureError> {
    let bytes = read(path)?;
    let sha256 = golden::sha256_hex(&bytes);
    let admit = |width, height| room::check(width, height, candidates, config);
    let decoded =
        decode_if(&bytes, &admit).map_err(|source| PictureError::Decode { path: path.to_owned(), source })?;
    drop(bytes);
    let (width, height) = (decoded.raster.width, decoded.raster.height);
    let image = upscale_to_rgb(&decoded.raster, config.upscale_factor);
    drop(decoded.raster);
    let grid = grid::choose(candidates, image.width, image.height, config.image_size);
    let tiles = tiles::cut(&image, grid, config)?;
    let picture = Picture {
        file: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        width,
        height,
        sha256,
        num_tiles: tiles.size()[0] as usize,
        grid,
        warnings: decoded.warnings,
    };
    Ok((picture, tiles))
}

/// The whole file, where it is one and not larger than any picture within the limits.
fn read(path: &Path) -> Result<Vec<u8>, PictureError> {
    let path_buf = || path.to_owned();
    store::read(path, MAX_FILE_BYTES).map_err(|source| match source.kind() {
        std::io::ErrorKind::FileTooLarge => {
            PictureError::FileTooLarge { path: path_buf(), limit_bytes: MAX_FILE_BYTES }
        }
        _ => PictureError::Read { path: path_buf(), source },
    })
}

fn check(config: &ImageProcessorConfig) -> Result<(), PictureError> {
    let refuse = |field, expected, found: &dyn std::fmt::Debug| {
        Err(PictureError::Config { field, expected, found: format!("{found:?}") })
    };
    // libtorch's kernel fails on a result of one pixel.
    if !(2..=4096).contains(&config.image_size) {
        return refuse("image_size", "2 to 4096", &config.image_size);
    }
    if !(1..=16).contains(&config.upscale_factor) {
        return refuse("upscale_factor", "1 to 16", &config.upscale_factor);
    }
    if config.do_rescale && !(config.rescale_factor.is_finite() && config.rescale_factor > 0.0) {
        return refuse("rescale_factor", "a positive number", &config.rescale_factor);
    }
    if config.do_normalize {
        for (field, values) in [("image_mean", &config.image_mean), ("image_std", &config.image_std)] {
            if values.len() != 3 || values.iter().any(|value| !value.is_finite()) {
                return refuse(field, "three finite numbers", values);
            }
        }
        if config.image_std.contains(&0.0) {
            return refuse("image_std", "three numbers other than zero", &config.image_std);
        }
    }
    Ok(())
}
