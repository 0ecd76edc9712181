//! `preprocessor_config.json` to `image_processor`.

use super::code::Defaults;
use super::fields::Fields;
use super::findings::Findings;
use super::tower::{CLIP_MEAN, CLIP_STD};
use crate::Error;
use crate::normalized::ImageProcessorConfig;
use crate::source::{CONFIG_FILE, PREPROCESSOR_FILE};

/// The class whose defaults hold for absent fields.
pub(super) const CLASS: &str = "LlamaNemotronNanoVLImageProcessor";

/// Resolves the image processor; `image_size` is `force_image_size`.
pub(super) fn image_processor(
    fields: &Fields<'_>,
    defaults: &Defaults,
    image_size: usize,
    upscale_factor: usize,
    findings: &mut Findings,
) -> Result<ImageProcessorConfig, Error> {
    if fields.text("image_processor_type")?.is_some_and(|class| class != CLASS) {
        let reason = "only this image processor is supported";
        return Err(fields.unsupported("image_processor_type", &format!("`{CLASS}`"), reason));
    }
    let declared = fields.size("image_size")?;
    if let Some(declared) = declared
        && declared != image_size
    {
        let expected = format!("`{image_size}`, as `force_image_size` in `{CONFIG_FILE}`");
        return Err(fields.wrong("image_size", expected, format!("`{declared}`")));
    }
    if declared.is_none()
        && let default = defaults.take("image_processor.image_size", fields, "image_size", 512, findings)
        && image_size != default
    {
        let expected = format!("`{image_size}`, as `force_image_size` in `{CONFIG_FILE}`");
        return Err(fields.wrong(
            "image_size",
            expected,
            format!("none, which `{CLASS}` takes for {default}"),
        ));
    }
    let max_num_tiles = match fields.size("max_num_tiles")? {
        Some(tiles) => tiles,
        None => defaults.take("image_processor.max_num_tiles", fields, "max_num_tiles", 12, findings),
    };
    let mut truth = |name: &str, assumed: bool| match fields.truth(name)? {
        Some(truth) => Ok(truth),
        None => Ok(defaults.take(&format!("image_processor.{name}"), fields, name, assumed, findings)),
    };
    let use_thumbnail = truth("use_thumbnail", true)?;
    let do_rescale = truth("do_rescale", false)?;
    let do_normalize = truth("do_normalize", false)?;
    let rescale_factor = match fields.number("rescale_factor")? {
        Some(factor) => factor,
        None if do_rescale => {
            defaults.take("image_processor.rescale_factor", fields, "rescale_factor", 1.0 / 255.0, findings)
        }
        None => 1.0 / 255.0,
    };
    let channels = |name: &str, unused: [f64; 3]| match fields.numbers(name)? {
        Some(values) if values.len() == 3 => Ok(values),
        None if !do_normalize => Ok(unused.to_vec()),
        found => {
            let found = found.map_or("none".into(), |values| format!("{} numbers", values.len()));
            Err(fields.wrong(name, "3 numbers", found))
        }
    };
    let config = ImageProcessorConfig {
        image_size,
        max_num_tiles,
        use_thumbnail,
        upscale_factor,
        do_rescale,
        rescale_factor,
        do_normalize,
        image_mean: channels("image_mean", CLIP_MEAN)?,
        image_std: channels("image_std", CLIP_STD)?,
    };
    findings.ignore_rest(PREPROCESSOR_FILE, fields, KNOWN);
    Ok(config)
}

/// Fields that the class does not act on: it always converts to RGB and resizes bilinearly.
const KNOWN: &[&str] = &[
    "auto_map",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "image_processor_type",
    "input_data_format",
    "processor_class",
    "resample",
    "return_tensors",
];
