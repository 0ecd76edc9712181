//! `preprocessor_config.json` to `image_processor`.

use super::code::{Code, Defaults, IMAGE_PROCESSING_FILE};
use super::fields::Fields;
use super::findings::Findings;
use super::tower::{CLIP_MEAN, CLIP_STD};
use crate::Error;
use crate::nemotron_vl::{ImageProcessorConfig, positive};
use crate::source::{CONFIG_FILE, PREPROCESSOR_FILE};

/// The class whose defaults hold for absent fields.
const CLASS: &str = "LlamaNemotronNanoVLImageProcessor";

/// Resolves the image processor; `image_size` is `force_image_size`.
pub(super) fn image_processor(
    fields: &Fields<'_>,
    code: &Code<'_>,
    image_size: usize,
    upscale_factor: usize,
    findings: &mut Findings,
) -> Result<ImageProcessorConfig, Error> {
    let defaults = code.defaults(fields, IMAGE_PROCESSING_FILE, CLASS, findings);
    if fields.text("image_processor_type")?.is_some_and(|class| class != CLASS) {
        let reason = "only this image processor is supported";
        return Err(fields.unsupported("image_processor_type", &format!("`{CLASS}`"), reason));
    }
    for (name, expected) in [("image_size", "a size in pixels"), ("max_num_tiles", "a whole number")] {
        fields.refuse_null(name, expected)?;
    }
    refuse_other_tiles(fields, &defaults, image_size, findings)?;
    let max_num_tiles = match fields.size("max_num_tiles")? {
        Some(tiles) => tiles,
        None => defaults.take("image_processor.max_num_tiles", fields, "max_num_tiles", 12, findings),
    };
    let mut truth = |name: &str, assumed: bool| match fields.truth(name)? {
        Some(truth) => Ok::<_, Error>(truth),
        None => Ok(defaults.take(&format!("image_processor.{name}"), fields, name, assumed, findings)),
    };
    let use_thumbnail = truth("use_thumbnail", true)?;
    let do_rescale = truth("do_rescale", false)?;
    let do_normalize = truth("do_normalize", false)?;
    let rescale_factor = rescale_factor(fields, &defaults, do_rescale, findings)?;
    let reason = "pictures with their channels elsewhere are not supported";
    fields.refuse("input_data_format", &["channels_first".into()], reason)?;
    convert_rgb(fields, findings)?;
    let config = ImageProcessorConfig {
        image_size,
        max_num_tiles,
        use_thumbnail,
        upscale_factor,
        do_rescale,
        rescale_factor,
        do_normalize,
        image_mean: channels(fields, "image_mean", do_normalize, CLIP_MEAN)?,
        image_std: channels(fields, "image_std", do_normalize, CLIP_STD)?,
    };
    findings.ignore_rest(PREPROCESSOR_FILE, fields, KNOWN);
    Ok(config)
}

/// Refuses tiles of another side than the tower was given, be it written or the default of the class.
fn refuse_other_tiles(
    fields: &Fields<'_>,
    defaults: &Defaults,
    image_size: usize,
    findings: &mut Findings,
) -> Result<(), Error> {
    let (size, found) = match fields.size("image_size")? {
        Some(declared) => (declared, format!("`{declared}`")),
        None => {
            let default = defaults.take("image_processor.image_size", fields, "image_size", 512, findings);
            (default, format!("none, which `{CLASS}` takes for {default}"))
        }
    };
    if size != image_size {
        let expected = format!("`{image_size}`, as `force_image_size` in `{CONFIG_FILE}`");
        return Err(fields.wrong("image_size", expected, found));
    }
    Ok(())
}

/// What pixels are multiplied by; where they are not rescaled, a factor that nothing could use is only listed.
fn rescale_factor(
    fields: &Fields<'_>,
    defaults: &Defaults,
    do_rescale: bool,
    findings: &mut Findings,
) -> Result<f64, Error> {
    const NAME: &str = "rescale_factor";
    const ASSUMED: f64 = 1.0 / 255.0;
    match (fields.number(NAME), do_rescale) {
        (found, true) => Ok(match found? {
            Some(factor) => factor,
            None => defaults.take("image_processor.rescale_factor", fields, NAME, ASSUMED, findings),
        }),
        (Ok(Some(factor)), false) if positive(factor).is_ok() => Ok(factor),
        _ => {
            fields.unused(NAME);
            Ok(ASSUMED)
        }
    }
}

/// A number for each channel; where pixels are not normalized, numbers that nothing could use are only listed, and `unused`
/// stands in their place.
fn channels(
    fields: &Fields<'_>,
    name: &str,
    do_normalize: bool,
    unused: [f64; 3],
) -> Result<Vec<f64>, Error> {
    match (fields.numbers(name), do_normalize) {
        (Ok(Some(values)), true) if values.len() == 3 => Ok(values),
        (found, true) => {
            let found = found?.map_or("none".into(), |values| format!("{} numbers", values.len()));
            Err(fields.wrong(name, "3 numbers", found))
        }
        (Ok(Some(values)), false)
            if values.len() == 3 && values.iter().all(|&value| positive(value).is_ok()) =>
        {
            Ok(values)
        }
        _ => {
            fields.unused(name);
            Ok(unused.to_vec())
        }
    }
}

/// Pictures are converted to RGB, whatever the file says: without that the public code gives the tower other channels.
fn convert_rgb(fields: &Fields<'_>, findings: &mut Findings) -> Result<(), Error> {
    const NAME: &str = "do_convert_rgb";
    if fields.truth(NAME)?.unwrap_or(true) {
        fields.unused(NAME);
    } else {
        findings.ignore(PREPROCESSOR_FILE, fields.name(NAME), false);
        findings.warnings.push(format!(
            "`{PREPROCESSOR_FILE}`: `{NAME}` was ignored: pictures are always converted to RGB"
        ));
    }
    Ok(())
}

/// Fields that the class does not act on: its own steps cut tiles and resize bilinearly, whatever its base class is told.
const KNOWN: &[&str] = &[
    "auto_map",
    "crop_size",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_center_crop",
    "do_pad",
    "do_resize",
    "image_processor_type",
    "pad_size",
    "processor_class",
    "resample",
    "return_tensors",
    "size",
];
