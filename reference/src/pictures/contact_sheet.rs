//! The tiles as one picture, for a person to look at.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use converter::normalized::ImageProcessorConfig;
use tch::{Kind, Tensor};

use super::{Picture, PictureError};
use crate::scalar::ScalarOps as _;

/// The tiles of `pictures` as one image: a row of tiles for each picture, from left to right, filled up with black.
///
/// # Shapes
/// [rows · side, columns · side, 3] uint8
///
/// # Errors
/// Where libtorch refuses.
pub fn contact_sheet(
    pixel_values: &Tensor,
    pictures: &[Picture],
    config: &ImageProcessorConfig,
) -> Result<Tensor, PictureError> {
    let pixels = to_bytes(pixel_values, config)?; // [t, 3, side, side]
    let side = config.image_size as i64;
    let counts = || pictures.iter().map(|picture| picture.num_tiles);
    let columns = counts().max().unwrap_or(0) as i64;
    let mut rows = Vec::new();
    let mut first = 0;
    for count in counts() {
        let count = count as i64;
        let tiles = pixels.f_narrow(0, first, count)?;
        let black = Tensor::f_zeros([columns - count, 3, side, side], (Kind::Uint8, pixels.device()))?;
        let row = Tensor::f_cat(&[tiles, black], 0)?; // [columns, 3, side, side]
        rows.push(row.f_permute([2, 0, 3, 1])?.f_reshape([side, columns * side, 3])?);
        first += count;
    }
    Ok(Tensor::f_cat(&rows, 0)?)
}

/// Writes [`contact_sheet`] as a PNG file.
///
/// # Errors
/// [`PictureError::Write`] where the file cannot be written.
pub fn write_contact_sheet(
    path: &Path,
    pixel_values: &Tensor,
    pictures: &[Picture],
    config: &ImageProcessorConfig,
) -> Result<(), PictureError> {
    let sheet = contact_sheet(pixel_values, pictures, config)?;
    let size = sheet.size();
    let mut bytes = vec![0; sheet.numel()];
    sheet.f_contiguous()?.f_copy_data_u8(&mut bytes, sheet.numel())?;
    let failed = |source: std::io::Error| PictureError::Write { path: path.to_owned(), source };
    let file = File::create(path).map_err(failed)?;
    let mut encoder = png::Encoder::new(BufWriter::new(file), size[1] as u32, size[0] as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let encoded = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&bytes)?;
        writer.finish()
    });
    encoded.map_err(|error| failed(error.into()))
}

/// Back to bytes, from what rescaling and normalisation made of them.
fn to_bytes(pixel_values: &Tensor, config: &ImageProcessorConfig) -> Result<Tensor, PictureError> {
    let mut values = pixel_values.f_to_kind(Kind::Double)?;
    if config.do_normalize {
        let channels = |values: &[f64]| Tensor::f_from_slice(values)?.f_view([-1, 1, 1]);
        values = values.f_mul(&channels(&config.image_std)?)?.f_add(&channels(&config.image_mean)?)?;
    }
    if config.do_rescale {
        values = values.try_div_scalar(config.rescale_factor)?;
    }
    Ok(values.f_round()?.try_clamp(0.0, 255.0)?.f_to_kind(Kind::Uint8)?)
}
